#!/usr/bin/env python3
"""Measures proxies in front of one upstream, in one run: nginx, a bare hyper proxy, and `portico dev` with the whole
pipeline on (a distinct ES256 token per session, authorization, rate limits, audit, metrics).

The proxy has one core, load generator and upstream share the other. Every answer is checked, and every call must be in
Portico's audit record once: a wrong answer or a missing record fails the run. CPU time is the proxy's own from before the
first session is opened until its last record is stored, divided by the calls of that time. Prints Markdown tables, last
the ratio to nginx at 64 sessions. Build with bench.sh, which passes its arguments on to here.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

from processes import LOAD_CORE, STARTERS, Portico, Process, Target, free_port, listening, wait_until

ERAS = ["2025-11-25", "2026-07-28"]
REPLIES = ["json", "sse"]
PAYLOADS = {"small": ["--tools", "echo"], "64 KiB": ["--tools", "payload", "--payload-kib", "64"]}
# What must hold (64 sessions, small payload): CPU time per call, as a multiple of nginx's in the same run.
MOST_CPU_RATIO = 4.0
# RSS of `portico dev` 30 s after it is ready.
MOST_RSS_MB = 80
# p99 while the audit sink stands still, as a multiple of p99 before.
MOST_STALL_RATIO = 1.2

COLUMNS = ["sessions", "revision", "answer", "proxy", "CPU µs/call", "× nginx", "calls/s", "p50 µs", "p99 µs"]
COLUMNS += ["p99.9 µs", "RSS MB", "calls", "audit records"]


class Failures(list):
    def add(self, text):
        self.append(text)
        print(f"FAILED: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def bench(reply):
    """A directory and an upstream that answers JSON or SSE."""
    with contextlib.ExitStack() as stack:
        work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-bench-")))
        port = free_port()
        command = [arguments.bin / "echo-upstream", "--listen", f"127.0.0.1:{port}", "--reply", reply]
        Process(stack, LOAD_CORE, command, work / "upstream.log")
        wait_until("echo-upstream listens", lambda: listening(port))
        yield stack, work, port


def load(work, target, sessions, era, payload, seconds):
    """Runs the load generator; answers what it reports."""
    command = ["taskset", "-c", LOAD_CORE, arguments.bin / "mcpload", "--url", target.url, "-c", sessions, "-d", seconds]
    command += ["--protocol", era, *PAYLOADS[payload]]
    if tokens := target.tokens(sessions):
        (work / "tokens").write_text("\n".join(tokens))
        command += ["--tokens", work / "tokens"]
    begin = target.cpu_seconds()
    output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    return begin, json.loads(output)


def wait_for_records(target, before, calls, seconds=120):
    """Waits until the audit record has all calls; answers how many it has."""
    deadline = time.monotonic() + seconds
    while (recorded := target.recorded() - before) < calls and time.monotonic() < deadline:
        time.sleep(0.1)
    return recorded


def measure(work, target, sessions, era, payload, seconds):
    before = target.recorded()
    begin, got = load(work, target, sessions, era, payload, seconds)
    got["rss_mb"] = target.rss_mb()
    got["records"] = None if before is None else wait_for_records(target, before, got["calls"])
    got["cpu_us"] = (target.cpu_seconds() - begin) * 1e6 / max(got["calls"], 1)
    if got["errors"]:
        failures.add(f"{target.name}: {got['errors']} wrong answers: {got['first_error']}")
    if got["records"] not in (None, got["calls"]):
        failures.add(f"{target.name}: {got['calls']} calls, {got['records']} audit records")
    return got


def row(cells):
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def heading(title, columns):
    print(f"\n## {title}\n")
    row(columns)
    row(["---:"] * len(columns))


def table():
    """Every combination that was asked for, all proxies next to one another."""
    heading("Proxies", COLUMNS)
    for reply in arguments.replies:
        with bench(reply) as (stack, work, port):
            targets = [STARTERS[name](stack, work, port, arguments.bin) for name in arguments.targets]
            for era, payload, sessions in itertools.product(arguments.eras, arguments.payloads, arguments.sessions):
                yardstick = None
                for target in targets:
                    got = measure(work, target, sessions, era, payload, arguments.seconds)
                    yardstick = got["cpu_us"] if target.name == "nginx" else yardstick
                    latency = [f"{got['latency_us'][quantile]:.0f}" for quantile in ("p50", "p99", "p999")]
                    cells = [sessions, era, f"{payload} {reply.upper()}", target.name, f"{got['cpu_us']:.1f}"]
                    cells += [f"{got['cpu_us'] / yardstick:.2f}" if yardstick else "", f"{got['rps']:.0f}", *latency]
                    cells += [f"{got['rss_mb']:.0f}", got["calls"], "" if got["records"] is None else got["records"]]
                    row(cells)


def memory():
    """A fresh `portico dev`, as a newcomer starts it: its demo server is the one that is registered."""
    every_core = f"0-{os.cpu_count() - 1}"
    with contextlib.ExitStack() as stack:
        work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-bench-")))
        portico = Portico(stack, work, None, arguments.bin, core=every_core)
        time.sleep(30)
        rss = portico.rss_mb()
    heading("Memory", ["`portico dev`", "RSS MB", "at most"])
    row(["30 s after ready, one server registered", f"{rss:.1f}", MOST_RSS_MB])
    if rss > MOST_RSS_MB:
        failures.add(f"RSS is {rss:.1f} MB, more than {MOST_RSS_MB}")


@contextlib.contextmanager
def stopped_sink(portico):
    """Nobody can write to the registry's database, so that the registry cannot take a record."""
    with contextlib.closing(sqlite3.connect(portico.database(), timeout=30, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


def stall():
    """The audit sink stands still under load: agents must not notice, and no record may be missing afterwards."""
    heading("Audit sink stopped", ["phase", "seconds", "calls", "p50 µs", "p99 µs", "stored records", "spool MB"])
    p99 = {}
    with bench("json") as (stack, work, port):
        portico = Portico(stack, work, port, arguments.bin)
        start, calls = portico.recorded(), 0

        def phase(name):
            nonlocal calls
            before = portico.recorded()
            _, got = load(work, portico, 64, ERAS[0], "small", arguments.stall)
            calls += got["calls"]
            p99.setdefault(name, []).append(got["latency_us"]["p99"])
            stored = portico.recorded() - before
            cells = [name, f"{got['seconds']:.0f}", got["calls"], f"{got['latency_us']['p50']:.0f}"]
            row([*cells, f"{p99[name][-1]:.0f}", stored, f"{portico.pending_bytes() / 1e6:.1f}"])
            if got["errors"]:
                failures.add(f"sink {name}: {got['errors']} wrong answers: {got['first_error']}")
            return stored

        phase("working")
        wait_for_records(portico, start, calls)
        with stopped_sink(portico):
            stored = phase("stopped")
        if stored:
            failures.add(f"the sink was not stopped: it stored {stored} records")
        stored = wait_for_records(portico, start, calls)
        phase("working")
        stored = wait_for_records(portico, start, calls)
    ratio = p99["stopped"][0] / statistics.mean(p99["working"])
    print(f"\np99 stopped ÷ working: {ratio:.2f} (at most {MOST_STALL_RATIO}); {calls} calls, {stored} records afterwards")
    if ratio > MOST_STALL_RATIO:
        failures.add(f"p99 is {ratio:.2f} × while the audit sink stands still, more than {MOST_STALL_RATIO}")
    if stored != calls:
        failures.add(f"{calls} calls, {stored} audit records after the audit sink stood still")


def ratio():
    """The yardstick: nginx and Portico in turn, several times, because one measurement on a shared machine says little."""
    heading("CPU time per call at 64 sessions, small payload", ["revision", "answer", "nginx", "portico", "ratio", "rounds"])
    for reply in arguments.replies:
        with bench(reply) as (stack, work, port):
            pair: list[Target] = [STARTERS[name](stack, work, port, arguments.bin) for name in ("nginx", "portico")]
            for era in arguments.eras:
                rounds = [
                    [measure(work, target, 64, era, "small", arguments.seconds)["cpu_us"] for target in pair]
                    for _ in range(arguments.rounds)
                ]
                nginx, portico = (statistics.median(costs) for costs in zip(*rounds))
                ratios = [portico / nginx for nginx, portico in rounds]
                middle = statistics.median(ratios)
                each = " ".join(f"{ratio:.2f}" for ratio in ratios)
                row([era, reply.upper(), f"{nginx:.1f} µs", f"{portico:.1f} µs", f"**{middle:.2f}**", each])
                if middle > MOST_CPU_RATIO:
                    failures.add(f"{era} {reply.upper()}: {middle:.2f} × nginx, more than {MOST_CPU_RATIO}")


PARTS = {"table": table, "memory": memory, "stall": stall, "ratio": ratio}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of the release binaries")
    parser.add_argument("--quick", action="store_true", help="a few minutes, for development: small, 64 sessions")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sessions", type=int, nargs="+", help="default 1 16 64 256")
    parser.add_argument("--seconds", type=float, help="measured seconds of each load (default 4)")
    parser.add_argument("--rounds", type=int, help="measurements of the ratio (default 5)")
    parser.add_argument("--stall", type=float, help="seconds for which the audit sink stands still (default 30)")
    parser.add_argument("--eras", nargs="+", choices=ERAS, default=ERAS)
    parser.add_argument("--replies", nargs="+", choices=REPLIES, default=REPLIES)
    parser.add_argument("--payloads", nargs="+", choices=PAYLOADS)
    parser.add_argument("--targets", nargs="+", choices=STARTERS, default=list(STARTERS), help="nginx is the yardstick")
    given = parser.parse_args()
    small = {"sessions": [64], "seconds": 2.0, "rounds": 3, "stall": 10.0, "payloads": ["small"]}
    whole = {"sessions": [1, 16, 64, 256], "seconds": 4.0, "rounds": 5, "stall": 30.0, "payloads": list(PAYLOADS)}
    for name, value in (small if given.quick else whole).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def machine():
    model = next(line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{model.split(':')[1].strip()}, {os.cpu_count()} cores, Linux {os.uname().release}; commit {commit}")
    print(f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, load of the machine before the run {load}", flush=True)


arguments = parse_arguments()
failures = Failures()

if __name__ == "__main__":
    # Whoever ends the benchmark ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    # What the benchmark does itself must not disturb the proxy's core.
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    machine()
    for part in PARTS:
        if part in arguments.parts:
            PARTS[part]()
    print()
    sys.exit(f"{len(failures)} of the run's expectations failed" if failures else 0)
