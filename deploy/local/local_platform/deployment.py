"""The platform as a whole: what belongs to it, in which order it comes up and goes down."""

import json
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from .balancer import Balancer
from .failure import Failure
from .layout import HOST, Layout, State, can_listen, replica_names, service_of, write_private
from .processes import Process, stop_all, wait_until
from .settings import Settings
from .stores import Postgres, Redis

BINARIES = ("gateway", "auth-server", "registry", "worker", "migrator", "portico")
READY_SECONDS = 30
# A service drains for at most 25 s.
STOP_SECONDS = 30
# Whose certificates are issued: the services, and the stores that they reach by TLS.
CERTIFICATES = ("gateway", "auth-server", "registry", "worker", "postgres", "redis")


def get(url: str, seconds: float = 1) -> tuple[int, bytes]:
    """Status and body; 0 if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()
    except OSError:
        return 0, b""


class Deployment:
    """One platform in one directory, running or not."""

    def __init__(self, layout: Layout, state: State):
        self.layout, self.state = layout, state
        self.postgres = Postgres(layout, state)
        self.redis = Redis(layout, state)
        self.balancer = Balancer(layout, state)
        self.settings = Settings(layout, state)
        self.services = {name: self.service(name) for name in replica_names(state.replicas)}
        command = [self.binary("portico"), "demo-server", "--listen", f"{HOST}:{state.ports['demo']}"]
        self.demo = Process(layout, "demo", command)

    @classmethod
    def of(cls, root: Path) -> "Deployment":
        """The platform that an earlier `up` made."""
        layout = Layout(root)
        state = State.load(layout)
        if state is None:
            raise Failure(f"there is no platform in {layout.root}: `up` makes one")
        return cls(layout, state)

    def binary(self, name: str) -> Path:
        return Path(self.state.binaries) / name

    def service(self, name: str) -> Process:
        return Process(self.layout, name, [self.binary(service_of(name)), "--config", self.settings.file(name)])

    def processes(self) -> dict[str, Process]:
        """All of them by name, those that others need first."""
        stores = {"postgres": self.postgres.process, "redis": self.redis.process}
        return {**stores, **self.services, "demo": self.demo, "balancer": self.balancer.process}

    def runs(self) -> bool:
        """Whether any of them does."""
        return any(process.pid for process in self.processes().values())

    def process(self, name: str) -> Process:
        processes = self.processes()
        if name not in processes:
            raise Failure(f"there is no {name}: there are {', '.join(processes)}")
        return processes[name]

    def admin_url(self, name: str, path: str) -> str:
        return f"http://{HOST}:{self.state.ports[f'{name}.admin']}{path}"

    def is_ready(self, name: str) -> bool:
        return get(self.admin_url(name, "/readyz"))[0] == 200

    def portico(self, *words, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess:
        """Runs a command of `portico` as the administrator."""
        command = [self.binary("portico"), "--ready-file", self.layout.ready, *words]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, input=stdin, timeout=60)
        if check and done.returncode:
            raise Failure(f"portico {' '.join(map(str, words))} failed:\n{done.stdout}{done.stderr}")
        return done

    # Coming up.

    def up(self):
        """Starts everything that does not run; answers when all of it is ready."""
        self.check_binaries()
        self.check_ports()
        self.layout.make()
        self.state.save(self.layout)
        self.layout.ready.unlink(missing_ok=True)
        self.make_secrets()
        for store in (self.postgres, self.redis):
            store.prepare()
            store.start()
        self.settings.write(list(self.services), self.postgres, self.redis)
        self.balancer.prepare()
        self.demo.start()
        self.postgres.wait_ready()
        self.redis.wait_ready()
        self.migrate()
        for process in self.services.values():
            process.start()
        for left_out in self.layout.out.iterdir():
            left_out.unlink()
        self.balancer.process.start()
        for name, process in self.services.items():
            process.wait_ready(lambda name=name: self.is_ready(name), READY_SECONDS)
        self.balancer.process.wait_ready(lambda: get(f"{self.state.origin}/.well-known/portico")[0] == 200, READY_SECONDS)
        self.register_demo()

    def check_binaries(self):
        missing = [name for name in BINARIES if not self.binary(name).exists()]
        if missing:
            raise Failure(f"{self.state.binaries} has no {', '.join(missing)}: `make up` in deploy/local builds them, or give --bin")

    def check_ports(self):
        """A port that somebody else has is named here, not by the log of whoever needs it."""
        if self.runs():
            return
        taken = [f"{port} ({name})" for name, port in self.state.ports.items() if not can_listen(port)]
        if taken:
            raise Failure(f"taken: port {', '.join(taken)}; stop who listens there, or use --free-ports in a new --dir")

    def make_secrets(self):
        """Certificates and key ring, on the first start."""
        certificates = ["certs", "issue", "--dir", self.layout.certs]
        if not (self.layout.certs / "ca.pem").exists():
            self.tool("certs", "init", "--dir", self.layout.certs)
        for name in CERTIFICATES:
            if not (self.layout.certs / f"{name}.pem").exists():
                self.tool(*certificates, name, "--dns", "localhost", "--dns", name, "--ip", HOST)
        if not self.layout.keys.exists():
            self.tool("keys", "generate", self.layout.keys)

    def tool(self, *words):
        """Runs a command of `portico` that needs no platform."""
        done = subprocess.run(list(map(str, [self.binary("portico"), *words])), capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"portico {' '.join(map(str, words))} failed:\n{done.stdout}{done.stderr}")

    def migrate(self):
        log = self.layout.logs / "migrator.log"
        command = [str(self.binary("migrator")), "--config", str(self.settings.file("migrator"))]
        with log.open("ab") as output:
            if subprocess.run(command, stdout=output, stderr=output).returncode:
                raise Failure(f"the migrator failed; the end of {log}:\n" + "\n".join(log.read_text().splitlines()[-10:]))

    def register_demo(self):
        """The server that a newcomer calls first. Who deleted it does not get it back."""
        ready = json.dumps(self.state.ready(), indent=2)
        registered = self.layout.run / "demo-registered"
        # The command line reads it from here until others may see it.
        write_private(self.layout.ready, ready)
        if registered.exists():
            return
        address = f"http://{HOST}:{self.state.ports['demo']}/mcp"
        description = "Portico's demo server: time zones, units, progress, a form"
        self.portico("server", "register", "demo", "--url", address, "--description", description, "--tag", "demo", "--visibility", "public")
        if not wait_until(lambda: self.portico("call", "demo", check=False).returncode == 0, READY_SECONDS):
            raise Failure(f"the demo server cannot be called:\n{self.portico('call', 'demo', check=False).stderr}")
        registered.touch()

    # Going down.

    def down(self) -> list[str]:
        """Stops everything; answers the names of those that had to be killed."""
        self.layout.ready.unlink(missing_ok=True)
        # Nobody comes in any more; whoever calls others goes first, so that it can say its last words.
        killed = stop_all([self.balancer.process, self.demo], 5)
        for services in (("gateway", "worker"), ("auth-server", "registry")):
            killed += stop_all([process for name, process in self.services.items() if service_of(name) in services], STOP_SECONDS)
        return killed + stop_all([self.redis.process, self.postgres.process], STOP_SECONDS)

    def purge(self):
        shutil.rmtree(self.layout.root)

    # One process at a time.

    def start(self, name: str):
        self.process(name).start()
        self.wait_ready(name)
        self.balancer.put_back(name)

    def wait_ready(self, name: str):
        stores = {"postgres": self.postgres, "redis": self.redis}
        if name in stores:
            stores[name].wait_ready()
        elif name in self.services:
            self.process(name).wait_ready(lambda: self.is_ready(name), READY_SECONDS)

    def stop(self, name: str):
        """Takes it out of the balancer, then lets it drain."""
        if name in self.services:
            self.balancer.take_out(name)
        if stop_all([self.process(name)], STOP_SECONDS):
            raise Failure(f"{name} did not end within {STOP_SECONDS} s and was killed; see {self.process(name).log}")

    def restart(self, name: str):
        self.stop(name)
        self.start(name)

    def signal(self, name: str, number: signal.Signals):
        process = self.process(name)
        if process.pid is None:
            raise Failure(f"{name} does not run")
        process.signal(number)

    def status(self) -> list[tuple[str, int | None, str, str]]:
        """Name, number, what it is doing, and where it listens."""
        rows = []
        for name, process in self.processes().items():
            ports = " ".join(f"{port.rpartition('.')[2]}:{number}" for port, number in self.state.ports.items() if port.startswith(f"{name}."))
            ports = ports or str(self.state.ports.get(name, f"origin:{self.state.ports['origin']} grpc:{self.state.ports['grpc']}"))
            doing = "down" if process.pid is None else "up"
            if name in self.services and process.pid:
                doing = "ready" if self.is_ready(name) else "not ready"
            rows.append((name, process.pid, doing, ports))
        return rows
