"""The scenarios of parity.mjs in the stateless era, byte for byte: stateless_parity.py NAME URL [TOKEN].

It prints one line for each request and each message of its answer.
"""

import json
import sys
import urllib.error
import urllib.request

REVISION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": REVISION,
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}},
    "io.modelcontextprotocol/clientInfo": {"name": "parity", "version": "1"},
    "progressToken": 7,
}
# Arguments of tools that need some; the others are called without.
ARGUMENTS = {"forecast": {"city": "Oslo", "days": 3}, "count": {"steps": 3}}


class Server:
    def __init__(self, name: str, url: str, token: str | None = None):
        self.name, self.url, self.token = name, url, token

    def ask(self, method: str, subject: str | None = None, **params) -> dict:
        body = {"jsonrpc": "2.0", "id": "parity", "method": method, "params": params | {"_meta": META}}
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": REVISION,
            "Mcp-Method": method,
        }
        headers |= {"Mcp-Name": subject} if subject else {}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
            answer = urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as refused:
            answer = refused
        with answer:
            text, kind = answer.read().decode(), answer.headers.get_content_type()
        messages = [text]
        if kind == "text/event-stream":
            messages = [line[5:].strip() for line in text.splitlines() if line.startswith("data:") and line[5:].strip()]
        print(f"{self.name} {method} {subject or ''}: {answer.status} {kind}", *messages, sep="\n  ")
        return json.loads(messages[-1]).get("result", {})


server = Server(*sys.argv[1:])
server.ask("server/discover")
for tool in server.ask("tools/list")["tools"]:
    server.ask("tools/call", tool["name"], name=tool["name"], arguments=ARGUMENTS.get(tool["name"], {}))
server.ask("tools/call", "no-such-tool", name="no-such-tool", arguments={})
server.ask("tools/call", "forecast", name="forecast", arguments={"city": [], "days": "soon"})
for resource in server.ask("resources/list")["resources"]:
    server.ask("resources/read", resource["uri"], uri=resource["uri"])
server.ask("resources/templates/list")
for uri in ("weather://stations/north", "no://such/resource"):
    server.ask("resources/read", uri, uri=uri)
for prompt in server.ask("prompts/list")["prompts"]:
    arguments = {argument["name"]: "Oslo" for argument in prompt.get("arguments", [])}
    server.ask("prompts/get", prompt["name"], name=prompt["name"], arguments=arguments)
server.ask("prompts/get", "no-such-prompt", name="no-such-prompt")
reference = {"type": "ref/prompt", "name": "report"}
server.ask("completion/complete", ref=reference, argument={"name": "city", "value": "O"})
server.ask("no/such/method")
