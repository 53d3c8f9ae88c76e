"""What the benchmark runs and reads: processes pinned to a core, the three proxies, CPU time and memory from /proc."""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).parent
PROXY_CORE, LOAD_CORE = "0", "1"
TICKS = os.sysconf("SC_CLK_TCK")
# Limits are evaluated for every call and reached by none.
UNREACHED = str(2**32 - 1)


def free_port():
    """Outside the range that the system hands out by itself, so that nobody is given it before its server has it."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def wait_until(what, check, seconds=30):
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not after {seconds} s")
        time.sleep(0.05)


def listening(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Process:
    """A child on one core, ended with the benchmark."""

    def __init__(self, stack, core, command, log, env=None):
        with open(log, "w") as sink:
            pinned = ["taskset", "-c", core, *map(str, command)]
            self.child = subprocess.Popen(pinned, stdout=sink, stderr=sink, env=env)
        stack.callback(self.stop)

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(15)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Target:
    """What is measured: where it listens, which process it is."""

    name = url = pid = None

    def __init__(self, name, url, pid):
        self.name, self.url, self.pid = name, url, pid

    def family(self):
        """The process and its children: nginx works in one of them."""
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [str(self.pid), *children]

    def cpu_seconds(self):
        def of(pid):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            return (int(fields[11]) + int(fields[12])) / TICKS

        return sum(of(pid) for pid in self.family())

    def rss_mb(self):
        def of(pid):
            lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

        return sum(of(pid) for pid in self.family()) * 1024 / 1e6

    def tokens(self, count):
        """Access tokens, one for each session; none for a proxy that asks for none."""
        return []

    def recorded(self):
        """Tool calls in the audit record; None where there is no such thing."""
        return None


class Nginx(Target):
    def __init__(self, stack, work, upstream, _binaries):
        port = free_port()
        config = (HERE / "nginx.conf").read_text()
        config = config.replace("RUN_DIR", str(work)).replace("8080", str(port)).replace("9001", str(upstream))
        (work / "nginx.conf").write_text(config)
        nginx = Process(stack, PROXY_CORE, ["nginx", "-c", work / "nginx.conf"], work / "nginx.log")
        wait_until("nginx listens", lambda: listening(port))
        super().__init__("nginx", f"http://127.0.0.1:{port}/mcp", nginx.child.pid)


class Floor(Target):
    def __init__(self, stack, work, upstream, binaries):
        port = free_port()
        addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{upstream}"]
        floor = Process(stack, PROXY_CORE, [binaries / "floor-proxy", *addresses], work / "floor.log")
        wait_until("floor-proxy listens", lambda: listening(port))
        super().__init__("hyper proxy", f"http://127.0.0.1:{port}/mcp", floor.child.pid)


class Portico(Target):
    """`portico dev` as anybody starts it; only the limits are out of reach."""

    def __init__(self, stack, work, upstream, binaries, core=PROXY_CORE):
        port, admin, ready = free_port(), free_port(), work / "ready.json"
        env = dict(os.environ, PORTICO_ADMIN_LISTEN=f"127.0.0.1:{admin}")
        for limit in ["PRINCIPAL_PER_MINUTE", "PRINCIPAL_BURST", "GLOBAL_PER_MINUTE", "GLOBAL_BURST"]:
            env[f"PORTICO_GATEWAY__LIMITS__{limit}"] = UNREACHED
        self.data, self.admin, self.binary, self.ready = work / "data", admin, binaries / "portico", ready
        dev = [self.binary, "dev", "--listen", f"127.0.0.1:{port}", "--data-dir", self.data, "--ready-file", ready]
        process = Process(stack, core, dev, work / "portico.log", env)
        wait_until("portico dev is ready", lambda: ready.exists() and ready.stat().st_size > 0)
        self.info = json.loads(ready.read_text())
        self.origin = self.info["origin"].rstrip("/")
        super().__init__("portico", f"{self.origin}/bench/mcp", process.child.pid)
        if upstream:
            self.register(upstream)

    def register(self, upstream):
        register = [self.binary, "--ready-file", self.ready, "server", "register", "bench"]
        url = f"http://127.0.0.1:{upstream}/mcp"
        subprocess.run([*register, "--url", url], check=True, stdout=subprocess.DEVNULL)
        wait_until("the endpoint is routed", self.is_routed)

    def is_routed(self):
        """Both have heard of the endpoint: the auth-server gives a token for it, the gateway minds only the body."""
        try:
            [token] = self.tokens(1)
        except urllib.error.HTTPError:
            return False
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            urllib.request.urlopen(urllib.request.Request(self.url, b"{}", headers), timeout=10)
        except urllib.error.HTTPError as refusal:
            return refusal.code == 400
        return True

    def tokens(self, count):
        form = {"grant_type": "client_credentials", "resource": self.url, "scope": "mcp"}
        form |= {"client_id": self.info["client_id"], "client_secret": self.info["client_secret"]}
        form = urllib.parse.urlencode(form).encode()

        def token():
            with urllib.request.urlopen(f"{self.origin}/oauth2/token", form, timeout=10) as answer:
                return json.load(answer)["access_token"]

        return [token() for _ in range(count)]

    def database(self):
        return self.data / "registry.db"

    def recorded(self):
        """Read as another process would see it: only what is committed counts."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM audit WHERE action = 'tools/call'").fetchone()[0]

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))

    def pending_bytes(self):
        """What the spool holds and the registry has not acknowledged."""
        return self.metric("portico_gateway_audit_pending_bytes")


STARTERS = {"nginx": Nginx, "hyper": Floor, "portico": Portico}
