"""Who may talk to whom: the same edges in the policies, in the settings and in the security groups."""

import re

import pytest

from rendering import GRAPH, ROOT, SERVICES, release

PUBLIC, INTERNAL, ADMIN = (GRAPH["ports"][name] for name in ("public", "internal", "admin"))

# Said once more, by hand: a change of the graph is a change of what an intruder can reach.
EDGES = {
    ("gateway", "auth-server"),
    ("gateway", "registry"),
    ("worker", "registry"),
    ("auth-server", "registry"),
    ("registry", "auth-server"),
}
STORES = {
    ("auth-server", "postgres"),
    ("registry", "postgres"),
    ("migrator", "postgres"),
    ("auth-server", "redis"),
    ("gateway", "redis"),
    ("registry", "redis"),
    ("worker", "redis"),
}
OUTSIDE = {"auth-server", "gateway", "worker"}


def policies(name):
    return {
        o["metadata"]["labels"].get("app.kubernetes.io/component"): o["spec"]
        for o in release(name).all("NetworkPolicy")
    }


def component(peer):
    """The service that a peer of a policy is, if it is one of this release."""
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    if set(peer) != {"podSelector"} or "app.kubernetes.io/instance" not in labels:
        return None
    return labels["app.kubernetes.io/component"]


def edges(name, direction):
    """(service, peer, port) of every rule between services of the release."""
    ends = {"ingress": "from", "egress": "to"}[direction]
    return {
        (service, component(peer), port["port"])
        for service, spec in policies(name).items()
        for rule in spec.get(direction, [])
        for peer in rule.get(ends, [])
        for port in rule["ports"]
        if component(peer)
    }


def test_the_graph_is_what_was_decided():
    nodes = GRAPH["services"]
    assert {(s, p) for s, node in nodes.items() for p in node.get("peers", [])} == EDGES
    assert {(s, p) for s, node in nodes.items() for p in node.get("stores", [])} == STORES
    assert {s for s, node in nodes.items() if node.get("outside")} == OUTSIDE


@pytest.mark.parametrize("name", ["minimal", "full"])
def test_s2_38_s3_60_the_policies_allow_the_edges_of_the_graph_and_none_more(name):
    assert edges(name, "egress") == {(caller, peer, INTERNAL) for caller, peer in EDGES}
    assert edges(name, "ingress") == {(peer, caller, INTERNAL) for caller, peer in EDGES}


@pytest.mark.parametrize("name", ["minimal", "full"])
def test_s2_38_everything_else_is_denied(name):
    found = policies(name)
    deny = found.pop(None)
    assert set(found) == {*SERVICES, "migrator"}
    assert set(deny) == {"podSelector", "policyTypes"}
    for spec in [deny, *found.values()]:
        assert spec["policyTypes"] == ["Ingress", "Egress"]
    for service in [*SERVICES, "migrator"]:
        labels = release(name).pod(service)["metadata"]["labels"].items()
        assert deny["podSelector"]["matchLabels"].items() <= labels
        chosen = [s for s, spec in found.items() if spec["podSelector"]["matchLabels"].items() <= labels]
        assert chosen == [service]


def test_s2_38_what_leaves_the_release_is_stores_names_and_mcp_servers():
    for service, spec in policies("full").items():
        if service is None:
            continue
        out = [rule for rule in spec["egress"] if not any(component(p) for p in rule["to"])]
        ports = sorted(port["port"] for rule in out for port in rule["ports"])
        expected = [53, 53, 4317]
        expected += [5433] if (service, "postgres") in STORES else []
        expected += [6380] if (service, "redis") in STORES else []
        expected += [443, 8443, 9000] if service in OUTSIDE else []
        assert ports == sorted(expected), service
        blocks = [p["ipBlock"] for rule in out for p in rule["to"] if p.get("ipBlock", {}).get("cidr", "").endswith("/0")]
        assert len(blocks) == (2 if service in OUTSIDE else 0), service
        if blocks:
            assert "169.254.0.0/16" in blocks[0]["except"], "instance metadata is never outside"
            assert "10.0.0.0/8" in blocks[0]["except"]


