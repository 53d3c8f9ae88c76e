// A server as its authors would write it with the TypeScript SDK: typescript-server.mjs PORT.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.CLIENTS_DIR}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { McpServer, ResourceTemplate } = await load("@modelcontextprotocol/sdk/server/mcp.js");
const { StreamableHTTPServerTransport } = await load("@modelcontextprotocol/sdk/server/streamableHttp.js");
const { z } = await load("zod");

function library() {
  const server = new McpServer({ name: "library", version: "1.2.3" }, { instructions: "Ask for a book." });
  const shape = { title: z.string(), copies: z.number().int().min(1).default(1) };
  server.registerTool(
    "lend",
    { title: "Lend", inputSchema: shape, outputSchema: shape, annotations: { idempotentHint: true } },
    async (book) => ({ content: [{ type: "text", text: JSON.stringify(book) }], structuredContent: book }),
  );
  server.registerTool("count", { inputSchema: { steps: z.number() } }, async ({ steps }, { sendNotification, _meta }) => {
    for (let progress = 1; _meta?.progressToken !== undefined && progress <= steps; progress++) {
      const params = { progressToken: _meta.progressToken, progress, total: steps };
      await sendNotification({ method: "notifications/progress", params });
    }
    return { content: [{ type: "text", text: `counted ${steps}` }] };
  });
  server.registerResource("shelf", "library://shelf", { mimeType: "text/plain" }, async (uri) => ({
    contents: [{ uri: uri.href, text: "Dune" }],
  }));
  const book = new ResourceTemplate("library://book/{id}", { list: undefined });
  server.registerResource("book", book, {}, async (uri, { id }) => ({ contents: [{ uri: uri.href, text: `book ${id}` }] }));
  server.registerPrompt("review", { argsSchema: { title: z.string() } }, ({ title }) => ({
    messages: [{ role: "user", content: { type: "text", text: `Review ${title}.` } }],
  }));
  return server;
}

const sessions = new Map();
createServer(async (request, response) => {
  let transport = sessions.get(request.headers["mcp-session-id"]);
  if (!transport && !request.headers["mcp-session-id"]) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => sessions.set(id, transport),
      onsessionclosed: (id) => sessions.delete(id),
    });
    await library().connect(transport);
  }
  if (!transport) return response.writeHead(404).end();
  await transport.handleRequest(request, response);
}).listen(Number(process.argv[2]), "127.0.0.1");
