"""Containers, and images of programs that were built outside."""

import os
import pathlib
import shutil
import subprocess

from rendering import ROOT

BINARIES = os.environ.get("PORTICO_BINARIES", "")

# What a container gets in compose, Kubernetes and ECS.
HARDENED = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--memory=256m", "--pids-limit=64"]


class Podman:
    """podman with its own storage; the settings fit machines without a user session and with cgroups of either version."""

    def __init__(self, directory):
        (directory / "networks").mkdir()
        (directory / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
            f'[network]\nnetwork_config_dir = "{directory}/networks"\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        (directory / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{directory}/graph"\nrunroot = "{directory}/run"\n'
        )
        self.directory = directory
        self.built = {}
        self.environment = os.environ | {
            "CONTAINERS_CONF": str(directory / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
        }

    def __call__(self, *arguments, check=True):
        return self.as_root("podman", *map(str, arguments), check=check)

    def as_root(self, *command, check=True):
        if os.geteuid() != 0:
            command = ["sudo", "--preserve-env=CONTAINERS_CONF,CONTAINERS_STORAGE_CONF", *command]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {done.stderr}")
        return done

    def run(self, image, *arguments, options=(), check=True):
        return self("run", "--rm", "--network=none", *HARDENED, *options, image, *arguments, check=check)

    def fix_address(self, bridge):
        """Lets a bridge with containers keep the hardware address that it has.

        Of itself it has the lowest of its ports', and when the container behind that port goes, the others look for this
        machine at an address that is gone, for the seconds until they ask who has it now.
        """
        address = pathlib.Path("/sys/class/net", bridge, "address").read_text().strip()
        self.as_root("ip", "link", "set", "dev", bridge, "address", address)

    def image(self, program):
        """A program's image, built once."""
        if program in self.built:
            return self.built[program]
        context = self.directory / program
        context.mkdir()
        # Without what only debuggers read: it is copied several times.
        subprocess.run(["strip", "--strip-debug", "-o", context / program, pathlib.Path(BINARIES) / program], check=True)
        subprocess.run([ROOT / "deploy" / "rootfs.sh", context / program, context / "rootfs"], check=True)
        self(
            "build",
            # Its cache takes labels of another program's image for the same, whatever the build argument says.
            "--no-cache",
            f"--file={ROOT}/deploy/Dockerfile",
            f"--build-arg=BIN={program}",
            "--target=prebuilt",
            "--build-arg=VERSION=1.2.3",
            "--build-arg=REVISION=abc",
            f"--tag=localhost/portico/{program}:test",
            context,
        )
        shutil.rmtree(context)
        self.built[program] = f"localhost/portico/{program}:test"
        return self.built[program]
