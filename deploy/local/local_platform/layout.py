"""Where a local platform keeps its files, and what it remembers between two commands."""

import contextlib
import fcntl
import json
import os
import random
import secrets
import socket
import time
import uuid
from pathlib import Path

from .failure import Failure

HOST = "127.0.0.1"
# In the order in which they are named to people; all start at the same time.
SERVICES = ("registry", "auth-server", "gateway", "worker")
# What each service listens on beside its admin port.
LISTENERS = {"registry": ("listen", "internal"), "auth-server": ("listen", "internal"), "gateway": ("listen",), "worker": ()}
# Without --free-ports. Replicas count on from the number of their service: gateway-2 has its admin port at 18112.
SHARED_PORTS = {"origin": 8080, "grpc": 8081, "postgres": 18000, "redis": 18001, "demo": 18002}
REPLICA_PORTS = {"gateway": 18100, "auth-server": 18200, "registry": 18300, "worker": 18400}
PORT_OFFSETS = {"listen": 0, "admin": 1, "internal": 2}
# Below the range that the kernel hands out by itself.
FREE_PORTS = range(20000, 32000)


class Layout:
    """The folders and files below one directory."""

    def __init__(self, root: Path):
        self.root = root.absolute()
        self.certs = self.root / "certs"
        self.data = self.root / "data"
        self.logs = self.root / "logs"
        self.run = self.root / "run"
        self.secrets = self.root / "secrets"
        self.settings = self.root / "settings"
        # A file here keeps the balancer from choosing the replica of that name.
        self.out = self.root / "out"
        self.keys = self.secrets / "keys.json"
        self.state = self.root / "state.json"
        self.ready = self.root / "ready.json"

    @property
    def folders(self) -> tuple[Path, ...]:
        return self.certs, self.data, self.logs, self.run, self.secrets, self.settings, self.out

    def refuse_foreign(self):
        """A new platform wants a folder of its own: `down --purge` removes all of it."""
        own = {folder.name for folder in self.folders} | {"lock"}
        foreign = [path.name for path in self.root.iterdir() if path.name not in own] if self.root.is_dir() else []
        if foreign:
            raise Failure(f"{self.root} holds {foreign[0]}, which is no platform's: choose another --dir")

    def make(self):
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in self.folders:
                folder.mkdir(exist_ok=True)
            for private in (self.certs, self.data, self.secrets):
                private.chmod(0o700)
        except OSError as error:
            raise Failure(f"{self.root} cannot be used: {error.strerror}; choose another --dir") from error

    @contextlib.contextmanager
    def lock(self):
        """Keeps two commands on the same directory from running at the same time."""
        with (self.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Failure(f"another command works on {self.root}: wait for it") from error
            yield


def write_private(path: Path, text: str):
    """Writes a file that only its owner reads, in one step."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def replica_names(replicas: int) -> list[str]:
    return [f"{service}-{number}" for service in SERVICES for number in range(1, replicas + 1)]


def service_of(name: str) -> str:
    """The service that a replica's name begins with."""
    return name.rpartition("-")[0]


class State:
    """Ports, secrets and choices of one platform. The next `up` finds the same ones."""

    def __init__(self, values: dict):
        self.replicas: int = values["replicas"]
        self.binaries: str = values["binaries"]
        self.ports: dict[str, int] = values["ports"]
        self.passwords: dict[str, str] = values["passwords"]
        self.account: dict[str, str] = values["account"]
        # Settings that were asked for by --set, and addresses that something else stands in front of (--dial).
        self.sets: list[str] = values.get("sets", [])
        self.dial: dict[str, str] = values.get("dial", {})

    @classmethod
    def new(cls, replicas: int, binaries: str) -> "State":
        passwords = {name: secrets.token_urlsafe(24) for name in ("administrator", "postgres", "redis")}
        account = {"client_id": new_id(), "client_secret": secrets.token_urlsafe(32)}
        return cls({"replicas": replicas, "binaries": binaries, "ports": {}, "passwords": passwords, "account": account})

    @classmethod
    def load(cls, layout: Layout) -> "State | None":
        try:
            return cls(json.loads(layout.state.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError) as error:
            raise Failure(f"{layout.state} is not what `up` wrote: remove {layout.root} and start anew") from error

    def save(self, layout: Layout):
        write_private(layout.state, json.dumps(vars(self), indent=2))

    def wanted_ports(self) -> dict[str, int]:
        """Every port that is needed, with its number where nobody asks for free ones."""
        wanted = dict(SHARED_PORTS)
        for name in replica_names(self.replicas):
            service, number = service_of(name), int(name.rpartition("-")[2])
            for listener in (*LISTENERS[service], "admin"):
                wanted[f"{name}.{listener}"] = REPLICA_PORTS[service] + 10 * number + PORT_OFFSETS[listener]
        return wanted

    def assign_ports(self, free: bool):
        """Gives a number to every port that has none yet."""
        taken = set(self.ports.values())
        for name, usual in self.wanted_ports().items():
            if name not in self.ports:
                self.ports[name] = free_port(taken) if free else usual
                taken.add(self.ports[name])

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.ports['origin']}"

    @property
    def grpc(self) -> str:
        return f"http://{HOST}:{self.ports['grpc']}"

    def address(self, port: str) -> str:
        """Where a port is reached: directly, or through what was put in front of it."""
        return self.dial.get(port, f"{HOST}:{self.ports[port]}")

    def ready(self) -> dict:
        """What the command line needs to know, in the format of `portico dev`."""
        admin = f"http://{HOST}:{self.ports['gateway-1.admin']}"
        who = {"admin_username": "admin", "admin_password": self.passwords["administrator"], **self.account}
        return {"origin": f"{self.origin}/", "grpc": f"{self.grpc}/", "admin": f"{admin}/", **who}


def new_id() -> str:
    """A UUIDv7 (RFC 9562 §5.7): the ids of Portico sort by time."""
    return str(uuid.UUID(int=time.time_ns() // 1_000_000 << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)))


def can_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(taken: set[int]) -> int:
    for port in random.sample(FREE_PORTS, len(FREE_PORTS)):
        if port not in taken and can_listen(port):
            return port
    raise Failure(f"no free port between {FREE_PORTS.start} and {FREE_PORTS.stop}")
