"""What the conformance suite wrote, scored strictly: score.py WHAT DIRECTORY EXPECTED.

It prints PASSED/EXPECTED. A scenario passes if none of its checks failed or was skipped; exactly the expected number of
scenarios must be scored. What went wrong, and the warnings, go to standard error.
"""

import json
import re
import sys
from pathlib import Path


def scored(log: str) -> list[str]:
    """The scenarios that ran, without those that the revision does not require."""
    summary, _, unscored = log.partition("\nNot scored for ")
    ran = re.findall(r"^[✓✗] (\S+): \d+ passed", summary, re.MULTILINE)
    return [name for name in ran if name not in re.findall(r"^ +[✓✗] (\S+) \(", unscored, re.MULTILINE)]


def main(what: str, directory: Path, expected: int) -> bool:
    checks = {}
    for file in directory.glob("*/checks.json"):
        name = re.sub(r"^(authorization-)?server-(.*)-\d{4}-\d\d-\d\dT.*$", r"\2", file.parent.name)
        checks.setdefault(name, []).extend(json.loads(file.read_text()))
    names = scored((directory / "log").read_text())
    passed = 0
    for name in names:
        statuses = [check["status"] for check in checks.get(name, [])]
        passed += "SUCCESS" in statuses and not {"FAILURE", "SKIPPED"} & set(statuses)
        for check in checks.get(name, []):
            if check["status"] not in ("SUCCESS", "INFO"):
                print(f"{what}: {name}, {check['id']}: {check['status']} {check.get('errorMessage', '')}", file=sys.stderr)
    if len(names) != expected:
        print(f"{what}: {len(names)} of {expected} scenarios ran, see {directory}/log", file=sys.stderr)
    print(f"{passed}/{expected}")
    return passed == expected == len(names)


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
