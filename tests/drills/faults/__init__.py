"""The drills, by what goes wrong. Each takes a stage and answers one line with its figures."""

from . import certificates, clocks, disk, kills, network, outages, restarts, revocation, sessions

# In the order in which they run. The smoke ones are short, and part of `make test`.
DRILLS = {
    "kill-gateway": kills.gateway,
    "kill-registry": kills.registry,
    "kill-auth-server": kills.auth_server,
    "kill-worker": kills.worker,
    "rolling-restart": restarts.rolling,
    "outage-registry": outages.registry,
    "outage-auth-server": outages.auth_server,
    "outage-worker": outages.worker,
    "outage-postgres": outages.postgres,
    "outage-redis": outages.redis,
    "suspended": outages.suspended,
    "redis-restart": outages.redis_restart,
    "redis-flush": outages.redis_flush,
    "cut-connections": network.cut_connections,
    "certificates-rotated": certificates.rotated,
    "certificates-expired": certificates.expired,
    "signing-keys": restarts.signing_keys,
    "clock-skew": clocks.skew,
    "disk-full": disk.full,
    "idle-sessions": sessions.idle,
    # Last: it removes every server, and nobody can close the sessions of a server that is gone.
    "revocation": revocation.everywhere,
}
SMOKE = ("kill-gateway", "kill-registry", "rolling-restart", "redis-restart", "certificates-rotated")
