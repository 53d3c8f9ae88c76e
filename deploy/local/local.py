#!/usr/bin/env python3
"""Portico as separate services on this machine: Postgres, Redis, two replicas of every service, and nginx in front.

Everything it starts, writes and logs is below one directory. Needs the Debian packages postgresql-15, redis-server and
nginx-light, and the built binaries (`make up` builds them).
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from local_platform.deployment import Deployment
from local_platform.failure import Failure
from local_platform.layout import Layout, State

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_DIR = ROOT / ".portico-local"
DEFAULT_BINARIES = ROOT / "target" / "quick"
SIGNALS = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP, "resume": signal.SIGCONT}


def up(arguments):
    begin = time.monotonic()
    layout = Layout(arguments.dir)
    if State.load(layout) is None:
        layout.refuse_foreign()
    layout.make()
    with layout.lock():
        binaries = str(arguments.bin.absolute()) if arguments.bin else None
        state = State.load(layout) or State.new(arguments.replicas or 2, binaries or str(DEFAULT_BINARIES))
        replicas = arguments.replicas or state.replicas
        if replicas < state.replicas and Deployment(layout, state).runs():
            raise Failure("there are fewer replicas only after a `down`: the others would go on without anybody who knows of them")
        state.replicas = replicas
        state.binaries = binaries or state.binaries
        # What is asked for once holds until something else is asked for.
        state.sets = arguments.set if arguments.set is not None else state.sets
        state.assign_ports(arguments.free_ports)
        deployment = Deployment(layout, state)
        deployment.up()
    print(f"Portico is ready after {time.monotonic() - begin:.1f} s: {state.origin}, gRPC at {state.grpc}")
    print(f"administrator: admin, password {state.passwords['administrator']}; logs in {layout.logs}")
    print(f"\n  export PORTICO_READY_FILE={layout.ready}\n  {deployment.binary('portico')} call demo time_now zone=Europe/Berlin")


def down(arguments):
    layout = Layout(arguments.dir)
    if State.load(layout) is None:
        print(f"there is no platform in {layout.root}")
        return
    deployment = Deployment.of(arguments.dir)
    with layout.lock():
        killed = deployment.down()
        if arguments.purge:
            deployment.purge()
    if killed:
        raise Failure(f"did not end by themselves and were killed: {', '.join(killed)}; see {layout.logs}")
    print("everything has stopped" + (" and is removed" if arguments.purge else f"; its data stays in {layout.root}"))


def status(arguments):
    rows = Deployment.of(arguments.dir).status()
    for name, pid, doing, ports in rows:
        print(f"{name:16} {pid or '-':>8}  {doing:10} {ports}")
    if any(doing in ("down", "not ready") for _, _, doing, _ in rows):
        sys.exit(1)


def pids(arguments):
    for name, process in Deployment.of(arguments.dir).processes().items():
        if process.pid:
            print(name, process.pid)


def act(arguments):
    deployment = Deployment.of(arguments.dir)
    with deployment.layout.lock():
        for name in arguments.names:
            if arguments.command in SIGNALS:
                deployment.signal(name, SIGNALS[arguments.command])
            else:
                getattr(deployment, arguments.command)(name)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, function, about):
        made = commands.add_parser(name, help=about)
        made.add_argument("--dir", type=Path, default=DEFAULT_DIR, help="where everything is (default .portico-local)")
        made.set_defaults(function=function)
        return made

    made = command("up", up, "start everything that does not run, and wait until it is ready")
    made.add_argument("--free-ports", action="store_true", help="take free ports on the first start instead of 8080, 8081, 18000 and up")
    made.add_argument("--replicas", type=int, choices=range(1, 10), help="of every service (default 2)")
    made.add_argument("--bin", type=Path, help="folder of the built binaries (default target/quick)")
    made.add_argument("--set", action="append", metavar="SERVICE:KEY=VALUE", help="a setting, as gateway:gateway.sessions.idle_seconds=60; counts from the next start of that service")
    made = command("down", down, "stop everything")
    made.add_argument("--purge", action="store_true", help="remove the directory too")
    command("status", status, "what runs; exit code 1 unless all of it is ready")
    command("pids", pids, "name and process id of all that runs")
    for name, about in (("restart", "drain and start again, without losing a request"), ("stop", "drain"), ("start", "start"),
                        ("kill", "end at once (SIGKILL)"), ("pause", "suspend (SIGSTOP)"), ("resume", "go on (SIGCONT)")):
        command(name, act, f"{about}: one process or several").add_argument("names", nargs="+", metavar="NAME")
    return parser.parse_args()


def main():
    arguments = parse()
    try:
        arguments.function(arguments)
    except Failure as failure:
        sys.exit(f"error: {failure}")


if __name__ == "__main__":
    main()
