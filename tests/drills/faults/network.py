"""Connections between the processes break, hang or crawl."""

import time

from proxy import FaultProxy
from stage import SESSIONS, STATELESS, Stage, demand, milliseconds

STORES = ("redis", "postgres")
ROUND_SECONDS = 2.0


def cut_connections(stage: Stage) -> str:
    """Every connection to a store or a service is cut, again and again; then bytes are swallowed, then they are slow."""
    # What is dialled: the stores, and the services that others call.
    internal = [f"{name}.internal" for service in ("registry", "auth-server") for name in stage.replicas(service)]
    proxies = {name: FaultProxy(("127.0.0.1", stage.platform.state.ports[name])) for name in (*STORES, *internal)}
    try:
        stage.reconfigure(dial={name: proxy.address for name, proxy in proxies.items()})
        return misbehave(stage, proxies)
    finally:
        stage.reconfigure()
        for proxy in proxies.values():
            proxy.close()


def misbehave(stage: Stage, proxies: dict[str, FaultProxy]) -> str:
    cuts = 3 if stage.smoke else 10
    loads = [stage.load(rate=150, seconds=600, era=SESSIONS)]
    phases = []

    def phase(name: str):
        phases.append((time.time(), name))

    try:
        loads[0].await_both_gateways()
        loads.append(stage.load(rate=150, seconds=600, era=STATELESS))
        time.sleep(1)
        phase("cutting everything")
        for _ in range(cuts):
            for proxy in proxies.values():
                proxy.cut()
            time.sleep(ROUND_SECONDS / 4)
        for attribute, value, usual in (("refusing", True, False), ("swallowing", True, False), ("delay_seconds", 0.1, 0.0)):
            for name, proxy in proxies.items():
                phase(f"{attribute} {name}")
                setattr(proxy, attribute, value)
                if attribute == "refusing":
                    proxy.cut()
                time.sleep(ROUND_SECONDS)
                setattr(proxy, attribute, usual)
        phase("afterwards")
        time.sleep(1)
    finally:
        for load in loads:
            load.finish()
    results = [load.result() for load in loads]
    failed = [failure for result in results for failure in result["failures"]]
    demand(not failed, f"{len(failed)} calls failed: {by_phase(failed, phases)}; such as {failed[0]['error'] if failed else ''}")
    records = sum(load.check_records() for load in loads)
    calls, p99 = sum(result["calls"] for result in results), max(map(milliseconds, results))
    unused = [name for name, proxy in proxies.items() if proxy.connections == 0]
    demand(not unused, f"nobody went through the proxy of {', '.join(unused)}: the drill shows nothing")
    connections = sum(proxy.connections for proxy in proxies.values())
    return (f"{cuts} × all connections cut, then each refused, swallowed and delayed by 100 ms for 2 s: 0 of {calls} calls failed, "
            f"p99 {p99:.1f} ms; {connections} connections were made; {records} records, none missing")


def by_phase(failed: list[dict], phases: list[tuple[float, str]]) -> str:
    """How many calls failed while what was broken."""
    counts = {}
    for failure in failed:
        name = next((name for begin, name in reversed(phases) if begin <= failure["end"]), "before")
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} while {name}" for name, count in counts.items())
