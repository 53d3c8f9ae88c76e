"""What is revoked ends on every replica."""

import os
import re
import subprocess

from stage import ENDPOINT, ROOT, Stage, demand


def everywhere(stage: Stage) -> str:
    """The end-to-end scenario of that name, with many trials: revoked grants and disabled accounts, both gateways."""
    trials = 20 if stage.smoke else 1_000
    environment = {
        **os.environ, "PORTICO_TEST_DEPLOYMENT": "platform", "PORTICO_TEST_PLATFORM": str(stage.platform.layout.root),
        "PORTICO_TEST_REVOCATIONS": str(trials),
    }
    command = ["cargo", "test", "--quiet", "-p", "acceptance", "--test", "e2e", "--", "--exact", "--nocapture",
               "revocation::what_is_revoked_ends_on_every_replica_within_5_s"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    demand(done.returncode == 0, f"the scenario failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    figures = re.search(r"^revocations: (.*)$", done.stdout, re.MULTILINE)
    demand(figures is not None, "the scenario did not run")
    # A scenario finds, and leaves, a platform with nothing on it.
    stage.register(ENDPOINT)
    return figures[1]
