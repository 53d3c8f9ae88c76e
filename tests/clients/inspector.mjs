// The Inspector's command line signs in and calls a tool: inspector.mjs READY_FILE.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { signIn } from "./sign-in.mjs";

const ready = JSON.parse(await readFile(process.argv[2], "utf8"));
const url = `${ready.origin.replace(/\/$/, "")}/demo/mcp`;
const home = await mkdtemp(join(tmpdir(), "inspector-"));

const port = await new Promise((found) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => found(port));
  });
});

/** Runs it; when it asks for a sign-in, a person does that and the browser comes back to its listener. */
async function inspect(...more) {
  const child = spawn(
    join(process.env.CLIENTS_DIR, "node_modules/.bin/mcp-inspector"),
    ["--cli", url, "--transport", "http", "--callback-url", `http://127.0.0.1:${port}/oauth/callback`, ...more],
    { env: { ...process.env, HOME: home, BROWSER: "true", MCP_AUTO_OPEN_ENABLED: "true" }, stdio: ["ignore", "pipe", "pipe"] },
  );
  let [output, errors, signedIn] = ["", "", 0];
  const read = async () => {
    const asked = /https?:\/\/\S+\/oauth2\/authorize\?\S+(?=\s)/.exec(errors);
    if (!asked || signedIn) return;
    signedIn++;
    await fetch(await signIn(asked[0], ready));
  };
  const problems = [];
  child.stdout.on("data", (chunk) => (output += chunk));
  child.stderr.on("data", (chunk) => {
    errors += chunk;
    read().catch((error) => problems.push(error));
  });
  const limit = setTimeout(() => child.kill(), 40_000);
  const code = await new Promise((ended) => child.on("close", ended));
  clearTimeout(limit);
  assert.equal(code, 0, `exit code ${code}: ${output}${errors}${problems}`);
  return { output, signedIn };
}

try {
  const call = ["--method", "tools/call", "--tool-name", "unit_convert"];
  const called = await inspect(...call, "--tool-args-json", '{"value":1,"from":"mi","to":"km"}');
  assert.equal(called.signedIn, 1, "it had to sign in");
  assert(called.output.includes("1.609344"), called.output);
} finally {
  await rm(home, { recursive: true });
}
console.log("Inspector: signed in, called");
