#!/bin/sh
# Starts and stops a private Postgres for the tests: `postgres.sh start | url | stop`.
# `start` prints the URL and may be called again; on Debian and Ubuntu it installs the server if there is none.
set -eu

state=${PORTICO_TEST_POSTGRES_DIR:-${TMPDIR:-/tmp}/portico-test-postgres-$(id -u)}

die() { echo "postgres.sh: $*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Postgres refuses to run as root: root lends it the user of the Debian package.
as_server() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

binaries() {
    for initdb in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$initdb" ] && found=${initdb%/initdb}
    done
    [ -n "${found:-}" ] || return 1
    echo "$found"
}

install_server() {
    command -v apt-get >/dev/null || die "no Postgres here: install version 15 or newer, or set PORTICO_TEST_POSTGRES_URL"
    # The package would otherwise start a server of its own.
    as_root mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
    as_root apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends postgresql >&2
}

running() {
    [ -f "$state/port" ] && as_server "$bin/pg_ctl" -D "$state/data" status >/dev/null 2>&1
}

url() { echo "postgres://portico@127.0.0.1:$(cat "$state/port")/portico"; }

free_port() {
    while :; do
        port=$(shuf -i 20000-32000 -n 1)
        # 0 in the state column of the kernel's table would be no listener: any line with the port will do.
        grep -qi ":$(printf '%04X' "$port") " /proc/net/tcp /proc/net/tcp6 2>/dev/null || break
    done
    echo "$port"
}

start() {
    bin=$(binaries) || { install_server; bin=$(binaries) || die "the installed package has no initdb"; }
    if running; then url; return; fi
    rm -rf "$state"
    mkdir -m 755 "$state"
    if [ "$(id -u)" = 0 ]; then chown postgres "$state"; fi
    cd "$state"
    as_server "$bin/initdb" -D "$state/data" -U portico --auth=trust -E UTF8 --locale=C.UTF-8 --no-sync \
        >"$state.log" 2>&1 || { cat "$state.log" >&2; die "initdb failed"; }
    # Nothing of this outlives the tests, so durability is traded for speed. Another process may take the port
    # between looking and starting: try again.
    for attempt in 1 2 3 4 5; do
        port=$(free_port)
        if as_server "$bin/pg_ctl" -D "$state/data" -w -t 30 -l "$state/server.log" -o "-p $port -k $state \
            -c listen_addresses=127.0.0.1 -c max_connections=200 -c fsync=off -c full_page_writes=off \
            -c synchronous_commit=off -c shared_buffers=64MB" start >/dev/null 2>&1; then
            as_server "$bin/createdb" -h "$state" -p "$port" -U portico portico
            echo "$port" >"$state/port"
            url
            return
        fi
        [ "$attempt" = 5 ] || continue
        cat "$state/server.log" >&2
    done
    die "the server does not start"
}

stop() {
    bin=$(binaries) || return 0
    if running; then as_server "$bin/pg_ctl" -D "$state/data" -m immediate -w stop >/dev/null; fi
    rm -rf "$state" "$state.log"
}

case ${1:-} in
start) start ;;
stop) stop ;;
url) [ -f "$state/port" ] || die "not running: call 'postgres.sh start' first"; url ;;
*) die "usage: postgres.sh start | url | stop" ;;
esac
