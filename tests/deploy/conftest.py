"""What several files of tests share."""

import pytest

from containers import Podman


@pytest.fixture(scope="session")
def podman(tmp_path_factory):
    podman = Podman(tmp_path_factory.mktemp("podman"))
    yield podman
    podman("system", "reset", "--force", check=False)


@pytest.fixture
def image(podman):
    """A program's image: image("migrator")."""
    return podman.image
