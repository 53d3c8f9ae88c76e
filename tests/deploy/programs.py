"""What each program accepts as its settings: the schemas that it publishes."""

import functools
import json

import jsonschema

from rendering import ROOT

SCHEMAS = ROOT / "docs" / "settings"


@functools.cache
def schema(program):
    return json.loads((SCHEMAS / f"{program}.schema.json").read_text())


def check(program, settings):
    """Every name is known to the program, and every value is of its kind."""
    found = jsonschema.Draft202012Validator(schema(program)).iter_errors(settings)
    problems = [f"{program}: {'.'.join(map(str, error.path))}: {error.message}" for error in found]
    assert problems == [], problems


def known(program, path):
    """Whether the program has a setting of that path."""
    tables = [schema(program)]
    for name in path:
        inner = []
        for table in tables:
            inner += [expand(program, t) for t in alternatives(program, table.get("properties", {}).get(name))]
        tables = inner
    return bool(tables)


def expand(program, table):
    while "$ref" in table:
        table = schema(program)["$defs"][table["$ref"].rsplit("/", 1)[1]]
    return table


def alternatives(program, table):
    if table is None:
        return []
    table = expand(program, table)
    return [expand(program, t) for t in table.get("anyOf", table.get("oneOf", []))] + [table]


def from_environment(variables):
    """Paths of settings that variables name: PORTICO_PEERS__REGISTRY is peers.registry."""
    return {
        tuple(name.removeprefix("PORTICO_").lower().split("__")): value
        for name, value in variables.items()
        if name.startswith("PORTICO_")
    }
