"""SIGKILL of one replica under load."""

import time

from stage import Stage, demand, first_failures, median, milliseconds

CALLS_PER_SECOND = 300
BEFORE_KILL, AFTER_KILL = 2.0, 4.0
# The clocks of two processes are read.
CLOCK_TOLERANCE = 0.005
LEAST_P99_MS, MOST_P99_RATIO = 20, 3


def killed(stage: Stage, name: str) -> tuple[float, float]:
    """Kills a replica; answers when the signal was sent and when the last of it was gone, as seconds since 1970."""
    time.sleep(BEFORE_KILL)
    process = stage.platform.process(name)
    demand(process.pid is not None, f"{name} was gone before it was killed")
    sent = time.time()
    process.kill()
    demand(process.pid is None, f"{name} survived")
    return sent, time.time()


def gateway(stage: Stage) -> str:
    """Only calls in flight on it fail, no session is lost, and the others hardly notice."""
    rounds = 2 if stage.smoke else 5
    seconds = BEFORE_KILL + AFTER_KILL
    quiet = stage.load(rate=CALLS_PER_SECOND, seconds=seconds).unfailing()
    usual = milliseconds(quiet)
    worst, failed, slow_failed, calls = [], 0, 0, 0
    for number in range(rounds):
        name = stage.replicas("gateway")[number % 2]
        load = stage.load(rate=CALLS_PER_SECOND, seconds=seconds)
        # Calls that take half a second, so that some are under way on the gateway at the moment of its end.
        slow = stage.load(rate=40, seconds=seconds, sessions=40, tools="slow", slow_ms=500)
        end = killed(stage, name)
        stage.platform.start(name)
        result, slow_result = load.result(), slow.result()
        for outcome in (result, slow_result):
            check_in_flight(outcome, *end)
        for answered in (load, slow):
            answered.check_records()
        worst.append(milliseconds(result))
        failed, slow_failed, calls = failed + result["errors"], slow_failed + slow_result["errors"], calls + result["calls"]
        # About 20 of them are under way, half of them on each gateway.
        demand(slow_result["errors"] <= 20, f"{slow_result['errors']} slow calls failed, more than one gateway held")
    demand(slow_failed > 0, "no call was in flight: the drill shows nothing")
    p99, bound = median(worst), max(MOST_P99_RATIO * usual, LEAST_P99_MS)
    # A machine that runs other tests at the same time says nothing about latencies.
    demand(stage.smoke or p99 <= bound, f"p99 is {p99:.1f} ms (median of {rounds} kills), more than {bound:.1f} ms")
    return (f"{rounds} kills at {CALLS_PER_SECOND} calls/s: {failed} of {calls} calls and {slow_failed} calls of 500 ms were in flight "
            f"and failed, no other; no session lost; p99 {usual:.1f} ms → {p99:.1f} ms; every answered call recorded once")


def check_in_flight(result: dict, sent: float, gone: float):
    """Every failure was under way when the replica ended, and none is a lost session."""
    for failure in result["failures"]:
        demand("404" not in failure["error"], f"a session was lost: {failure['error']}")
        demand(
            failure["begin"] <= gone + CLOCK_TOLERANCE and failure["end"] >= sent - CLOCK_TOLERANCE,
            f"a call failed that began {failure['begin'] - gone:+.3f} s after the end: {failure['error']} ({first_failures(result)})",
        )


def unnoticed(stage: Stage, service: str) -> str:
    """A replica that no call passes through is killed and started again: no call fails."""
    rounds, took = (1 if stage.smoke else 3), []
    calls = 0
    for number in range(rounds):
        name = stage.replicas(service)[number % 2]
        load = stage.load(rate=CALLS_PER_SECOND, seconds=BEFORE_KILL + AFTER_KILL)
        killed(stage, name)
        # The other one does all the work meanwhile.
        if service != "worker":
            demand(stage.token() is not None, f"no token while {name} is dead")
        endpoint = stage.next_name()
        stage.platform.portico("server", "register", endpoint, "--url", f"http://127.0.0.1:{stage.upstream_port}/mcp")
        begin = time.monotonic()
        stage.await_routes(endpoint)
        took.append(time.monotonic() - begin)
        # Also what the dead one had to look after.
        stage.await_discovered(endpoint)
        stage.platform.start(name)
        stage.await_endpoint(endpoint)
        stage.platform.portico("server", "delete", endpoint)
        calls += load.unfailing()["calls"]
        load.check_records()
    return (f"{rounds} kills at {CALLS_PER_SECOND} calls/s: 0 of {calls} calls failed; a server registered meanwhile was routed by both "
            f"gateways after {median(took) * 1000:.0f} ms; every call recorded once")


def registry(stage: Stage) -> str:
    return unnoticed(stage, "registry")


def auth_server(stage: Stage) -> str:
    return unnoticed(stage, "auth-server")


def worker(stage: Stage) -> str:
    return unnoticed(stage, "worker")
