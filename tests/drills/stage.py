"""What a drill plays on: a local platform, an MCP server behind it, and load that is looked at call by call."""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "deploy" / "local"))

from local_platform.deployment import Deployment, get  # noqa: E402
from local_platform.layout import HOST, SERVICES, Layout, State, free_port  # noqa: E402
from local_platform.processes import Process, program, wait_until  # noqa: E402
from local_platform.stores import postgres_folders  # noqa: E402

ENDPOINT = "bench"
STATELESS, SESSIONS = "2026-07-28", "2025-11-25"
# Limits are evaluated for every call and reached by none.
UNREACHED = 2**32 - 1
SETS = [f"gateway:gateway.limits.{limit}={UNREACHED}" for limit in (
    "principal_per_minute", "principal_burst", "principal_open", "global_per_minute", "global_burst")]
SETS += [f"{service}:{section}.limits.{limit}={UNREACHED}" for service, section in (
    ("auth-server", "auth_server"), ("registry", "registry")) for limit in ("principal_per_minute", "principal_burst")]
# How long what happened may take to be everywhere.
SETTLE_SECONDS = 60


class Violated(Exception):
    """An invariant does not hold."""


class LeftOut(Exception):
    """This machine cannot play the drill; it says nothing about the platform."""


def demand(holds: bool, otherwise: str):
    if not holds:
        raise Violated(otherwise)


def eventually(what: str, check, seconds: float = SETTLE_SECONDS) -> float:
    """Waits until it holds; answers how long that took."""
    begin = time.monotonic()
    demand(wait_until(check, seconds), f"{what}: not within {seconds:.0f} s")
    return time.monotonic() - begin


class Load:
    """The load generator in the background. An odd number of sessions meets both of two gateways in turn."""

    def __init__(self, stage: "Stage", rate: float, seconds: float, sessions=21, era=SESSIONS, tools="echo", slow_ms=100):
        self.stage, self.name, self.rate, self.seconds, self.sessions = stage, stage.next_name(), rate, seconds, sessions
        self.answered_file = stage.work / f"{self.name}.answered"
        tokens = stage.work / f"{self.name}.tokens"
        tokens.write_text("\n".join([stage.token()] * sessions))
        command = [stage.tool("mcpload"), "--url", stage.url, "-c", sessions, "-d", seconds, "-w", 0.5, "--rate", rate]
        command += ["--protocol", era, "--tools", tools, "--slow-ms", slow_ms, "--tokens", tokens, "--keep-sessions"]
        command += ["--correlation", self.name, "--answered", self.answered_file, "--timeout", 15]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def await_both_gateways(self):
        """Waits until every session has been at both gateways: what only one of them has at hand cannot go on at the other one
        without the shared map. No other load may run yet: the balancer's turns and those of two loads can fall together."""
        calls = (
            "SELECT coalesce(min(calls), 0), count(*) FROM (SELECT count(*) AS calls FROM registry.audit WHERE action = 'tools/call' "
            f"AND correlation_id LIKE '{self.name}-%' GROUP BY regexp_replace(correlation_id, '-[0-9]+$', '')) AS each")

        def met() -> bool:
            rows = self.stage.sql(calls)
            fewest, sessions = map(int, rows[0].split("|")) if rows else (0, 0)
            return sessions == self.sessions and fewest >= 20

        eventually("every session has been at both gateways", met)

    def result(self) -> dict:
        """Waits for its end."""
        output, errors = self.process.communicate(timeout=self.seconds + 90)
        demand(self.process.returncode == 0, f"the load generator failed: {errors.strip()[:500]}")
        result = json.loads(output)
        least = self.rate * result["seconds"] / 2
        demand(result["calls"] >= least, f"{result['calls']} calls in {result['seconds']} s show nothing: it should be at least {least:.0f}")
        return result

    def finish(self):
        """No further calls; those that are under way are waited for."""
        self.process.send_signal(signal.SIGTERM)

    def unfailing(self) -> dict:
        """Its result, which no failed call may be in."""
        result = self.result()
        demand(result["errors"] == 0, f"{result['errors']} of {result['calls']} calls failed: {first_failures(result)}")
        return result

    def answered(self) -> set[str]:
        return set(self.answered_file.read_text().split())

    def check_records(self) -> int:
        """Every call that was answered is in the audit record, once."""
        answered, recorded = self.answered(), []

        def complete() -> bool:
            recorded[:] = self.stage.sql(
                f"SELECT correlation_id FROM registry.audit WHERE action = 'tools/call' AND correlation_id LIKE '{self.name}-%'")
            return answered <= set(recorded)

        if not wait_until(complete, SETTLE_SECONDS):
            missing = answered - set(recorded)
            raise Violated(f"{len(missing)} of {len(answered)} answered calls are not in the record, such as {sorted(missing)[:3]}")
        twice = len(recorded) - len(set(recorded))
        demand(twice == 0, f"{twice} calls are in the record more than once")
        return len(answered)


