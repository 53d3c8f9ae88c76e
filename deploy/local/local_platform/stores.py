"""Postgres and Redis of this platform alone: on loopback, with passwords, by TLS."""

import hashlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from .failure import Failure
from .layout import HOST, Layout, State, write_private
from .processes import Process, program

START_SECONDS = 30
REDIS_RIGHTS = Path(__file__).parents[2] / "redis-users.acl"
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


def postgres_folders() -> list[str]:
    """Where Debian keeps the servers, the newest first."""
    return sorted((str(path) for path in DEBIAN_POSTGRES.glob("*/bin")), key=lambda path: -int(path.split("/")[-2]))


class Postgres:
    """One cluster. Postgres refuses to run as root: root lends it the user of the Debian package."""

    def __init__(self, layout: Layout, state: State):
        self.layout, self.state = layout, state
        self.user = "postgres" if os.geteuid() == 0 else None
        self.folder = layout.root / "postgres"
        self.data = self.folder / "data"
        self.port = state.ports["postgres"]
        folders = postgres_folders()
        self.initdb = program("initdb", "postgresql-15", *folders)
        server = program("postgres", "postgresql-15", *folders)
        self.createdb = program("createdb", "postgresql-client-15", *folders)
        self.is_ready = program("pg_isready", "postgresql-client-15", *folders)
        options = {
            "port": self.port, "listen_addresses": HOST, "unix_socket_directories": "", "max_connections": 200,
            "ssl": "on", "ssl_cert_file": self.folder / "server.pem", "ssl_key_file": self.folder / "server-key.pem",
        }
        settings = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        # SIGINT is Postgres' fast shutdown: it rolls back what is open and writes a checkpoint.
        self.process = Process(layout, "postgres", [server, "-D", self.data, *settings], self.user, signal.SIGINT)

    def url(self) -> str:
        """By TLS, with the server's certificate checked."""
        password, address = self.state.passwords["postgres"], self.state.address("postgres")
        return f"postgres://portico:{password}@{address}/portico?sslmode=verify-full&sslrootcert={self.layout.certs}/ca.pem"

    def as_server(self, command: list) -> subprocess.CompletedProcess:
        return subprocess.run(list(map(str, command)), user=self.user, group=self.user, cwd="/", capture_output=True, text=True)

    def prepare(self):
        """Makes the cluster on the first start; hands it its certificate on every one."""
        self.folder.mkdir(exist_ok=True)
        for source, name in (("postgres.pem", "server.pem"), ("postgres-key.pem", "server-key.pem")):
            shutil.copyfile(self.layout.certs / source, self.folder / name)
            (self.folder / name).chmod(0o600)
        if self.user:
            for path in (self.folder, self.folder / "server.pem", self.folder / "server-key.pem"):
                shutil.chown(path, self.user, self.user)
            if self.as_server(["test", "-x", self.folder]).returncode:
                raise Failure(f"the user {self.user}, which Postgres runs as, cannot enter {self.folder}: choose another --dir")
        if (self.data / "PG_VERSION").exists():
            return
        password = self.folder / "password"
        write_private(password, self.state.passwords["postgres"])
        if self.user:
            shutil.chown(password, self.user, self.user)
        command = [self.initdb, "-D", self.data, "-U", "portico", "--auth=scram-sha-256", f"--pwfile={password}"]
        made = self.as_server([*command, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])
        password.unlink()
        if made.returncode:
            shutil.rmtree(self.data, ignore_errors=True)
            raise Failure(f"initdb failed:\n{made.stderr}")

    def answers(self) -> bool:
        return not self.as_server([self.is_ready, "-q", "-h", HOST, "-p", self.port]).returncode

    def start(self):
        self.process.start()

    def wait_ready(self):
        self.process.wait_ready(self.answers, START_SECONDS)
        environment = {**os.environ, "PGPASSWORD": self.state.passwords["postgres"], "PGSSLMODE": "require"}
        command = [self.createdb, "-h", HOST, "-p", str(self.port), "-U", "portico", "portico"]
        made = subprocess.run(command, env=environment, capture_output=True, text=True)
        if made.returncode and "already exists" not in made.stderr:
            raise Failure(f"createdb failed: {made.stderr.strip()}")


class Redis:
    """One server that writes nothing to disk: what is in it can be rebuilt."""

    def __init__(self, layout: Layout, state: State):
        self.layout, self.state = layout, state
        self.port = state.ports["redis"]
        self.config = layout.settings / "redis.conf"
        self.client = program("redis-cli", "redis-tools")
        self.process = Process(layout, "redis", [program("redis-server", "redis-server"), self.config])

    def password(self, service: str) -> str:
        """That of the user of a service: nobody finds another one's with it."""
        return hashlib.sha256(f"{self.state.passwords['redis']} {service}".encode()).hexdigest()

    def url(self, service: str) -> str:
        """With the user of a service, which may touch what that service needs."""
        return f"rediss://{service}:{self.password(service)}@{self.state.address('redis')}/0"

    def users(self) -> str:
        """Those of the services, and one for redis-cli."""
        users = [f"user default on >{self.state.passwords['redis']} ~* &* +@all"]
        for line in REDIS_RIGHTS.read_text().splitlines():
            if line.startswith("user "):
                users.append(line.replace(" PASSWORD ", f" >{self.password(line.split()[1])} ", 1))
        return "\n".join(users) + "\n"

    def prepare(self):
        users = self.layout.settings / "redis-users.acl"
        write_private(users, self.users())
        lines = [
            f"bind {HOST}", "port 0", f"tls-port {self.port}", "tls-auth-clients no", "protected-mode yes",
            f"tls-cert-file {self.layout.certs}/redis.pem", f"tls-key-file {self.layout.certs}/redis-key.pem",
            f"tls-ca-cert-file {self.layout.certs}/ca.pem", f"aclfile {users}",
            'save ""', "appendonly no", f"dir {self.layout.run}", "maxmemory 256mb", "maxmemory-policy volatile-ttl",
        ]
        write_private(self.config, "\n".join(lines) + "\n")

    def run(self, *words: str) -> str:
        """What redis-cli answers."""
        command = [self.client, "-h", HOST, "-p", str(self.port), "--tls", "--cacert", str(self.layout.certs / "ca.pem"), *words]
        environment = {**os.environ, "REDISCLI_AUTH": self.state.passwords["redis"]}
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()

    def start(self):
        self.process.start()

    def wait_ready(self):
        self.process.wait_ready(lambda: self.run("ping") == "PONG", START_SECONDS)
