"""The Python SDK signs in and calls a tool, in both eras, and refreshes its token: python_sdk.py READY_FILE."""

import asyncio
import json
import sys
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

from sign_in import sign_in

CALLBACK = "http://127.0.0.1:9/callback"


class Memory:
    tokens = None
    client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


async def main(ready):
    url = ready["origin"].rstrip("/") + "/demo/mcp"
    storage, visits = Memory(), []

    async def redirect(authorize_url):
        visits.append(sign_in(authorize_url, ready["admin_username"], ready["admin_password"]))

    async def callback():
        answer = {name: values[0] for name, values in parse_qs(urlsplit(visits[-1]).query).items()}
        return AuthorizationCodeResult(code=answer["code"], state=answer.get("state"), iss=answer.get("iss"))

    metadata = OAuthClientMetadata(
        client_name="Python SDK",
        redirect_uris=[CALLBACK],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
    )
    provider = OAuthClientProvider(url, metadata, storage, redirect, callback)

    async def session(mode):
        async with httpx2.AsyncClient(auth=provider, timeout=20) as http:
            async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
                tools = [tool.name for tool in (await client.list_tools()).tools]
                assert "unit_convert" in tools, tools
                result = await client.call_tool("unit_convert", {"value": 1, "from": "mi", "to": "km"})
                assert not result.is_error, result
                return client.protocol_version

    versions = [await session("legacy"), await session("auto")]
    assert versions == ["2025-11-25", "2026-07-28"], versions
    assert len(visits) == 1, "one sign-in is enough"
    assert storage.client.client_id and storage.tokens.refresh_token, storage.tokens
    # The SDK refreshes by the clock: the access token's time has come.
    before = storage.tokens
    provider.context.token_expiry_time = 1
    await session("auto")
    assert storage.tokens.access_token != before.access_token, "refreshed"
    assert storage.tokens.refresh_token != before.refresh_token, "rotated"
    assert len(visits) == 1, "the person was not asked again"


with open(sys.argv[1]) as file:
    asyncio.run(main(json.load(file)))
print("Python mcp: signed in, both eras, refreshed")