def test_s3_60_public_and_admin_ports_are_for_those_who_are_named():
    for service, spec in policies("full").items():
        if service is None:
            continue
        named = {
            port["port"]: rule["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            for rule in spec["ingress"]
            for port in rule["ports"]
            if not any(component(p) for p in rule["from"])
        }
        expected = {} if service == "migrator" else {ADMIN: "monitoring"}
        if service in ("gateway", "auth-server", "registry"):
            expected[PUBLIC] = "traefik"
        assert named == expected, service
    for service, spec in policies("minimal").items():
        open_ports = {p["port"] for rule in spec.get("ingress", []) if "from" not in rule for p in rule["ports"]}
        assert open_ports <= {PUBLIC}, f"{service}: nobody reads the admin port unless named"


def backends(ingress):
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    assert {p["pathType"] for p in paths} == {"Prefix"}
    return {p["path"]: (p["backend"]["service"]["name"], p["backend"]["service"]["port"]["name"]) for p in paths}


def public_grpc():
    """Services whose protos say nothing of being internal, by package."""
    found = {"auth-server": set(), "registry": set()}
    for package, owner in (("auth", "auth-server"), ("registry", "registry")):
        for path in (ROOT / "proto" / "portico" / package / "v1").glob("*.proto"):
            text = path.read_text()
            if "internal listener only" in text:
                continue
            found[owner] |= {f"portico.{package}.v1.{n}" for n in re.findall(r"^service (\w+)", text, re.MULTILINE)}
    # The trust feed is for services.
    found["auth-server"].discard("portico.auth.v1.TrustService")
    return found


def test_the_graph_lists_the_grpc_services_that_are_public():
    listed = {owner: {n for n in names if n.startswith("portico.")} for owner, names in GRAPH["grpc"].items()}
    assert listed == public_grpc()


def test_s1_03_the_ingress_shares_one_origin_out():
    web = release("minimal").one("Ingress", "")
    routes = backends(web)
    assert routes.pop("/") == ("portico-gateway", "http")
    assert routes == {
        path: (f"portico-{service}", "http") for service, paths in GRAPH["paths"].items() for path in paths
    }
    grpc = backends(release("minimal").one("Ingress", "grpc"))
    assert grpc == {
        f"/{name}": (f"portico-{service}", "grpc") for service, names in GRAPH["grpc"].items() for name in names
    }
    for kind, port in (("http", 8080), ("grpc", 8081)):
        ports = {p["name"]: p for p in release("minimal").one("Service", "registry")["spec"]["ports"]}
        assert (ports[kind]["port"], ports[kind]["targetPort"]) == (port, "http")


def test_clients_addresses_are_believed_from_the_ingress_only():
    for service in SERVICES:
        http = release("full").settings(service).get("http")
        public = GRAPH["services"][service].get("public")
        assert http == ({"trusted_proxies": ["10.244.0.0/16"]} if public else None)
        assert "http" not in release("minimal").settings(service)


def test_s1_02_tls_ends_at_the_ingress():
    web, grpc = release("full").one("Ingress", "")["spec"], release("full").one("Ingress", "grpc")["spec"]
    assert web["tls"] == [{"secretName": "portico-tls", "hosts": ["portico.example.org"]}]
    assert web["rules"][0]["host"] == "portico.example.org"
    assert grpc["tls"] == [{"secretName": "portico-tls", "hosts": ["grpc.example.org"]}]
    assert release("full").settings("auth-server")["auth_server"]["grpc_origin"] == "https://grpc.example.org"


def test_the_gateway_api_has_the_same_routes():
    http = release("full").one("HTTPRoute", "")["spec"]["rules"]
    found = {
        match["path"]["value"]: rule["backendRefs"][0]["name"] for rule in http for match in rule["matches"]
    }
    assert found == {path: name for path, (name, _) in backends(release("full").one("Ingress", "")).items()}
    grpc = release("full").one("GRPCRoute", "")["spec"]["rules"]
    services = {m["method"]["service"]: r["backendRefs"][0]["name"] for r in grpc for m in r["matches"]}
    assert {f"/{k}": v for k, v in services.items()} == {
        path: name for path, (name, _) in backends(release("full").one("Ingress", "grpc")).items()
    }
