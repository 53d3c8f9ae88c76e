"""What operators do on an ordinary day, under load."""

import base64
import json
import time

from stage import SERVICES, SESSIONS, STATELESS, Stage, demand, eventually, milliseconds


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
    load = stage.load(rate=300, seconds=600)
    try:
        first = stage.token()
        tokens = {key_of(first): first}
        for _ in range(rounds):
            rotated = json.loads(stage.platform.portico("--json", "keys", "rotate", "--signing").stdout)["kid"]
            demand(rotated not in tokens, "the new key is an old one")
            # It is published first, and signs when every verifier has had the time to learn it.
            for server in stage.replicas("auth-server"):
                eventually(f"{server} signs with the new key", lambda server=server: signing_key(stage, server) == rotated)
            tokens[rotated] = stage.token()
            demand(key_of(tokens[rotated]) == rotated, "an authorization server went back to an older key")
            for gateway in stage.replicas("gateway"):
                for key, token in tokens.items():
                    status, answer = stage.call(gateway, token)
                    demand(status == 200, f"{gateway} refuses a token of the key {key}, the newest is {rotated}: {answer}")
    finally:
        load.finish()
    result = load.unfailing()
    load.check_records()
    return (f"{rounds} rotations, each waited for until the new key signed: 0 of {result['calls']} calls failed, tokens of all "
            f"{len(tokens)} keys are taken by both gateways")


def key_of(token: str) -> str:
    """The key that a token names."""
    header = token.partition(".")[0]
    return json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]


def signing_key(stage: Stage, server: str) -> str:
    """The key that a server signs with now; it is asked at leisure, because each question is recorded."""
    time.sleep(0.5)
    return key_of(stage.token(server=server))
