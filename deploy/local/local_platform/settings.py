"""The settings file of every process."""

import json
from pathlib import Path

from .failure import Failure
from .layout import HOST, LISTENERS, Layout, State, replica_names, service_of, write_private
from .stores import Postgres, Redis

PEERS = {
    "gateway": ("registry", "auth-server"),
    "auth-server": ("registry",),
    "registry": ("auth-server",),
    "worker": ("registry",),
}
# The role of the command line's service account.
ACCOUNT_NAME = "portico-local"


def toml(table: dict, path: str = "") -> str:
    """A table and those below it. A dictionary named `file` alone is an inline one: a secret that is read from a file."""
    plain, tables = [], []
    for key, value in table.items():
        if isinstance(value, dict) and set(value) != {"file"}:
            tables.append(toml(value, f"{path}{key}."))
        elif isinstance(value, dict):
            plain.append(f"{key} = {{ file = {json.dumps(str(value['file']))} }}")
        else:
            plain.append(f"{key} = {json.dumps(str(value) if isinstance(value, Path) else value)}")
    heading = [f"[{path.removesuffix('.')}]"] if path and plain else []
    return "\n".join([*heading, *plain, *tables]) + "\n"


def put(table: dict, path: str, value):
    """Sets `a.b.c`."""
    *parents, key = path.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
    table[key] = value


class Settings:
    """Renders them all from what the platform remembers."""

    def __init__(self, layout: Layout, state: State):
        self.layout, self.state = layout, state
        self.database_url = layout.secrets / "database-url"

    def file(self, name: str) -> Path:
        return self.layout.settings / f"{name}.toml"

    def redis_url(self, service: str) -> Path:
        return self.layout.secrets / f"redis-url-{service}"

    def write(self, names: list[str], postgres: Postgres, redis: Redis):
        write_private(self.database_url, postgres.url())
        for service in PEERS:
            write_private(self.redis_url(service), redis.url(service))
        for key, name in (("administrator", "administrator-password"), ("client_secret", "client-secret")):
            write_private(self.layout.secrets / name, self.state.passwords.get(key) or self.state.account[key])
        write_private(self.file("migrator"), toml(self.migrator()))
        for name in names:
            table = self.service(name)
            self.apply_sets(name, table)
            write_private(self.file(name), toml(table))

    def apply_sets(self, name: str, table: dict):
        """What was asked for: `SERVICE:key=value`, the value in JSON or as plain text."""
        for text in self.state.sets:
            target, _, rest = text.partition(":")
            key, equals, value = rest.partition("=")
            if not equals:
                raise Failure(f"--set {text}: write it as SERVICE:section.key=value")
            if target in (name, service_of(name)):
                try:
                    put(table, key, json.loads(value))
                except ValueError:
                    put(table, key, value)

    def service(self, name: str) -> dict:
        service, state, layout = service_of(name), self.state, self.layout
        address = {listener: f"{HOST}:{state.ports[f'{name}.{listener}']}" for listener in (*LISTENERS[service], "admin")}
        peers = {peer.replace("-", "_"): self.every_replica(peer) for peer in PEERS[service]}
        certificate = {"cert": layout.certs / f"{service}.pem", "key": layout.certs / f"{service}-key.pem"}
        table = {
            "public_origin": state.origin,
            "admin_listen": address["admin"],
            "data_dir": layout.data / name,
            "keys": {"file": str(layout.keys)},
            "coordination": {"redis_url": {"file": self.redis_url(service)}, "ca": layout.certs / "ca.pem"},
            "tls": {**certificate, "ca": layout.certs / "ca.pem"},
            "peers": peers,
            # Servers of one's own on this machine are what a local platform is for.
            "outbound": {"allow_private": True},
        }
        if service != "worker":
            # Whoever comes through the balancer is limited under an address of their own.
            proxies = {"trusted_proxies": [f"{HOST}/32"]}
            table |= {"listen": address["listen"], "http": proxies}
        if "internal" in address:
            table |= {"internal_listen": address["internal"], "database": {"url": {"file": self.database_url}}}
        if service == "auth-server":
            table["auth_server"] = {"grpc_origin": state.grpc}
        if service == "gateway":
            table["gateway"] = {"allow_loopback_origins": True}
        return table

    def every_replica(self, service: str) -> str:
        """The internal listeners of a service; whoever calls it turns to another one by itself."""
        return ",".join(self.state.address(f"{name}.internal") for name in replica_names(self.state.replicas) if service_of(name) == service)

    def migrator(self) -> dict:
        url = {"url": {"file": self.database_url}}
        secrets = self.layout.secrets
        account = {"name": ACCOUNT_NAME, "client_id": self.state.account["client_id"]}
        return {
            "auth_server": url,
            "registry": url,
            "administrator": {"password": {"file": secrets / "administrator-password"}},
            "service_account": {**account, "client_secret": {"file": secrets / "client-secret"}},
        }
