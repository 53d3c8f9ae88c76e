"""Thousands of sessions that do nothing but hold a stream."""

import json
import subprocess
import urllib.request

from stage import SESSIONS, Stage, demand, eventually

IDLE_SECONDS = 45


def idle(stage: Stage) -> str:
    """5,000 sessions with open GET streams over two gateways; after they expire, no session is left at the server."""
    count = 200 if stage.smoke else 5_000
    stage.reconfigure([f"gateway:gateway.sessions.idle_seconds={IDLE_SECONDS}"])
    try:
        # Sessions of the drills before have an hour to live; a server that starts anew knows only those that come now.
        stage.restart_upstream()
        return expire(stage, count, hold(stage, count))
    finally:
        stage.reconfigure()


def hold(stage: Stage, count: int) -> dict:
    tokens = stage.work / "idle.tokens"
    tokens.write_text("\n".join([stage.token()] * count))
    command = [stage.tool("mcpload"), "--mode", "idle", "--url", stage.url, "-c", count, "-d", 5, "-w", 3, "--protocol", SESSIONS]
    command += ["--tokens", tokens, "--call-first", "--threads", 2]
    for gateway in stage.replicas("gateway"):
        command += ["--pid", stage.platform.process(gateway).pid]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    demand(done.returncode == 0, f"the load generator failed: {done.stderr[:500]}")
    result = json.loads(done.stdout)
    demand(result["errors"] == 0 and result["streams"] == count, f"{result['streams']} streams opened: {result['first_error']}")
    demand(result["streams_ended_early"] == 0, f"{result['streams_ended_early']} streams ended early")
    return result


def upstream_sessions(stage: Stage) -> dict:
    with urllib.request.urlopen(f"http://127.0.0.1:{stage.upstream_port}/sessions", timeout=10) as answer:
        return json.load(answer)


def expire(stage: Stage, count: int, result: dict) -> str:
    opened = upstream_sessions(stage)
    demand(opened["open"] >= count, f"{opened['open']} sessions at the server for {count} agents")
    # What the worker opened is closed as well, or was.
    took = eventually("every session at the server is closed", lambda: upstream_sessions(stage)["open"] == 0, IDLE_SECONDS + 120)
    return (f"{count} sessions with an open stream over 2 gateways: {result['kib_per_session_with_stream']:.1f} KiB RSS each "
            f"({result['kib_per_session']:.1f} KiB before the stream), {result['rss_before_kib'] / 1024:.0f} → "
            f"{result['rss_after_kib'] / 1024:.0f} MiB; all {opened['open']} closed at the server by DELETE {took:.0f} s after the agents left")