def first_failures(result: dict) -> str:
    kinds = {}
    for failure in result["failures"]:
        kinds[failure["error"][:120]] = kinds.get(failure["error"][:120], 0) + 1
    return "; ".join(f"{count} × {error}" for error, count in sorted(kinds.items(), key=lambda kind: -kind[1])[:4])


def milliseconds(result: dict, quantile: str = "p99") -> float:
    return result["latency_us"][quantile] / 1000


def median(values) -> float:
    return statistics.median(values)


class Stage:
    """The platform and everything around it; ends with the drills."""

    def __init__(self, binaries: Path, work: Path, smoke: bool):
        self.binaries, self.work, self.smoke = binaries, work, smoke
        self.names, self.outage_seconds = 0, 60.0
        layout = Layout(work / "platform")
        state = State.load(layout) or State.new(2, str(binaries))
        state.binaries, state.sets, state.dial = str(binaries), list(SETS), {}
        state.assign_ports(free=True)
        self.platform = Deployment(layout, state)
        self.upstream_port = free_port(set(state.ports.values()))
        self.url = f"{state.origin}/{ENDPOINT}/mcp"
        self.upstream = None

    def tool(self, name: str) -> Path:
        path = self.binaries / name
        demand(path.exists(), f"{path} is missing: `make drill` builds it")
        return path

    def next_name(self) -> str:
        """Unlike any name of an earlier run on the same data."""
        self.names += 1
        return f"drill-{os.getpid()}-{int(time.time())}-{self.names}"

    def __enter__(self):
        self.platform.layout.make()
        command = [self.tool("echo-upstream"), "--listen", f"{HOST}:{self.upstream_port}"]
        self.upstream = Process(self.platform.layout, "echo-upstream", command)
        self.upstream.start()
        try:
            self.platform.up()
            self.register(ENDPOINT)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.platform.down()
        self.upstream.kill()

    def reconfigure(self, sets: list[str] = (), dial: dict[str, str] | None = None):
        """Other settings for all services; those that are always there stay."""
        self.platform.state.sets, self.platform.state.dial = [*SETS, *sets], dial or {}
        self.platform.settings.write(list(self.platform.services), self.platform.postgres, self.platform.redis)
        for name in self.platform.services:
            self.platform.restart(name)

    def restart_upstream(self):
        """The registered server starts anew and knows no session."""
        self.upstream.kill()
        self.upstream.start()
        eventually("the server answers", lambda: self.send(f"http://{HOST}:{self.upstream_port}/sessions", None)[0] == 200)

    # What people and agents do.

    def register(self, name: str):
        url = f"http://{HOST}:{self.upstream_port}/mcp"
        self.platform.portico("server", "register", name, "--url", url, "--visibility", "public")
        self.await_endpoint(name)

    def await_routes(self, name: str):
        """Every gateway routes it."""
        for gateway in self.replicas("gateway"):
            eventually(f"{gateway} routes {name}", lambda gateway=gateway: self.routes(gateway, name))

    def await_endpoint(self, name: str):
        """Every gateway routes it and every auth-server gives tokens for it."""
        self.await_routes(name)
        for server in self.replicas("auth-server"):
            eventually(f"{server} gives tokens for {name}", lambda server=server: self.token(name, server) is not None)

    def replicas(self, service: str) -> list[str]:
        return [name for name in self.platform.services if name.rpartition("-")[0] == service]

    def listen_url(self, name: str, path: str) -> str:
        return f"http://{HOST}:{self.platform.state.ports[f'{name}.listen']}{path}"

    def send(self, url: str, body: bytes | None = None, headers: dict | None = None, seconds: float = 10) -> tuple[int, bytes]:
        """Straight to a replica, under the name of the origin."""
        host = self.platform.state.origin.removeprefix("http://")
        request = urllib.request.Request(url, body, {"Host": host, **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read()
        except OSError:
            return 0, b""

    def routes(self, gateway: str, endpoint: str) -> bool:
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        return self.send(self.listen_url(gateway, f"/{endpoint}/mcp"), b"{}", headers)[0] == 401

    def token(self, endpoint: str = ENDPOINT, server: str | None = None) -> str | None:
        """An access token of the administrator's account; by a certain auth-server if one is named."""
        form = {"grant_type": "client_credentials", "resource": f"{self.platform.state.origin}/{endpoint}/mcp", "scope": "mcp"}
        body = urllib.parse.urlencode({**form, **self.platform.state.account}).encode()
        path = "/oauth2/token"
        url = self.listen_url(server, path) if server else f"{self.platform.state.origin}{path}"
        status, answer = self.send(url, body, {"Content-Type": "application/x-www-form-urlencoded"})
        return json.loads(answer)["access_token"] if status == 200 else None

    def call(self, gateway: str, token: str, endpoint: str = ENDPOINT) -> tuple[int, dict]:
        """One stateless tool call straight at a gateway."""
        meta = {"protocolVersion": STATELESS, "clientInfo": {"name": "drill", "version": "1"}, "clientCapabilities": {}}
        params = {"name": "echo", "arguments": {"text": "x"}, "_meta": {f"io.modelcontextprotocol/{key}": value for key, value in meta.items()}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        headers = {
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": f"Bearer {token}",
            "Mcp-Protocol-Version": STATELESS, "Mcp-Method": "tools/call", "Mcp-Name": "echo",
        }
        status, answer = self.send(self.listen_url(gateway, f"/{endpoint}/mcp"), body, headers)
        with contextlib.suppress(ValueError):
            return status, json.loads(answer)
        return status, {}

    def load(self, **wanted) -> Load:
        return Load(self, **wanted)

    # What operators see.

    def sql(self, query: str) -> list[str]:
        """The rows of a query, one text each."""
        state = self.platform.state
        command = [program("psql", "postgresql-client-15", *postgres_folders()), "-XAtq", "-h", HOST, "-p", str(state.ports["postgres"])]
        environment = {**os.environ, "PGPASSWORD": state.passwords["postgres"], "PGSSLMODE": "require"}
        done = subprocess.run([*command, "-U", "portico", "portico", "-c", query], env=environment, capture_output=True, text=True)
        return done.stdout.split("\n")[:-1] if done.returncode == 0 else []

    def metric(self, name: str, metric: str) -> float:
        """The sum of a metric over all its labels."""
        _, page = get(self.platform.admin_url(name, "/metrics"))
        values = [line.rpartition(" ")[2] for line in page.decode().splitlines() if line.split("{")[0].split(" ")[0] == metric]
        return sum(map(float, values))

    def settle(self):
        """Everything runs and is ready, and all replicas of a service know the same."""
        for name, process in self.platform.processes().items():
            demand(process.pid is not None, f"{name} does not run; the end of its log:\n{process.tail()}")
        for name in self.platform.services:
            eventually(f"{name} is ready", lambda name=name: self.platform.is_ready(name))
        self.check_equal()

    def check_equal(self):
        """The state of the replicas of each service: what registries list, what gateways route, for what tokens are given."""
        lists = {}

        def same() -> bool:
            lists.update({name: self.servers_of(name) for name in self.replicas("registry")})
            return None not in lists.values() and len({str(known) for known in lists.values()}) == 1

        eventually("all registries list the same servers", same)
        for name in lists["registry-1"]:
            self.await_endpoint(name)

    def discovered(self, server: str) -> bool:
        """A worker has reported the tools of its instance."""
        query = ("SELECT count(*) FROM registry.capabilities JOIN registry.servers ON servers.id = capabilities.server_id "
                 f"WHERE servers.name = '{server}'")
        return self.sql(query) not in ([], ["0"])

    def await_discovered(self, server: str):
        eventually(f"a worker has looked at {server}", lambda: self.discovered(server))

    def servers_of(self, registry: str) -> list[str] | None:
        """What one registry lists."""
        ready = self.work / f"{registry}.json"
        ready.touch(mode=0o600)
        ready.write_text(json.dumps({**self.platform.state.ready(), "grpc": self.listen_url(registry, "/")}))
        command = [self.platform.binary("portico"), "--ready-file", ready, "--json", "server", "list"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
        if done.returncode:
            return None
        return sorted(server["name"] for server in servers_in(done.stdout))


def servers_in(text: str) -> list[dict]:
    """The command line prints one document, or one for each."""
    found, decoder, at = [], json.JSONDecoder(), 0
    text = text.strip()
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        at += len(text[at:]) - len(text[at:].lstrip())
        found += document if isinstance(document, list) else [document]
    return found


__all__ = ["ENDPOINT", "SERVICES", "SESSIONS", "STATELESS", "LeftOut", "Load", "Stage", "Violated", "demand", "eventually", "get", "median",
           "milliseconds"]
