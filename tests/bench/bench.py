#!/usr/bin/env python3
"""Measures proxies in front of one upstream, in one run: nginx, a bare hyper proxy, and `portico dev` with the whole
pipeline on (a distinct ES256 token per session, authorization, rate limits, audit, metrics).

The proxy has one core, load generator and upstream share the other. Every answer is checked; a wrong one fails the run.
Prints a Markdown table. Build with bench.sh, which passes its arguments on to here.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).parent
PROXY_CORE, LOAD_CORE = "0", "1"
ERAS = ["2025-11-25", "2026-07-28"]
REPLIES = ["json", "sse"]
PAYLOADS = {"small": ["--tools", "echo"], "64 KiB": ["--tools", "payload", "--payload-kib", "64"]}
# Limits are evaluated for every call and reached by none.
UNREACHED = str(2**32 - 1)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(what, check, seconds=30):
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: nothing after {seconds} s")
        time.sleep(0.05)


def listening(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Process:
    """A child on one core, ended with the benchmark."""

    def __init__(self, stack, core, command, log, env=None):
        self.log = open(log, "w")
        self.child = subprocess.Popen(
            ["taskset", "-c", core, *map(str, command)], stdout=self.log, stderr=self.log, env=env
        )
        stack.callback(self.stop)

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Target:
    """What is measured: where it listens, which processes it is, and how a session is authorized."""

    def __init__(self, name, url, pid, tokens=None):
        self.name, self.url, self.pid, self.tokens = name, url, pid, tokens


def start_nginx(stack, work, upstream):
    port = free_port()
    config = (HERE / "nginx.conf").read_text()
    config = config.replace("RUN_DIR", str(work)).replace("8080", str(port)).replace("9001", str(upstream))
    (work / "nginx.conf").write_text(config)
    nginx = Process(stack, PROXY_CORE, ["nginx", "-c", work / "nginx.conf"], work / "nginx.log")
    wait_until("nginx", lambda: listening(port))
    return Target("nginx", f"http://127.0.0.1:{port}/mcp", nginx.child.pid)


def start_floor(stack, work, upstream, binaries):
    port = free_port()
    addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{upstream}"]
    floor = Process(stack, PROXY_CORE, [binaries / "floor-proxy", *addresses], work / "floor.log")
    wait_until("floor-proxy", lambda: listening(port))
    return Target("hyper proxy", f"http://127.0.0.1:{port}/mcp", floor.child.pid)


def start_portico(stack, work, upstream, binaries):
    port, admin, ready = free_port(), free_port(), work / "ready.json"
    env = dict(os.environ, PORTICO_ADMIN_LISTEN=f"127.0.0.1:{admin}")
    for limit in ["PRINCIPAL_PER_MINUTE", "PRINCIPAL_BURST", "GLOBAL_PER_MINUTE", "GLOBAL_BURST"]:
        env[f"PORTICO_GATEWAY__LIMITS__{limit}"] = UNREACHED
    dev = [binaries / "portico", "dev", "--listen", f"127.0.0.1:{port}", "--data-dir", work / "data", "--ready-file", ready]
    portico = Process(stack, PROXY_CORE, dev, work / "portico.log", env)
    wait_until("portico dev", lambda: ready.exists() and ready.stat().st_size > 0)
    register = [binaries / "portico", "--ready-file", ready, "server", "register", "bench"]
    subprocess.run([*register, "--url", f"http://127.0.0.1:{upstream}/mcp"], check=True, stdout=subprocess.DEVNULL)
    info = json.loads(ready.read_text())
    url = f"{info['origin']}/bench/mcp"

    def token():
        form = {"grant_type": "client_credentials", "resource": url, "scope": "mcp"}
        form |= {"client_id": info["client_id"], "client_secret": info["client_secret"]}
        request = urllib.request.Request(f"{info['origin']}/oauth2/token", urllib.parse.urlencode(form).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["access_token"]

    def routed():
        headers = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
        try:
            urllib.request.urlopen(urllib.request.Request(url, b"{}", headers), timeout=10)
        except urllib.error.HTTPError as refusal:
            return refusal.code not in (404, 503)
        return True

    wait_until("the endpoint", routed)
    return Target("portico", url, portico.child.pid, token)


def measure(binaries, work, target, sessions, era, payload, seconds):
    command = ["taskset", "-c", LOAD_CORE, binaries / "mcpload", "--url", target.url, "-c", sessions, "-d", seconds]
    command += ["--protocol", era, "--pid", target.pid, "--tree", *PAYLOADS[payload]]
    if target.tokens:
        tokens = work / "tokens"
        tokens.write_text("\n".join(target.tokens() for _ in range(sessions)))
        command += ["--tokens", tokens]
    output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    return json.loads(output)



def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of the release binaries")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--eras", nargs="+", choices=ERAS, default=ERAS)
    parser.add_argument("--replies", nargs="+", choices=REPLIES, default=REPLIES)
    parser.add_argument("--payloads", nargs="+", choices=PAYLOADS, default=list(PAYLOADS))
    parser.add_argument("--targets", nargs="+", choices=STARTERS, default=list(STARTERS), help="nginx is the yardstick")
    return parser.parse_args()


STARTERS = {
    "nginx": lambda stack, work, upstream, binaries: start_nginx(stack, work, upstream),
    "hyper": start_floor,
    "portico": start_portico,
}


def main():
    arguments = parse_arguments()
    wrong = 0
    print("| sessions | revision | answer | | CPU µs/call | × nginx | calls/s | p50 µs | p99 µs | p99.9 µs | RSS MiB |")
    print("|---:|---|---|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for reply in arguments.replies:
        with contextlib.ExitStack() as stack:
            work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-bench-")))
            port = free_port()
            command = [arguments.bin / "echo-upstream", "--listen", f"127.0.0.1:{port}", "--reply", reply]
            Process(stack, LOAD_CORE, command, work / "upstream.log")
            wait_until("echo-upstream", lambda: listening(port))
            targets = [STARTERS[name](stack, work, port, arguments.bin) for name in arguments.targets]
            for era, payload, sessions in itertools.product(arguments.eras, arguments.payloads, arguments.sessions):
                yardstick = None
                for target in targets:
                    got = measure(arguments.bin, work, target, sessions, era, payload, arguments.seconds)
                    cpu, latency = got["cpu_us_per_call"], got["latency_us"]
                    yardstick = cpu if target.name == "nginx" else yardstick
                    ratio = f"{cpu / yardstick:.1f}" if yardstick else ""
                    row = [sessions, era, f"{payload} {reply.upper()}", target.name, f"{cpu:.0f}", ratio]
                    row += [f"{got['rps']:.0f}", *(f"{latency[q]:.0f}" for q in ("p50", "p99", "p999"))]
                    row += [f"{got['rss_peak_kib'] / 1024:.0f}"]
                    print("|", " | ".join(map(str, row)), "|", flush=True)
                    if got["errors"]:
                        wrong += got["errors"]
                        print(f"{target.name}: {got['errors']} wrong answers: {got['first_error']}", file=sys.stderr)
    sys.exit(f"{wrong} wrong answers" if wrong else 0)


if __name__ == "__main__":
    main()
