// The same scenarios against a server itself and through Portico: parity.mjs NAME URL [TOKEN].
// It prints one line for each scenario and result, in an order and with values that do not depend on the run.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [name, url, token] = process.argv.slice(2);
const require = createRequire(`${process.env.CLIENTS_DIR}/`);
const load = (module) => import(pathToFileURL(require.resolve(module)).href);
const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
const types = await load("@modelcontextprotocol/sdk/types.js");

// Arguments of tools that need some; the others are called without.
const ARGUMENTS = {
  echo: { message: "hello" },
  "get-sum": { a: 2, b: 3 },
  "get-annotated-message": { messageType: "error", includeImage: true },
  "get-resource-links": { count: 2 },
  "get-resource-reference": { resourceType: "Text", resourceId: 1 },
  "get-structured-content": { location: "Chicago" },
  "trigger-long-running-operation": { duration: 0.2, steps: 2 },
  "trigger-sampling-request": { prompt: "Say yes.", maxTokens: 10 },
  forecast: { city: "Oslo", days: 3 },
  count: { steps: 3 },
  lend: { title: "Dune", copies: 2 },
};
// They reach out to the network, run until stopped, show the server's environment, or answer with what time brings.
const LEFT_OUT = new Set(["gzip-file-as-resource", "toggle-simulated-logging", "toggle-subscriber-updates", "get-env", "simulate-research-query"]);

// The server asks for roots at a time of its own.
const seen = { progress: [], asked: [], roots: 0 };

function line(scenario, result) {
  const text = JSON.stringify(result, (_, value) =>
    typeof value === "string"
      ? value
          .replace(/\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)?/g, "TIME")
          .replace(/\d{1,2}:\d\d:\d\d( [AP]M)?/g, "TIME")
          .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, "UUID")
      : value,
  );
  console.log(`${name} ${scenario}: ${text}`);
}

async function scenario(title, run) {
  try {
    line(title, (await run()) ?? null);
  } catch (error) {
    line(title, { error: error.message, code: error.code });
  }
}

async function open() {
  const requestInit = token ? { headers: { Authorization: `Bearer ${token}` } } : {};
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit });
  const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } };
  const client = new Client({ name: "parity", version: "1" }, { capabilities });
  client.setRequestHandler(types.CreateMessageRequestSchema, ({ params }) => {
    seen.asked.push(["sampling", params.messages.length]);
    return { role: "assistant", model: "parity", content: { type: "text", text: "yes" } };
  });
  client.setRequestHandler(types.ElicitRequestSchema, ({ params }) => {
    seen.asked.push(["elicitation", params.message]);
    return { action: "decline" };
  });
  client.setRequestHandler(types.ListRootsRequestSchema, () => {
    seen.roots++;
    return { roots: [{ uri: "file:///parity", name: "parity" }] };
  });
  await client.connect(transport);
  return client;
}

const client = await open();
const any = types.ResultSchema;
await scenario("server", () => client.getServerVersion());
await scenario("capabilities", () => client.getServerCapabilities());
await scenario("instructions", () => client.getInstructions());
await scenario("ping", () => client.ping());
const tools = await client.request({ method: "tools/list" }, any);
await scenario("tools/list", () => tools);
for (const tool of tools.tools) {
  if (LEFT_OUT.has(tool.name)) continue;
  await scenario(`tools/call ${tool.name}`, async () => {
    Object.assign(seen, { progress: [], asked: [] });
    const params = { name: tool.name, arguments: ARGUMENTS[tool.name] ?? {} };
    const onprogress = ({ progress, total }) => seen.progress.push([progress, total]);
    const result = await client.request({ method: "tools/call", params }, any, { onprogress, timeout: 20_000 });
    return { result, progress: seen.progress, asked: seen.asked };
  });
}
await scenario("tools/call unknown", () => client.request({ method: "tools/call", params: { name: "no-such-tool", arguments: {} } }, any));
await scenario("tools/call wrong arguments", () =>
  client.request({ method: "tools/call", params: { name: tools.tools[0].name, arguments: { message: 1, city: [], title: {} } } }, any),
);
await scenario("a method that does not exist", () => client.request({ method: "no/such/method" }, any));
await scenario("prompts", async () => {
  const list = await client.request({ method: "prompts/list" }, any);
  const results = [];
  for (const prompt of list.prompts) {
    const needed = (prompt.arguments ?? []).map(({ name }) => [name, name === "resourceId" ? "1" : "Text"]);
    const params = { name: prompt.name, arguments: Object.fromEntries(needed) };
    results.push(await client.request({ method: "prompts/get", params }, any).catch(({ message, code }) => ({ message, code })));
  }
  return { list, results };
});
await scenario("resources", async () => {
  let [cursor, pages, read] = [undefined, [], []];
  do {
    const page = await client.request({ method: "resources/list", params: cursor ? { cursor } : {} }, any);
    cursor = page.nextCursor;
    pages.push({ ...page, nextCursor: cursor && "more" });
  } while (cursor && pages.length < 20);
  for (const { uri } of pages.flatMap((page) => page.resources).slice(0, 5)) {
    read.push(await client.request({ method: "resources/read", params: { uri } }, any));
  }
  return { pages, read };
});
await scenario("resources/templates/list", () => client.request({ method: "resources/templates/list" }, any));
for (const uri of ["weather://stations/north", "library://book/7", "demo://resource/dynamic/text/1", "no://such/resource"]) {
  await scenario(`resources/read ${uri}`, () => client.request({ method: "resources/read", params: { uri } }, any));
}
await scenario("resources/subscribe", async () => {
  const uri = "demo://resource/dynamic/text/1";
  const subscribed = await client.request({ method: "resources/subscribe", params: { uri } }, any);
  return [subscribed, await client.request({ method: "resources/unsubscribe", params: { uri } }, any)];
});
await scenario("completion/complete", () =>
  client.request(
    {
      method: "completion/complete",
      params: { ref: { type: "ref/prompt", name: "completable-prompt" }, argument: { name: "department", value: "E" } },
    },
    any,
  ),
);
await scenario("logging/setLevel", () => client.request({ method: "logging/setLevel", params: { level: "warning" } }, any));
await scenario("two sessions at once", async () => {
  const other = await open();
  const params = { name: "count" in ARGUMENTS && tools.tools.some(({ name }) => name === "count") ? "count" : "echo" };
  params.arguments = ARGUMENTS[params.name];
  const call = (of) => of.request({ method: "tools/call", params }, any);
  const results = await Promise.all([call(client), call(other), call(client), call(other)]);
  await other.close();
  return results;
});
await scenario("roots were asked for", () => seen.roots > 0);
await client.transport.terminateSession?.();
await client.close();
