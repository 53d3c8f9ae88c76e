"""A whole service or store is away for a while, or stands still."""

import signal
import time

from stage import STATELESS, Stage, demand, milliseconds

RATE = 100
# Servers that are registered while something is away, where that is possible at all.
REGISTRATIONS = 5


def outage(stage: Stage, names: list[str], registrations: str = "none") -> str:
    """Everything of that name is killed, stays away, and comes back; agents with a valid token keep working.

    Servers are registered meanwhile where that is possible at all: all are `taken`, or `refused` with a message."""
    seconds = stage.outage_seconds
    # Ended when all is over: on a busy machine a load of a fixed length might end before the outage.
    loads = [stage.load(rate=RATE, seconds=600)]
    try:
        loads[0].await_both_gateways()
        loads.append(stage.load(rate=RATE, seconds=600, era=STATELESS))
        time.sleep(2)
        before = set(stage.servers_of("registry-1") or [])
        for name in names:
            stage.platform.process(name).kill()
        away = time.monotonic()
        made, refused = register(stage) if registrations != "none" else ([], 0)
        demand(not refused or registrations == "refused", f"{refused} registrations were refused")
        demand(not made or registrations == "taken", f"acknowledged while nothing could be stored: {made}")
        time.sleep(max(away + seconds - time.monotonic(), 0))
        for name in names:
            stage.platform.process(name).start()
        for name in names:
            stage.platform.wait_ready(name)
        time.sleep(2)
    finally:
        for load in loads:
            load.finish()
    begin = time.monotonic()
    results = [load.unfailing() for load in loads]
    records = sum(load.check_records() for load in loads)
    stage.settle()
    # A registration that was acknowledged is everywhere, and its event has reached a worker.
    known = set(stage.servers_of("registry-1"))
    demand(set(made) | before <= known, f"missing after the outage: {sorted((set(made) | before) - known)}")
    for server in made:
        stage.await_endpoint(server)
        stage.await_discovered(server)
    recovered = time.monotonic() - begin
    for server in made:
        stage.platform.portico("server", "delete", server)
    calls, p99 = sum(result["calls"] for result in results), max(map(milliseconds, results))
    registered = {
        "none": "",
        "taken": f"; {len(made)} servers registered meanwhile, all there and looked at",
        "refused": f"; {refused} registrations meanwhile, all refused",
    }
    return (f"{seconds:.0f} s: 0 of {calls} calls failed, p99 {p99:.1f} ms; {records} records, none missing{registered[registrations]}; "
            f"replicas equal, checked {recovered:.0f} s after the return")


def register(stage: Stage) -> tuple[list[str], int]:
    """Registers servers; answers the names that were acknowledged and how many were refused."""
    made, refused = [], 0
    for _ in range(REGISTRATIONS):
        name = stage.next_name()
        done = stage.platform.portico("server", "register", name, "--url", f"http://127.0.0.1:{stage.upstream_port}/mcp", check=False)
        if done.returncode == 0:
            made.append(name)
        else:
            refused += 1
            demand(bool(done.stderr.strip()), f"registering {name} failed without a word")
    return made, refused


def registry(stage: Stage) -> str:
    return outage(stage, stage.replicas("registry"))


def auth_server(stage: Stage) -> str:
    return outage(stage, stage.replicas("auth-server"))


def worker(stage: Stage) -> str:
    return outage(stage, stage.replicas("worker"), "taken")


def postgres(stage: Stage) -> str:
    return outage(stage, ["postgres"], "refused")


def redis(stage: Stage) -> str:
    return outage(stage, ["redis"], "taken")


def suspended(stage: Stage) -> str:
    """Processes that stand still hold their connections open: deadlines have to notice."""
    pause = min(stage.outage_seconds, 10)
    figures = []
    for name in ("registry-1", "auth-server-1", "worker-1", "redis", "postgres"):
        load = stage.load(rate=200, seconds=pause + 3)
        time.sleep(1)
        stage.platform.signal(name, signal.SIGSTOP)
        time.sleep(pause)
        stage.platform.signal(name, signal.SIGCONT)
        result = load.unfailing()
        load.check_records()
        figures.append(f"{name} p99 {milliseconds(result):.1f} ms")
        stage.settle()
    return f"{pause:.0f} s each at 200 calls/s: 0 failed; {', '.join(figures)}"


def redis_restart(stage: Stage) -> str:
    """Redis starts anew and empty under load."""
    return emptied(stage, lambda: stage.platform.restart("redis"))


def redis_flush(stage: Stage) -> str:
    """Everything in Redis is deleted under load."""
    return emptied(stage, lambda: demand(stage.platform.redis.run("flushall") == "OK", "redis does not flush"))


def emptied(stage: Stage, empty) -> str:
    """What was in Redis can be rebuilt: calls go on, and what is registered meanwhile is looked at."""
    loads = [stage.load(rate=150, seconds=600)]
    try:
        loads[0].await_both_gateways()
        loads.append(stage.load(rate=150, seconds=600, era=STATELESS))
        time.sleep(1)
        empty()
        made, refused = register(stage)
        demand(refused == 0, f"{refused} registrations were refused")
        time.sleep(4)
    finally:
        for load in loads:
            load.finish()
    results = [load.unfailing() for load in loads]
    for load in loads:
        load.check_records()
    for server in made:
        stage.await_endpoint(server)
        stage.await_discovered(server)
        stage.platform.portico("server", "delete", server)
    calls, p99 = sum(result["calls"] for result in results), max(map(milliseconds, results))
    return f"0 of {calls} calls failed, p99 {p99:.1f} ms; {len(made)} servers registered at once, all looked at; every call recorded once"
