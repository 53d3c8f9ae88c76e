// Loopback shim for clients that cannot send credentials (the MCP conformance suite): forwards every request to one
// origin and adds headers. Streams both ways, changes nothing else. Test use only.
//   node header-shim.mjs http://127.0.0.1:8080 ['Authorization: Bearer …' …]
// It listens on a free port of 127.0.0.1 and prints that port.
import http from 'node:http';

const [, , origin, ...headers] = process.argv;
const target = new URL(origin);
const extra = Object.fromEntries(
  headers.map((h) => [h.slice(0, h.indexOf(':')).trim().toLowerCase(), h.slice(h.indexOf(':') + 1).trim()]),
);

const server = http.createServer((request, response) => {
  // Host and Origin are passed on with the shim's own authority replaced, so that the target's own checks are tested.
  const { port } = server.address();
  const own = [`127.0.0.1:${port}`, `localhost:${port}`];
  const forwarded = { ...request.headers, ...extra };
  if (own.includes(forwarded.host)) forwarded.host = target.host;
  if (own.some((authority) => forwarded.origin === `http://${authority}`)) forwarded.origin = target.origin;
  const options = {
    host: target.hostname,
    port: target.port,
    path: request.url,
    method: request.method,
    headers: forwarded,
  };
  const upstream = http.request(options, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    response.flushHeaders();
    answer.pipe(response);
  });
  upstream.on('error', () => {
    if (!response.headersSent) response.writeHead(502);
    response.end();
  });
  response.on('close', () => upstream.destroy());
  request.pipe(upstream);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
