"""nginx in front: one origin for agents and browsers, and one port for gRPC.

A request that never reached a replica goes to another one; one that did is not repeated, unless its method is safe to
repeat. A replica that is about to be restarted is taken out first, by a file of its name in the folder `out`, which is
looked for at every request: nothing has to be reloaded, so no connection of a client is closed.
"""

import os

from .layout import HOST, Layout, State
from .processes import Process, most_open_files, program

# Services with a public listener; the paths that nobody else has belong to the gateway.
PUBLIC = ("gateway", "auth-server", "registry")
GRPC = ("auth-server", "registry")

TEMPLATE = """\
daemon off;
{user}
worker_processes 1;
pid {run}/nginx.pid;
error_log {logs}/balancer.log warn;
events {{ worker_connections {connections}; }}

http {{
  log_format balanced '$time_iso8601 $status $request_method $uri -> $upstream_addr $upstream_status $request_time';
  access_log {logs}/access.log balanced buffer=64k flush=1s;
  server_tokens off;
  client_body_temp_path {run}/nginx-body; proxy_temp_path {run}/nginx-proxy;
  fastcgi_temp_path {run}/nginx-f; uwsgi_temp_path {run}/nginx-u; scgi_temp_path {run}/nginx-s;
  # The services have limits and deadlines of their own, and explain them.
  client_max_body_size 0;
  client_header_buffer_size 16k;
  large_client_header_buffers 8 64k;
  keepalive_timeout 600s;
  keepalive_requests 100000000;
  proxy_http_version 1.1;
  proxy_set_header Host $http_host;
  proxy_set_header Connection "";
  # The services believe this header from the balancer only, so what a client says of itself is replaced.
  proxy_set_header X-Forwarded-For $remote_addr;
  grpc_set_header X-Forwarded-For $remote_addr;
  proxy_connect_timeout 2s;
  # Event streams are passed on as they come, and may be silent for long.
  proxy_buffering off;
  proxy_request_buffering off;
  proxy_read_timeout 1h;
  proxy_buffer_size 64k;
  proxy_buffers 8 64k;
  proxy_next_upstream error timeout;
  grpc_connect_timeout 2s;
  grpc_read_timeout 1h;
  grpc_send_timeout 1h;
  grpc_buffer_size 64k;
  grpc_next_upstream error timeout;

{upstreams}
  server {{
    listen {host}:{origin} backlog=4096;
{http_choices}
    location / {{ proxy_pass http://$gateway; }}
    location ~ ^/((login|account)([/.]|$)|(issuer|oauth2|api/auth|scim)/) {{ proxy_pass http://$auth_server; }}
    location ~ ^/\\.well-known/(oauth-authorization-server|openid-configuration|portico)(/|$) {{ proxy_pass http://$auth_server; }}
    location ~ ^/(v0|v0\\.1|api/registry)/ {{ proxy_pass http://$registry; }}
    # Its own words are for a replica that was lost under a request, and for when none is left.
    error_page 502 503 504 @lost;
    location @lost {{
      default_type application/problem+json;
      return 502 '{{"type":"about:blank","title":"no replica could finish this request: send it again","status":502,"reason":"replica_lost"}}';
    }}
  }}

  server {{
    listen {host}:{grpc} http2 backlog=1024;
    http2_max_concurrent_streams 128;
{grpc_choices}
    location / {{ grpc_pass grpc://$registry; }}
    location /portico.auth. {{ grpc_pass grpc://$auth_server; }}
  }}
}}
"""


class Balancer:
    """The nginx of one platform."""

    def __init__(self, layout: Layout, state: State):
        self.layout, self.state = layout, state
        self.config = layout.settings / "nginx.conf"
        nginx = program("nginx", "nginx-light")
        self.process = Process(layout, "balancer", [nginx, "-e", layout.logs / "balancer.log", "-c", self.config])

    def replicas(self, service: str) -> list[str]:
        return [f"{service}-{number}" for number in range(1, self.state.replicas + 1)]

    def group(self, name: str, addresses: list[str]) -> str:
        # Whoever asks for keep-alive must close before the service does (30 s). On this machine a dead replica refuses
        # at once: it is tried anew each time, and none is ever given up.
        servers = " ".join(f"server {address} max_fails=0;" for address in addresses)
        return f"  upstream {name} {{ {servers} keepalive 128; keepalive_timeout 20s; keepalive_requests 100000000; }}"

    def upstreams(self) -> str:
        """For each service all its replicas, and all but one. Connections are kept for one protocol, so gRPC has its own."""
        groups = []
        for protocol, service in [("http", service) for service in PUBLIC] + [("grpc", service) for service in GRPC]:
            address = {name: f"{HOST}:{self.state.ports[f'{name}.listen']}" for name in self.replicas(service)}
            groups.append(self.group(f"{protocol}-{service}", list(address.values())))
            for left_out in address if len(address) > 1 else []:
                others = [address[name] for name in address if name != left_out]
                groups.append(self.group(f"{protocol}-{service}-but-{left_out}", others))
        return "\n".join(groups)

    def choices(self, protocol: str, services: tuple) -> str:
        """Which group each service's requests go to."""
        lines = []
        for service in services:
            variable = service.replace("-", "_")
            lines.append(f"    set ${variable} {protocol}-{service};")
            for name in self.replicas(service) if self.state.replicas > 1 else []:
                lines.append(f"    if (-f {self.layout.out}/{name}) {{ set ${variable} {protocol}-{service}-but-{name}; }}")
        return "\n".join(lines)

    def prepare(self):
        # Started by root, its worker would lose the rights to look into the folder `out`.
        user = "user root;" if os.geteuid() == 0 else ""
        layout, ports = self.layout, self.state.ports
        text = TEMPLATE.format(
            user=user, run=layout.run, logs=layout.logs, host=HOST, origin=ports["origin"], grpc=ports["grpc"],
            upstreams=self.upstreams(), http_choices=self.choices("http", PUBLIC), grpc_choices=self.choices("grpc", GRPC),
            connections=most_open_files(),
        )
        self.config.write_text(text)

    def take_out(self, name: str):
        """From now on no request is sent to this replica."""
        (self.layout.out / name).touch()

    def put_back(self, name: str):
        (self.layout.out / name).unlink(missing_ok=True)
