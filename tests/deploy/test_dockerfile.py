"""The Dockerfile and what it copies, as text: the build inside a container needs base images, which tests do not fetch."""

import re
import subprocess

from rendering import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def test_hadolint_finds_nothing():
    found = subprocess.run(["hadolint", ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_build_inside_a_container_uses_the_projects_toolchain():
    version = re.search(r'channel = "(.+)"', (ROOT / "rust-toolchain.toml").read_text()).group(1)
    assert f"rust:{version}-slim-bookworm" in DOCKERFILE
    assert f"RUSTUP_TOOLCHAIN={version}" in DOCKERFILE
    assert "cargo build --locked" in DOCKERFILE


def test_the_build_gets_every_folder_that_programs_are_made_from():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "crates", "proto", "migrations", "tests", "docs/settings", "deploy/rootfs.sh"]
    for name in sent:
        assert (ROOT / name).exists() and f"!{name}" in ignored
    # Files outside of these that a build reads would be missing in it.
    outside = set()
    for source in (ROOT / "crates").rglob("*.rs"):
        if "tests" in source.parts or source.name == "tests.rs":
            continue
        text = source.read_text().split("#[cfg(test)]")[0]
        for path in re.findall(r'include_(?:str|bytes)!\("(.+?)"', text):
            read = (source.parent / path).resolve()
            if not any(read.is_relative_to(ROOT / name) for name in sent):
                outside.add(str(read.relative_to(ROOT)))
    assert outside == set()


def test_what_is_shipped_has_nothing_to_run_but_the_program():
    stages = {stage.split("\n")[0]: stage for stage in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]}
    assert list(stages) == ["scratch AS image", "${RUST_IMAGE} AS compiled", "image AS prebuilt", "image"]
    for name in ["scratch AS image", "image AS prebuilt", "image"]:
        assert not re.search(r"^(RUN|ADD) ", stages[name], re.MULTILINE)
    assert "USER 10001:10001" in stages["scratch AS image"]
    assert 'ENTRYPOINT ["/app"]' in stages["scratch AS image"]
    # Both ways make the same image.
    files = [re.sub(r"--from=compiled |^#.*\n", "", stages[s], flags=re.MULTILINE) for s in ("image AS prebuilt", "image")]
    assert files[0].replace(" rootfs", " /rootfs").split("\n")[1:4] == files[1].split("\n")[1:4]
