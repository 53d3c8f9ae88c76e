"""compose.yaml, run: its images, its settings, its order, its networks, its secrets."""

import http.server
import json
import os
import pathlib
import subprocess
import threading
import urllib.request

import pytest

from composition import Composition, until
from containers import BINARIES

POSTGRES = os.environ.get("PORTICO_TEST_POSTGRES_URL", "")
pytestmark = pytest.mark.skipif(not (BINARIES and POSTGRES), reason="no built programs, or no database, were given")


@pytest.fixture(scope="module")
def running(podman, tmp_path_factory):
    running = Composition(podman, tmp_path_factory.mktemp("compose"), POSTGRES)
    try:
        running.up()
        until(lambda: answers(running))
        yield running
    finally:
        # Shown when a test fails.
        for name in podman("ps", "--all", "--format={{.Names}}").stdout.split():
            print(f"--- {name}\n{podman('logs', '--tail=5', name, check=False).stderr}")
        running.down()


def answers(running):
    try:
        with urllib.request.urlopen(f"{running.origin}/.well-known/portico", timeout=5) as answer:
            return json.load(answer)["issuer"].rstrip("/") == running.origin
    except OSError:
        return False


def until_done(command):
    """Runs a command until it succeeds."""
    done = []
    try:
        until(lambda: done.append(command()) or done[-1].returncode == 0)
    except AssertionError:
        raise AssertionError(done[-1].stderr) from None


def portico(running, *arguments):
    command = [pathlib.Path(BINARIES) / "portico", "--ready-file", running.ready_file(), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


class McpServer(http.server.BaseHTTPRequestHandler):
    """A server with one tool, in a network where Portico's own demo server would refuse to be."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        result = {
            "initialize": {
                "protocolVersion": request.get("params", {}).get("protocolVersion"),
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "stand-in", "version": "1"},
            },
            "tools/list": {"tools": [{"name": "greet", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [{"type": "text", "text": "good morning"}]},
        }.get(request.get("method"), {})
        answer = json.dumps({"jsonrpc": "2.0", "id": request.get("id"), "result": result}).encode()
        self.send_response(200 if "id" in request else 202)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer) if "id" in request else 0))
        self.end_headers()
        if "id" in request:
            self.wfile.write(answer)

    def do_GET(self):
        self.send_error(405)

    def log_message(self, *arguments):
        pass


def greeted(running):
    called = portico(running, "call", "greeter", "greet")
    assert called.returncode == 0, called.stderr
    return "good morning" in called.stdout


def test_s0_24_s2_40_an_agent_calls_through_what_compose_starts(running):
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), McpServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # In a private network, which the settings allow.
    url = f"http://{running.gateways['outside']}:{server.server_port}/mcp"
    registered = portico(running, "server", "register", "greeter", "--url", url)
    assert registered.returncode == 0, registered.stderr
    until_done(lambda: portico(running, "call", "greeter"))
    # Both replicas of the gateway, and then the one that is left.
    assert all(greeted(running) for _ in range(3))
    running.podman("kill", "gateway-1")
    assert all(greeted(running) for _ in range(3))


def test_jobs_run_again_and_change_nothing_that_lasts(running):
    for job in ("certificate-authority", "key-ring", "certificates-gateway", "migrator"):
        again = running.podman("start", "--attach", f"{job}-1", check=False)
        assert again.returncode == 0, f"{job}: {again.stderr}"


def test_a_service_that_stops_drains_and_exits_0(running):
    running.podman("stop", "--time=35", "gateway-2")
    (found,) = json.loads(running.podman("inspect", "gateway-2").stdout)
    assert found["State"]["ExitCode"] == 0
