"""The chart as Helm renders it, and what has to be known to judge it."""

import functools
import pathlib
import re
import tomllib

import helm_python
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "portico"
VALUES = pathlib.Path(__file__).parent / "values"
GRAPH = yaml.safe_load((CHART / "graph.yaml").read_text())
SERVICES = ["auth-server", "gateway", "registry", "worker"]


def values(name, **changes):
    """The values of a file, with some replaced: `values("minimal", gateway__replicas=1)`."""
    read = yaml.safe_load((VALUES / f"{name}.yaml").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        table = read
        for parent in parents:
            table = table.setdefault(parent, {})
        table[last] = value
    return read


def render(given):
    """Every object of the release, in the order of the templates."""
    files = helm_python.Chart.load(str(CHART)).render(given, name="portico", namespace="prod", is_install=True)
    texts = (text for path, text in sorted(files.items()) if path.endswith(".yaml"))
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def refusal(given):
    """What Helm says instead of rendering."""
    try:
        render(given)
    except helm_python.HelmError as error:
        return str(error)
    raise AssertionError("Helm rendered what it should have refused")


@functools.cache
def release(name):
    return Release(render(values(name)))


class Release:
    """The objects of one rendering."""

    def __init__(self, objects):
        self.objects = objects

    def all(self, *kinds):
        return [found for found in self.objects if found["kind"] in kinds]

    def one(self, kind, suffix):
        found = [o for o in self.all(kind) if re.fullmatch(rf"(front|portico)-?{suffix}", o["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} objects {kind} for {suffix!r}"
        return found[0]

    def workload(self, service):
        found = [
            o
            for o in self.all("Deployment", "StatefulSet", "Job")
            if o["metadata"]["labels"]["app.kubernetes.io/component"] == service
        ]
        assert len(found) == 1, f"{len(found)} workloads for {service}"
        return found[0]

    def pod(self, service):
        return self.workload(service)["spec"]["template"]

    def settings(self, service):
        return tomllib.loads(self.one("ConfigMap", service)["data"]["config.toml"])
