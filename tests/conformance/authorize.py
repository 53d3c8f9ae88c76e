"""The suite's authorization set with all that it leaves to a person: authorize.py READY_FILE RESOURCE DIRECTORY.

A client registers itself, and the administrator signs in and allows it on the pages that the suite points to.
"""

import contextlib
import json
import random
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "clients"))
from sign_in import sign_in  # noqa: E402


def free_port() -> int:
    """Outside the range that the system hands out by itself, so that nobody is given it before the suite has it."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def get(url: str, body: dict | None = None) -> bytes:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} if body else {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


def register(issuer: str, callback: str) -> str:
    """A public client: the suite authenticates none where the server supports public clients at all."""
    metadata = json.loads(get(f"{issuer}/.well-known/oauth-authorization-server"))
    client = {"client_name": "conformance", "redirect_uris": [callback], "token_endpoint_auth_method": "none"}
    return json.loads(get(metadata["registration_endpoint"], client))["client_id"]


def main(ready_file: str, resource: str, directory: Path) -> int:
    ready = json.loads(Path(ready_file).read_text())
    issuer, port = ready["origin"].rstrip("/"), free_port()
    client = register(issuer, f"http://127.0.0.1:{port}/callback")
    command = ["conformance", "authorization", "--url", issuer, "--client-id", client, "--resource", resource]
    command += ["--port", str(port), "--output-dir", str(directory)]
    with (
        (directory / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as suite,
    ):
        try:
            for line in suite.stdout:
                log.write(line)
                address = re.search(r"^https?://\S+[?&]client_id=\S+", line)
                if address:
                    get(sign_in(address[0], ready["admin_username"], ready["admin_password"]))
        except BaseException:
            suite.kill()
            raise
    return suite.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
