"""The balancer of compose.yaml, started with its own settings in front of stand-ins for the services."""

import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import pytest

from composition import free_port
from rendering import GRAPH, ROOT

CONFIG = ROOT / "deploy" / "compose" / "haproxy.cfg"
ENVIRONMENT = os.environ | {"PORTICO_RESOLVER": "127.0.0.1:9", "PORTICO_BIND": ""}


def test_haproxy_accepts_the_settings():
    subprocess.run(["haproxy", "-c", "-q", "-f", CONFIG], check=True, env=ENVIRONMENT)


def test_s1_02_tls_ends_at_the_balancer_when_it_is_asked_for(tmp_path):
    pem = tmp_path / "origin.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-subj", "/CN=portico.example", "-keyout", pem, "-out", tmp_path / "cert.pem"],
        check=True,
        capture_output=True,
    )
    pem.write_text(pem.read_text() + (tmp_path / "cert.pem").read_text())
    bind = ENVIRONMENT | {"PORTICO_BIND": f"ssl crt {pem} alpn h2,http/1.1"}
    subprocess.run(["haproxy", "-c", "-q", "-f", CONFIG], check=True, env=bind)


class Service(http.server.ThreadingHTTPServer):
    """Says its name; its readiness is a flag."""

    def __init__(self, name):
        super().__init__(("127.0.0.1", 0), Answer)
        self.name = name
        self.ready = True
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A check that has its status does not wait for the rest."""


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        checked = self.path == "/readyz"
        self.send_response(503 if checked and not self.server.ready else 200)
        self.end_headers()
        said = {"service": self.server.name, "client": self.headers.get_all("X-Forwarded-For")}
        self.wfile.write(b"" if checked else json.dumps(said).encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def balanced(tmp_path):
    """The balancer's address, and two replicas of each service."""
    services = {name: [Service(name), Service(name)] for name in ("gateway", "auth-server", "registry")}
    text = CONFIG.read_text()
    port, health_port = free_port(), free_port()
    # Fewer than the files that a developer's machine lets it open.
    text = text.replace("maxconn 20000", "maxconn 200").replace("sc0_conn_cur gt 1000", "sc0_conn_cur gt 20").replace("bind :8080", f"bind 127.0.0.1:{port}").replace("127.0.0.1:8404", f"127.0.0.1:{health_port}")

    def addresses(found):
        """Two addresses in the place of a name, each asked for its readiness on its own port."""
        name, protocol = found.group(1), found.group(2)
        lines = [
            f"    server replica{n} 127.0.0.1:{s.server_port} port {s.server_port}{protocol}"
            for n, s in enumerate(services[name])
        ]
        return "\n".join(lines)

    text = re.sub(r"^    server-template replica 8 ([a-z-]+):8080(.*)$", addresses, text, flags=re.MULTILINE)
    text = text.replace("check port 9090 ", "check ").replace("resolvers names init-addr none", "")
    config = tmp_path / "haproxy.cfg"
    config.write_text(text)
    process = subprocess.Popen(["haproxy", "-db", "-q", "-f", config], env=ENVIRONMENT)
    try:
        origin = f"http://127.0.0.1:{port}"
        until(lambda: fetch(origin, "/mcp") == "gateway")
        yield origin, services
    finally:
        process.terminate()
        process.wait()


def fetch(origin, path):
    try:
        with urllib.request.urlopen(origin + path, timeout=5) as answer:
            return json.load(answer)["service"]
    except (urllib.error.URLError, ConnectionError, TimeoutError, ValueError):
        return None


def until(condition):
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.05)


def test_s1_03_paths_reach_their_service(balanced):
    origin, _ = balanced
    for service, paths in GRAPH["paths"].items():
        for path in paths:
            if path != "/.well-known/portico":
                assert fetch(origin, f"{path}/x") == service, path
    for path in ["/.well-known/portico", "/login", "/account"]:
        assert fetch(origin, path) == "auth-server"
    # An endpoint's name may begin like a path of another service.
    for path in ["/mcp", "/demo/mcp", "/login-tools/mcp", "/v0x/mcp", "/.well-known/oauth-protected-resource/mcp"]:
        assert fetch(origin, path) == "gateway", path


def test_a_client_says_nothing_about_its_own_address(balanced):
    origin, _ = balanced
    request = urllib.request.Request(f"{origin}/login", headers={"X-Forwarded-For": "192.0.2.1"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert json.load(answer)["client"] == ["127.0.0.1"]


def test_one_address_takes_not_all_connections_and_others_are_served(balanced):
    origin, _ = balanced
    address = ("127.0.0.1", urllib.parse.urlsplit(origin).port)

    def answers(source):
        try:
            with socket.create_connection(address, timeout=5, source_address=(source, 0)) as connection:
                connection.sendall(b"GET /mcp HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                return b" 200 " in connection.recv(16)
        except ConnectionError:
            return False

    held = []

    def full():
        # HAProxy counts one that it is about to reject, so of several at once it may reject too many.
        held.append(socket.socket())
        held[-1].connect_ex(address)
        return not answers("127.0.0.1")

    assert answers("127.0.0.1")
    until(full)
    assert len(held) >= 20
    assert answers("127.0.0.2")
    for connection in held:
        connection.close()
    until(lambda: answers("127.0.0.1"))


def test_what_needs_no_token_is_not_reached_from_outside(balanced):
    origin, _ = balanced
    for path in ["/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]:
        assert fetch(origin, path) == "gateway", "which has no such path"


def test_s0_30_a_replica_that_drains_or_is_gone_gets_nothing(balanced):
    origin, services = balanced
    first, second = services["gateway"]
    first.name, second.name = "first", "second"
    until(lambda: {fetch(origin, "/mcp") for _ in range(4)} == {"first", "second"})
    first.ready = False
    until(lambda: {fetch(origin, "/mcp") for _ in range(6)} == {"second"})
    first.ready = True
    until(lambda: {fetch(origin, "/mcp") for _ in range(4)} == {"first", "second"})
    first.shutdown()
    first.server_close()
    # Refused connections are tried elsewhere, at once: nobody sees them.
    assert {fetch(origin, "/mcp") for _ in range(20)} == {"second"}


def test_the_balancer_takes_the_paths_of_the_graph():
    text = pathlib.Path(CONFIG).read_text()
    for paths in GRAPH["paths"].values():
        for path in paths:
            assert re.search(rf"^ +acl .*\s{re.escape(path)}/?(\s|$)", text, re.MULTILINE), path
