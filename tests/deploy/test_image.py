"""The images, from programs that were built outside: looked into, and run as production runs them."""

import json
import os
import subprocess
import tarfile

import pytest

from containers import BINARIES, HARDENED

POSTGRES = os.environ.get("PORTICO_TEST_POSTGRES_URL", "")
pytestmark = pytest.mark.skipif(not BINARIES, reason="no built programs were given")


def test_s2_40_an_image_is_a_program_and_its_libraries(podman, image, tmp_path):
    name = podman("create", image("migrator")).stdout.strip()
    podman("export", f"--output={tmp_path}/image.tar", name)
    podman("rm", name)
    with tarfile.open(tmp_path / "image.tar") as archive:
        members = {f"/{m.name}".rstrip("/"): m for m in archive.getmembers()}
    programs = {path for path, m in members.items() if m.isfile() and m.mode & 0o111}
    libraries = {path for path in programs if path.startswith(("/lib", "/usr/lib"))}
    assert programs - libraries == {"/app"}
    assert all(".so" in path for path in libraries)
    assert not any(path.rsplit("/", 1)[-1] in ("sh", "bash", "busybox", "apt", "dpkg", "apk") for path in members)
    assert not any(m.mode & 0o6000 for m in members.values() if m.isfile()), "nothing changes its user"
    data = members["/var/lib/portico"]
    assert (data.uid, data.gid, data.mode & 0o777) == (10001, 10001, 0o755)
    assert "/etc/ssl/certs/ca-certificates.crt" in members


def test_s2_40_an_image_says_what_it_is(podman, image):
    (found,) = json.loads(podman("image", "inspect", image("migrator")).stdout)
    config = found["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["/app"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert set(config["Volumes"]) == {"/var/lib/portico"}
    labels = {key.rsplit(".", 1)[1]: value for key, value in config["Labels"].items() if "opencontainers" in key}
    assert labels["title"] == "portico-migrator"
    assert (labels["version"], labels["revision"], labels["licenses"]) == ("1.2.3", "abc", "Apache-2.0")


@pytest.mark.parametrize("program", ["migrator", "gateway"])
def test_s0_01_s0_12_a_program_runs_without_any_privilege(podman, image, program):
    assert podman.run(image(program), "--version").stdout.startswith(f"{program} ")
    schema = json.loads(podman.run(image(program), "config", "schema").stdout)
    assert "telemetry" in schema["properties"]


def test_there_is_no_shell(podman, image):
    for shell in ("/bin/sh", "sh", "/app/sh"):
        refused = podman.run(image("migrator"), "-c", "id", options=[f"--entrypoint={shell}"], check=False)
        assert refused.returncode in (126, 127), refused.stderr


def test_a_name_that_nobody_knows_is_an_answer_and_no_crash(podman, image):
    """A statically linked glibc crashes here; the one that comes along does not."""
    failed = podman.run(
        image("migrator"),
        options=[
            "--env=PORTICO_REGISTRY__URL=postgres://portico@nowhere.invalid/portico",
            "--env=PORTICO_AUTH_SERVER__URL=postgres://portico@nowhere.invalid/portico",
            "--env=PORTICO_ADMINISTRATOR__PASSWORD=correct horse battery staple",
            "--env=PORTICO_WAIT__LIMIT_SECONDS=1",
        ],
        check=False,
    )
    assert failed.returncode == 1, failed
    assert "the database of registry cannot be used" in failed.stderr


def migrate(podman, image, url):
    """A run of the migrator's image against a database that a name from /etc/hosts leads to."""
    assert "@127.0.0.1:" in url
    url = url.replace("@127.0.0.1:", "@database:")
    return podman(
        "run",
        "--rm",
        "--network=host",
        "--add-host=database:127.0.0.1",
        *HARDENED,
        f"--env=PORTICO_REGISTRY__URL={url}",
        f"--env=PORTICO_AUTH_SERVER__URL={url}",
        "--env=PORTICO_ADMINISTRATOR__PASSWORD=correct horse battery staple",
        "--env=PORTICO_WAIT__LIMIT_SECONDS=5",
        image("migrator"),
        check=False,
    )


@pytest.mark.skipif(not POSTGRES, reason="PORTICO_TEST_POSTGRES_URL names no database")
def test_s0_12_s0_23_the_migrators_image_says_by_its_exit_code_whether_services_may_start(podman, image):
    server, _, _ = POSTGRES.rpartition("/")
    name = f"image_{os.getpid()}"

    def sql(statement):
        subprocess.run(["psql", "--quiet", POSTGRES, "--command", statement], check=True, capture_output=True)

    sql(f"create database {name}")
    try:
        for attempt in ("first", "again"):
            done = migrate(podman, image, f"{server}/{name}")
            assert done.returncode == 0, f"{attempt}: {done.stderr}"
    finally:
        sql(f"drop database {name}")
    failed = migrate(podman, image, f"{server}/{name}_that_is_not_there")
    assert failed.returncode == 1
    assert "error: " in failed.stderr
