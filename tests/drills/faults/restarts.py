"""What operators do on an ordinary day, under load."""

import time

from stage import SERVICES, SESSIONS, STATELESS, Stage, demand, milliseconds


def rolling(stage: Stage) -> str:
    """Every process of every service is restarted, one after the other: no call fails."""
    rounds = 1 if stage.smoke else 2
    order = [name for service in SERVICES for name in stage.replicas(service)] * rounds
    loads = [stage.load(rate=150, seconds=600, era=era) for era in (SESSIONS, STATELESS)]
    begin = time.monotonic()
    try:
        time.sleep(1)
        for name in order:
            stage.platform.restart(name)
        time.sleep(1)
        took = time.monotonic() - begin
    finally:
        for load in loads:
            load.finish()
    results = [load.unfailing() for load in loads]
    for load in loads:
        load.check_records()
    calls, p99 = sum(result["calls"] for result in results), max(map(milliseconds, results))
    return f"{len(order)} restarts in {took:.0f} s at 300 calls/s in both eras: 0 of {calls} calls failed; p99 {p99:.1f} ms; every call recorded once"


def signing_keys(stage: Stage) -> str:
    """The keys that tokens are signed with change under running agents."""
    rounds = 1 if stage.smoke else 3
    load = stage.load(rate=300, seconds=rounds * 3 + 2)
    old = [stage.token()]
    for _ in range(rounds):
        time.sleep(2)
        stage.platform.portico("keys", "rotate", "--signing")
        token = stage.token()
        for gateway in stage.replicas("gateway"):
            status, answer = stage.call(gateway, token)
            demand(status == 200, f"{gateway} refuses a token of the new key: {answer}")
            for known in old:
                status, answer = stage.call(gateway, known)
                demand(status == 200, f"{gateway} refuses a token of the old key: {answer}")
        old.append(token)
    result = load.unfailing()
    load.check_records()
    return f"{rounds} rotations: 0 of {result['calls']} calls failed, tokens of all {rounds + 1} keys are taken by both gateways"
