// The TypeScript SDK signs in, calls a tool and refreshes its token: typescript-sdk.mjs 1|2 READY_FILE.
// 1: @modelcontextprotocol/sdk 1.x, session era. 2: @modelcontextprotocol/client 2.x, both eras.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { Person } from "./sign-in.mjs";

const [major, readyFile] = process.argv.slice(2);
// The packages lie in the cache, not beside this file.
const require = createRequire(`${process.env.CLIENTS_DIR}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const ready = JSON.parse(await readFile(readyFile, "utf8"));
const url = new URL("demo/mcp", `${ready.origin.replace(/\/$/, "")}/`);

const sdk =
  major === "1"
    ? {
        ...(await load("@modelcontextprotocol/sdk/client/index.js")),
        ...(await load("@modelcontextprotocol/sdk/client/streamableHttp.js")),
        ...(await load("@modelcontextprotocol/sdk/client/auth.js")),
      }
    : await load("@modelcontextprotocol/client");

const person = new Person(`TypeScript ${major}`, ready);

async function connect(options) {
  const open = async () => {
    const transport = new sdk.StreamableHTTPClientTransport(url, { authProvider: person });
    const client = new sdk.Client({ name: "acceptance", version: "1" }, { capabilities: {}, ...options });
    return { transport, client, connected: client.connect(transport) };
  };
  const first = await open();
  try {
    await first.connected;
    return first.client;
  } catch (error) {
    if (!(error instanceof sdk.UnauthorizedError)) throw error;
    // What an application does when the browser comes back to it; 2.x checks RFC 9207 `iss` in the parameters.
    const answer = person.callback.searchParams;
    await first.transport.finishAuth(major === "1" ? answer.get("code") : answer);
  }
  const second = await open();
  await second.connected;
  return second.client;
}

async function use(client) {
  const { tools } = await client.listTools();
  assert(tools.some((tool) => tool.name === "unit_convert"), "the tool is listed");
  const result = await client.callTool({ name: "unit_convert", arguments: { value: 1, from: "mi", to: "km" } });
  assert(!result.isError, JSON.stringify(result));
  assert.equal(result.structuredContent.unit, "km");
  await client.close();
}

await use(await connect());
assert.equal(person.visits, 1, "the person signed in once");
assert(person.client?.client_id && person.saved?.refresh_token, "registered, and with a refresh token");
if (major === "2") {
  const client = await connect({ versionNegotiation: { mode: "auto" } });
  assert.equal(client.getNegotiatedProtocolVersion?.() ?? "2026-07-28", "2026-07-28");
  await use(client);
}
// An access token that is worth nothing any more: the refresh token gets the next one, without the person.
const { access_token, refresh_token } = person.saved;
person.saved = { ...person.saved, access_token: "gone" };
await use(await connect());
assert.notEqual(person.saved.access_token, "gone", "refreshed");
assert.notEqual(person.saved.access_token, access_token, "a new token");
assert.notEqual(person.saved.refresh_token, refresh_token, "rotated");
assert.equal(person.visits, 1, "the person was not asked again");
console.log(`TypeScript SDK ${major}.x: signed in, called, refreshed`);
