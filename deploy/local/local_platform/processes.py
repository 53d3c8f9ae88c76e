"""Processes that outlive the command that started them, known by name."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .failure import Failure
from .layout import Layout

POLL_SECONDS = 0.02


def started_at(pid: int) -> str | None:
    """When a process began, which tells it from a later one of the same number; None if it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        # The first thread may be gone while others still hold the process's sockets.
        ended = fields[0] in "ZX" and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if ended else fields[19]


def reap(pid: int):
    """Takes note of the end of a child of this very process."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def wait_until(check: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def most_open_files() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def raise_open_files():
    """A gateway holds two connections for each stream."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_open_files(), most_open_files()))


def program(name: str, package: str, *folders: str) -> str:
    """The path of an installed program."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *folders]))
    if path is None:
        raise Failure(f"{name} is missing: apt-get install {package}")
    return path


class Process:
    """One process of the platform; its number is in a file, so that any command finds it."""

    def __init__(self, layout: Layout, name: str, command: list, user: str | None = None, stop_signal=signal.SIGTERM):
        self.name, self.command, self.user, self.stop_signal = name, [str(word) for word in command], user, stop_signal
        self.log = layout.logs / f"{name}.log"
        self.pid_file = layout.run / f"{name}.pid"

    @property
    def pid(self) -> int | None:
        """Its number while it runs."""
        try:
            known = json.loads(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        reap(known["pid"])
        return known["pid"] if started_at(known["pid"]) == known["started_at"] else None

    def start(self):
        """Starts it unless it runs."""
        if self.pid:
            return
        # Settings come from files: what the caller's shell has must not reach into them.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PORTICO_")}
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd="/",
                start_new_session=True, preexec_fn=raise_open_files, user=self.user, group=self.user,
                extra_groups=[] if self.user else None,
            )
        # It is found by its number from now on; nobody waits for this object.
        child.returncode = 0
        self.pid_file.write_text(json.dumps({"pid": child.pid, "started_at": started_at(child.pid)}))

    def signal(self, number: signal.Signals):
        if pid := self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def ended(self, seconds: float) -> bool:
        """Waits for its end."""
        if not wait_until(lambda: self.pid is None, seconds):
            return False
        self.pid_file.unlink(missing_ok=True)
        return True

    def kill(self):
        self.signal(signal.SIGKILL)
        self.ended(10)

    def wait_ready(self, ready: Callable[[], bool], seconds: float):
        """Waits until it serves; explains with its log why it does not."""
        if wait_until(lambda: self.pid is None or ready(), seconds) and self.pid:
            return
        what = f"is not ready after {seconds:.0f} s" if self.pid else "ended"
        raise Failure(f"{self.name} {what}; the end of {self.log}:\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


def stop_all(processes: list[Process], seconds: float) -> list[str]:
    """Asks all of them to end; answers the names of those that had to be killed."""
    for process in processes:
        # One that was suspended could not hear of it.
        process.signal(signal.SIGCONT)
        process.signal(process.stop_signal)
    deadline = time.monotonic() + seconds
    killed = []
    for process in processes:
        if not process.ended(max(deadline - time.monotonic(), 0)):
            process.kill()
            killed.append(process.name)
    return killed
