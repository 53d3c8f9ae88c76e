"""compose.yaml: its schema, the order of its start, and what its containers may do."""

import hashlib
import os
import re
import subprocess

import pytest
import yaml

import programs
from rendering import GRAPH, ROOT, SERVICES

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CONTAINERS = COMPOSE["services"]
JOBS = {name for name, found in CONTAINERS.items() if found["restart"] == "no"}
OURS = {*SERVICES, "migrator"}


def test_the_schema_of_compose_accepts_it():
    subprocess.run(["check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"], check=True)


def after(name):
    """Everything that has to be well, or to have ended well, before a container starts."""
    found = dict(CONTAINERS[name].get("depends_on", {}))
    for other in list(found):
        for further, condition in after(other).items():
            found.setdefault(further, condition)
    return {other: condition["condition"] if isinstance(condition, dict) else condition for other, condition in found.items()}


@pytest.mark.parametrize("service", SERVICES)
def test_s0_24_a_service_starts_after_the_migrators_success(service):
    needed = after(service)
    assert needed["migrator"] == "service_completed_successfully"
    assert needed[f"certificates-{service}"] == "service_completed_successfully"
    assert needed["certificate-authority"] == "service_completed_successfully"
    assert needed["key-ring"] == "service_completed_successfully"
    assert needed["postgres"] == needed["redis"] == "service_healthy"


def test_the_balancer_starts_when_there_is_somebody_to_serve():
    assert {CONTAINERS["balancer"]["depends_on"][s]["condition"] for s in ("gateway", "auth-server", "registry")} == {
        "service_healthy"
    }
    # auth-server and registry become ready by hearing from each other: neither may wait for the other.
    assert "registry" not in after("auth-server")
    assert "auth-server" not in after("registry")


@pytest.mark.parametrize("name", CONTAINERS)
def test_s3_51_every_container_has_limits_and_no_privileges(name):
    found = CONTAINERS[name]
    assert re.fullmatch(r"\d+:\d+", found["user"]) and not found["user"].startswith("0:")
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"] and "cap_add" not in found
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in found and found.get("network_mode") in (None, "none")
    assert set(found["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert found["logging"]["options"]["max-size"]
    image = found["image"]
    assert image.endswith(":${PORTICO_VERSION:?set it in deploy/.env}") or re.search(r":\d+(\.\d+)+-", image), image
    assert "latest" not in image


@pytest.mark.parametrize("name", set(CONTAINERS) - JOBS)
def test_whatever_keeps_running_has_a_health_check_and_time_to_stop(name):
    found = CONTAINERS[name]
    assert found["healthcheck"]["test"][0] == "CMD", "no shell"
    if name in SERVICES:
        assert found["healthcheck"]["test"][1:] == ["/app", "--config", "/etc/portico/config.toml", "health"]
        assert found["stop_grace_period"] == "40s"
        assert found["deploy"]["replicas"] == 2


def test_s3_60_no_secret_is_in_the_text():
    for path in [DEPLOY / "compose.yaml", DEPLOY / ".env.example", *(DEPLOY / "compose").glob("*.toml")]:
        text = path.read_text()
        assert not re.search(r"(?i)(password|secret|token|key)\s*[:=]\s*[\"']?[A-Za-z0-9+/]{8,}[\"']?\s*$", text, re.MULTILINE)
        assert not re.search(r"://[^/\s:]+:[^@\s$]+@", text)
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())


def test_s2_38_containers_meet_only_on_the_networks_of_their_edges():
    on = {
        network: {name for name, found in CONTAINERS.items() if network in found.get("networks", [])}
        for network in COMPOSE["networks"]
    }
    nodes = GRAPH["services"]
    assert on["public"] == {"balancer"} | {s for s in SERVICES if nodes[s].get("public")}
    assert on["peers"] == set(SERVICES)
    assert on["postgres"] == {"postgres"} | {s for s in OURS if "postgres" in nodes[s]["stores"]}
    assert on["redis"] == {"redis"} | {s for s in OURS if "redis" in nodes[s]["stores"]}
    assert on["outside"] == {s for s in OURS if nodes[s].get("outside")}
    assert on["front"] == {"balancer"}
    ways_out = {name for name, network in COMPOSE["networks"].items() if not network.get("internal")}
    assert ways_out == {"front", "outside"}
    assert [name for name, found in CONTAINERS.items() if "ports" in found] == ["balancer"]


def test_a_service_sees_its_own_key_and_its_own_secrets():
    for service in SERVICES:
        volumes = CONTAINERS[service]["volumes"]
        assert f"{service}-tls:/run/portico/tls:ro" in volumes
        assert [v for v in volumes if "-tls:" in v or v.startswith("authority")] == [f"{service}-tls:/run/portico/tls:ro"]
        stores = GRAPH["services"][service]["stores"]
        assert set(CONTAINERS[service]["secrets"]) == {f"redis-url-{service}"} | ({"database-url"} if "postgres" in stores else set())
    assert set(CONTAINERS["migrator"]["secrets"]) == {"database-url", "administrator-password"}


def test_variables_name_settings_that_the_programs_know():
    for program in OURS:
        for path in programs.from_environment(CONTAINERS[program].get("environment", {})):
            assert programs.known(program, path), f"{program}: {'.'.join(path)}"


def test_every_variable_is_in_the_example():
    text = (DEPLOY / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    example = (DEPLOY / ".env.example").read_text()
    assert used == set(re.findall(r"^#?(\w+)=", example, re.MULTILINE))


def test_secrets_are_made_once_and_fit_together(tmp_path):
    script = [DEPLOY / "compose" / "secrets.sh", tmp_path / "secrets"]
    subprocess.run(script, check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    named = {os.path.basename(s["file"]) for s in COMPOSE["secrets"].values() if "PORTICO" not in s["file"]}
    assert set(made) == named
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert f":{made['postgres-password'].strip()}@postgres:5432/portico" in made["database-url"]
    users = dict(line.removeprefix("user ").split(" on ", 1) for line in made["redis-users"].splitlines())
    assert set(users) == {"default", *SERVICES} and users["default"] == "nopass -@all +ping"
    for service in SERVICES:
        password = re.fullmatch(rf"redis://{service}:(\w{{48}})@redis:6379\n", made[f"redis-url-{service}"]).group(1)
        assert users[service].startswith(f"#{hashlib.sha256(password.encode()).hexdigest()} ~portico:")
    subprocess.run(script, check=True, capture_output=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made
