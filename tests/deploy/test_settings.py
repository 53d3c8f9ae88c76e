"""Every setting that a deployment writes is one that the program knows."""

import tomllib

import pytest

import programs
from rendering import ROOT, SERVICES, release

PROGRAMS = [*SERVICES, "migrator"]


@pytest.mark.parametrize("name", ["minimal", "full"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_s3_43_the_charts_settings_are_known_to_the_programs(name, program):
    programs.check(program, release(name).settings(program))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_settings_of_compose_are_known_to_the_programs(program):
    text = (ROOT / "deploy" / "compose" / f"{program}.toml").read_text()
    programs.check(program, tomllib.loads(text))


def test_a_setting_that_nobody_knows_would_be_found():
    with pytest.raises(AssertionError, match="lissten"):
        programs.check("gateway", {"lissten": "0.0.0.0:8080"})
    assert programs.known("registry", ("database", "url"))
    assert not programs.known("gateway", ("database", "url"))
