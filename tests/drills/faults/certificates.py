"""Certificates between the services are renewed, or are not."""

import socket
import ssl
import subprocess
import time

from stage import SERVICES, Stage, demand, eventually, get

# How soon a renewed certificate has to be in use.
RELOAD_SECONDS = 15


def served(stage: Stage, name: str) -> bytes:
    """The certificate that an internal listener shows, in DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certs = stage.platform.layout.certs
    context.load_cert_chain(certs / "gateway.pem", certs / "gateway-key.pem")
    with socket.create_connection(("127.0.0.1", stage.platform.state.ports[f"{name}.internal"]), 5) as plain:
        with context.wrap_socket(plain) as connection:
            return connection.getpeercert(binary_form=True)


def issue(stage: Stage, service: str):
    certs = stage.platform.layout.certs
    stage.platform.tool("certs", "issue", "--dir", certs, service, "--dns", "localhost", "--dns", service, "--ip", "127.0.0.1")


def in_der(stage: Stage, service: str) -> bytes:
    """The leaf that lies in a service's file."""
    first, _, _ = (stage.platform.layout.certs / f"{service}.pem").read_text().partition("-----END CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(f"{first}-----END CERTIFICATE-----\n")


def await_renewed(stage: Stage) -> float:
    """Waits until every internal listener shows what lies in its file; answers the seconds of the slowest."""
    listeners = [name for service in ("registry", "auth-server") for name in stage.replicas(service)]
    return max(
        eventually(
            f"{name} shows its renewed certificate",
            lambda name=name: served(stage, name) == in_der(stage, name.rpartition("-")[0]),
            RELOAD_SECONDS,
        )
        for name in listeners
    )


def rotated(stage: Stage) -> str:
    """All certificates are issued anew under load: no restart, no failed call, and the new ones are in use."""
    load = stage.load(rate=300, seconds=600)
    try:
        time.sleep(1)
        for service in SERVICES:
            issue(stage, service)
        slowest = await_renewed(stage)
        # Connections made now use the new ones on both sides.
        cut_links(stage)
        endpoint = stage.next_name()
        stage.register(endpoint)
        stage.platform.portico("server", "delete", endpoint)
    finally:
        load.finish()
    result = load.unfailing()
    load.check_records()
    return f"4 certificates renewed, in use after {slowest:.1f} s without a restart; 0 of {result['calls']} calls failed"


def cut_links(stage: Stage):
    """Restarts the registries, so that everybody has to dial them anew."""
    for name in stage.replicas("registry"):
        stage.platform.restart(name)


def expired(stage: Stage) -> str:
    """The registry's certificate expires: agents keep working, and issuing it anew is all that has to be done."""
    platform, certs = stage.platform, stage.platform.layout.certs
    good = {name: (certs / name).read_bytes() for name in ("registry.pem", "registry-key.pem")}
    load = stage.load(rate=200, seconds=600)
    try:
        time.sleep(1)
        expire(stage, "registry")
        await_renewed(stage)
        # A gateway that starts now finds nobody to believe: it has its copies.
        platform.restart("gateway-1")
        # A registry does not start with it, and says why.
        registry = platform.process("registry-1")
        registry.kill()
        registry.start()
        demand(registry.ended(20), "a registry started with an expired certificate")
        demand("has expired" in registry.tail(), f"the registry does not say why it ended:\n{registry.tail()}")
        time.sleep(3)
        for name, content in good.items():
            (certs / name).write_bytes(content)
        begin = time.monotonic()
        platform.start("registry-1")
        endpoint = stage.next_name()
        stage.register(endpoint)
        await_renewed(stage)
        recovered = time.monotonic() - begin
        platform.portico("server", "delete", endpoint)
        callers_expired(stage)
    finally:
        for name, content in good.items():
            (certs / name).write_bytes(content)
        load.finish()
    result = load.unfailing()
    load.check_records()
    return (f"the registry's certificate expired, a gateway was restarted meanwhile, then the gateways' expired: 0 of {result['calls']} calls "
            f"failed; after issuing the registry's anew everything was well within {recovered:.1f} s")


def callers_expired(stage: Stage):
    """Callers show what lies in their files as well: no registry lets gateways in whose certificate has expired."""
    certs = stage.platform.layout.certs
    good = {name: (certs / name).read_bytes() for name in ("gateway.pem", "gateway-key.pem")}
    try:
        with_new_files(stage, lambda: expire(stage, "gateway"))
        cut_links(stage)
        eventually("a registry refuses the gateways", lambda: any(refuses_expired(stage, name) for name in stage.replicas("registry")))
    finally:
        with_new_files(stage, lambda: [(certs / name).write_bytes(content) for name, content in good.items()])
    # They follow the catalogue again.
    endpoint = stage.next_name()
    stage.register(endpoint)
    stage.platform.portico("server", "delete", endpoint)


def with_new_files(stage: Stage, write):
    """Writes the gateways' certificate and waits until both have read it for both of their links."""

    def read(name: str) -> int:
        return stage.platform.process(name).tail(100_000).count("certificates were renewed")

    before = {name: read(name) for name in stage.replicas("gateway")}
    write()
    for name, count in before.items():
        eventually(f"{name} reads its certificate", lambda name=name, count=count: read(name) >= count + 2, 2 * RELOAD_SECONDS)


def refuses_expired(stage: Stage, name: str) -> bool:
    _, page = get(stage.platform.admin_url(name, "/metrics"))
    return b'portico_registry_refused_peers_total{reason="certificate_expired"}' in page


def expire(stage: Stage, service: str):
    """A certificate of the same CA and names whose time is over. `portico certs` makes none, for good reason."""
    certs = stage.platform.layout.certs
    key, request, made = (stage.work / f"expired{suffix}" for suffix in ("-key.pem", ".csr", ".pem"))
    extensions = stage.work / "expired.cnf"
    extensions.write_text(
        f"subjectAltName=URI:spiffe://portico/{service},DNS:localhost,DNS:{service},IP:127.0.0.1\n"
        "extendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n")
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    openssl("req", "-new", "-key", key, "-subj", f"/CN={service}", "-out", request)
    authority = ["-CA", certs / "ca.pem", "-CAkey", certs / "ca-key.pem", "-CAserial", stage.work / "serial", "-CAcreateserial"]
    # The day before yesterday, for one day.
    openssl("x509", "-req", "-in", request, *authority, "-extfile", extensions, "-days", "-1", "-out", made)
    for source, name in ((key, f"{service}-key.pem"), (made, f"{service}.pem")):
        (certs / name).write_bytes(source.read_bytes())


def openssl(*words):
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True)
    demand(done.returncode == 0, f"openssl {words[0]}: {done.stderr.strip()}")
