"""compose.yaml in containers, without compose: its services as they stand there, in its order, on its networks.

Postgres, Redis and HAProxy are this machine's, because tests fetch no images; Redis and HAProxy with the settings of
deploy/compose. What the containers see of them is their name.
"""

import contextlib
import json
import os
import random
import re
import socket
import subprocess
import time
import uuid

import yaml

from rendering import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
# Images that tests do not fetch.
ELSEWHERE = {"postgres", "redis", "balancer"}


def until(condition, seconds=60):
    """Waits for what takes its time on another machine or in another process."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.3)


def free_port():
    """Outside the range that the system hands out by itself, so that nobody is given it before its server has it."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


class Composition:
    """Everything that runs, until it is closed."""

    def __init__(self, podman, directory, postgres):
        self.podman = podman
        self.directory = directory
        self.postgres = postgres
        self.processes = []
        self.origin_port = free_port()
        self.origin = f"http://127.0.0.1:{self.origin_port}"
        self.account = {"client_id": str(uuid.uuid4()), "client_secret": "s" * 43}
        self.variables = {"PORTICO_VERSION": "test", "PORTICO_ORIGIN": self.origin}
        self.gateways = {}
        self.bridges = {}

    def up(self):
        subprocess.run([DEPLOY / "compose" / "secrets.sh", self.directory / "secrets"], check=True, capture_output=True)
        self.make_networks()
        self.start_stores()
        for name in self.order():
            self.start(name)
        self.start_balancer()

    def order(self):
        """Services after what they depend on."""
        found = []

        def visit(name):
            for other in COMPOSE["services"][name].get("depends_on", {}):
                visit(other)
            if name not in found and name not in ELSEWHERE:
                found.append(name)

        for name in COMPOSE["services"]:
            visit(name)
        return found

    def make_networks(self):
        for name, network in COMPOSE["networks"].items():
            options = ["--internal"] if network.get("internal") else []
            options += [f"--subnet={self.filled(c['subnet'])}" for c in network.get("ipam", {}).get("config", [])]
            self.podman("network", "create", *options, f"portico-{name}")
            (found,) = json.loads(self.podman("network", "inspect", f"portico-{name}").stdout)
            self.gateways[name] = found["subnets"][0]["gateway"]
            self.bridges[name] = found["network_interface"]
        self.variables["PORTICO_OUTBOUND"] = f"{self.gateways['outside']}/32"

    def start_stores(self):
        secrets = self.directory / "secrets"
        port = int(re.search(r":(\d+)/", self.postgres).group(1))
        self.database = f"compose_{os.getpid()}"
        self.sql(f"create database {self.database}")
        seen = self.forward("postgres", port)
        url = (secrets / "database-url").read_text()
        (secrets / "database-url").write_text(url.replace(":5432/portico", f":{seen}/{self.database}"))

        port = free_port()
        (self.directory / "redis").mkdir()
        text = (DEPLOY / "compose" / "redis.conf").read_text()
        text = text.replace("/run/secrets", str(secrets)).replace("dir /data", f"dir {self.directory}/redis")
        (self.directory / "redis.conf").write_text(f"{text}\nport {port}\n")
        self.process("redis-server", self.directory / "redis.conf")
        for path in secrets.glob("redis-url-*"):
            path.write_text(path.read_text().replace(":6379", f":{port}"))
        check = ["redis-cli", "-p", str(port), *COMPOSE["services"]["redis"]["healthcheck"]["test"][2:]]
        until(lambda: "PONG" in subprocess.run(check, capture_output=True, text=True).stdout)

    def forward(self, name, target):
        """A port of every address of this machine that leads to one of its loopback address."""
        port = free_port()
        (self.directory / f"{name}.cfg").write_text(
            f"defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
            f"listen {name}\n bind :{port}\n server {name} 127.0.0.1:{target}\n"
        )
        self.process("haproxy", "-db", "-f", self.directory / f"{name}.cfg")
        return port

    def sql(self, statement):
        subprocess.run(["psql", "--quiet", self.postgres, "--command", statement], check=True, capture_output=True)

    def filled(self, text):
        """A text with its variables: ${NAME:-default} and ${NAME:?message}."""
        return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", lambda m: self.variables.get(m[1]) or (m[3] if m[2] == "-" else ""), text)

    def start(self, name):
        found = COMPOSE["services"][name]
        for replica in range(found["deploy"].get("replicas", 1)):
            container = f"{name}-{replica + 1}"
            arguments = [f"--name={container}", *self.options(name, found), *found["command"]]
            if found["restart"] == "no":
                self.podman("run", *arguments)
            else:
                self.podman("run", "--detach", *arguments)
                for network in found["networks"]:
                    self.podman.fix_address(self.bridges[network])

    def healthy(self, name):
        """Whether all replicas pass the health check that compose would make."""
        found = COMPOSE["services"][name]
        check = found["healthcheck"]["test"][1:]
        replicas = range(1, found["deploy"]["replicas"] + 1)
        return all(self.podman("exec", f"{name}-{n}", *check, check=False).returncode == 0 for n in replicas)

    def options(self, name, found):
        for other, needed in found.get("depends_on", {}).items():
            condition = needed["condition"]
            if condition == "service_healthy" and other not in ELSEWHERE:
                until(lambda other=other: self.healthy(other))
        limits = found["deploy"]["resources"]["limits"]
        networks = ",".join(f"portico-{n}" for n in found.get("networks", [])) or found["network_mode"]
        yield from [f"--user={found['user']}", "--read-only", "--read-only-tmpfs=false"]
        yield from [f"--cap-drop={capability}" for capability in found["cap_drop"]]
        yield from [f"--security-opt={option.split(':')[0]}" for option in found["security_opt"]]
        yield from [f"--cpus={limits['cpus']}", f"--memory={limits['memory']}", f"--pids-limit={limits['pids']}"]
        yield f"--network={networks}"
        if networks != "none":
            yield f"--network-alias={name}"
        for store in ("postgres", "redis"):
            if store in found.get("networks", []):
                yield f"--add-host={store}:{self.gateways[store]}"
        for key, value in (found.get("environment", {}) | self.further(name)).items():
            yield f"--env={key}={self.filled(value)}"
        for config in found.get("configs", []):
            source = DEPLOY / COMPOSE["configs"][config["source"]]["file"]
            yield f"--volume={source}:{config['target']}:ro"
        for secret in found.get("secrets", []):
            yield f"--volume={self.directory}/secrets/{secret}:/run/secrets/{secret}:ro"
        for volume in found.get("volumes", []):
            yield f"--volume={volume if volume.startswith('/') else 'portico-' + volume}"
        for tmpfs in found.get("tmpfs", []):
            # podman has no option for its owner; a volume has the image's.
            yield f"--volume={tmpfs.split(':')[0]}"
        yield self.podman.image(self.filled(found["image"]).rsplit("/", 1)[1].split(":")[0])

    def further(self, name):
        """An administrator for the command line, which is nobody who could sign in with a browser."""
        if name != "migrator":
            return {}
        return {
            "PORTICO_SERVICE_ACCOUNT__NAME": "test",
            "PORTICO_SERVICE_ACCOUNT__CLIENT_ID": self.account["client_id"],
            "PORTICO_SERVICE_ACCOUNT__CLIENT_SECRET": self.account["client_secret"],
        }

    def start_balancer(self):
        for name in COMPOSE["services"]["balancer"]["depends_on"]:
            until(lambda name=name: self.healthy(name))
        text = (DEPLOY / "compose" / "haproxy.cfg").read_text()
        # Fewer than the files that this machine lets it open.
        text = text.replace("maxconn 20000", "maxconn 500").replace("bind :8080", f"bind 127.0.0.1:{self.origin_port}")
        text = text.replace("127.0.0.1:8404", f"127.0.0.1:{free_port()}")
        (self.directory / "haproxy.cfg").write_text(text)
        resolver = f"{self.gateways['public']}:53"
        self.process("haproxy", "-db", "-f", self.directory / "haproxy.cfg", PORTICO_BIND="", PORTICO_RESOLVER=resolver)

    def process(self, *command, **environment):
        log = (self.directory / f"{command[0]}.log").open("a")
        self.processes.append(subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log))

    def ready_file(self):
        """What the command line reads of a deployment that it did not start."""
        path = self.directory / "ready.json"
        password = (self.directory / "secrets" / "administrator-password").read_text().strip()
        ready = {"origin": self.origin, "grpc": self.origin, "admin": self.origin}
        ready |= {"admin_username": "admin", "admin_password": password} | self.account
        path.write_text(json.dumps(ready))
        path.chmod(0o600)
        return path

    def down(self):
        for process in self.processes:
            process.terminate()
            process.wait()
        self.podman("rm", "--all", "--force", "--time=2", "--volumes", check=False)
        self.podman("volume", "prune", "--force", check=False)
        for name in COMPOSE["networks"]:
            self.podman("network", "rm", "--force", f"portico-{name}", check=False)
        self.sql(f"drop database if exists {self.database} with (force)")
