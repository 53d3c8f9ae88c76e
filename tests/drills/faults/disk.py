"""The disk of the last copies is full."""

import os
import shutil
import subprocess

from stage import LeftOut, Stage, demand, eventually, milliseconds

SIZE = "256k"


def full(stage: Stage) -> str:
    """A gateway cannot keep its copy of the catalogue: it serves, follows and says so; with space again it writes."""
    if os.geteuid() != 0:
        raise LeftOut("mounting a small file system needs root")
    name, platform = "gateway-1", stage.platform
    data = platform.layout.data / name
    aside = platform.layout.data / f"{name}.aside"
    platform.stop(name)
    # The audit record has a place of its own: it is the copies that have none.
    shutil.move(data, aside)
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", data], check=True)
    try:
        (data / "audit").symlink_to(aside / "audit")
        platform.start(name)
        return filled(stage, name, data)
    finally:
        platform.stop(name)
        subprocess.run(["umount", data], check=True)
        data.rmdir()
        shutil.move(aside, data)
        platform.start(name)


def fill(folder):
    """Takes what space there is."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


def filled(stage: Stage, name: str, data) -> str:
    platform, copy = stage.platform, data / "catalogue.feed"
    eventually("the first copy is written", copy.exists, 30)
    load = stage.load(rate=200, seconds=600)
    try:
        fill(data)
        before = copy.read_bytes()
        made = [stage.next_name() for _ in range(5)]
        for server in made:
            stage.register(server)
        eventually(f"{name} says that it cannot keep its copy", lambda: "No space left" in platform.process(name).tail(1000), 30)
        demand(copy.read_bytes() == before, "the copy that was there is not whole any more")
        (data / "filler").unlink()
        for server in made:
            platform.portico("server", "delete", server)
        written = eventually("the copy is written when there is space again", lambda: copy.read_bytes() != before, 60)
    finally:
        load.finish()
    result = load.unfailing()
    load.check_records()
    return (f"no space for the catalogue on {name}: 5 servers registered and routed, 0 of {result['calls']} calls failed, p99 "
            f"{milliseconds(result):.1f} ms; with space again the copy was there after {written:.1f} s")
