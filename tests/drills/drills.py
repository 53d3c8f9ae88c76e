#!/usr/bin/env python3
"""Fault drills: breaks a platform of two replicas each in one way after the other, under load, and checks what must hold.

Prints one line for each drill with its figures. `make drill` builds what it needs and runs all of them, `make drill
ONLY=name` one.
"""

import argparse
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from faults import DRILLS, SMOKE
from stage import LeftOut, Stage, Violated


def run(stage: Stage, name: str) -> bool:
    begin = time.monotonic()
    try:
        figures = DRILLS[name](stage)
        stage.settle()
    except LeftOut as reason:
        print(f"left out {name}: {reason}", flush=True)
        return True
    except Exception as error:
        if not isinstance(error, Violated):
            traceback.print_exc()
        print(f"FAILED  {name}: {error}", flush=True)
        # What it left broken must not fail the next one.
        stage.platform.up()
        return False
    print(f"ok      {name}: {figures} ({time.monotonic() - begin:.0f} s)", flush=True)
    return True


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True, help="folder of the binaries")
    parser.add_argument("--only", action="append", choices=DRILLS, default=[], help="run this one; may be repeated")
    parser.add_argument("--smoke", action="store_true", help="the short ones, with fewer rounds")
    parser.add_argument("--outage", type=float, default=60, help="seconds of an outage (default 60; 5 with --smoke)")
    parser.add_argument("--keep", type=Path, help="folder that stays afterwards, with all logs")
    return parser.parse_args()


def main():
    # Whoever ends the drills ends what they started: it would outlive them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    arguments = parse()
    names = arguments.only or (SMOKE if arguments.smoke else list(DRILLS))
    with tempfile.TemporaryDirectory(prefix="portico-drills-") as temporary:
        work = (arguments.keep or Path(temporary)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        # Postgres runs as another user, who has to get to its folder.
        work.chmod(0o755)
        with Stage(arguments.bin.absolute(), work, arguments.smoke) as stage:
            stage.outage_seconds = 5 if arguments.smoke else arguments.outage
            failed = [name for name in names if not run(stage, name)]
    if failed:
        sys.exit(f"{len(failed)} of {len(names)} drills failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
