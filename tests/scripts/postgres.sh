#!/usr/bin/env bash
# Starts and stops a private Postgres for the tests: `postgres.sh start | url | stop`.
# `start` prints the URL and may be called again; on Debian and Ubuntu it installs the server if there is none.
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/steps.sh"

state=${PORTICO_TEST_POSTGRES_DIR:-${TMPDIR:-/tmp}/portico-test-postgres-$(id -u)}

die() { echo "postgres.sh: $*" >&2; exit 1; }

# Postgres refuses to run as root: root lends it the user of the Debian package.
as_server() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

# The newest server that is installed.
binaries() {
    newest=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1)
    [ -n "$newest" ] || return 1
    dirname "$newest"
}

install_server() {
    command -v apt-get >/dev/null ||
        die "there is no Postgres here: install version 15 or newer, or set PORTICO_TEST_POSTGRES_URL"
    # The package would otherwise start a server of its own.
    as_root mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
    apt_install postgresql
}

running() {
    [ -f "$state/port" ] && as_server "$bin/pg_ctl" -D "$state/data" status >/dev/null 2>&1
}

url() { echo "postgres://portico@127.0.0.1:$(cat "$state/port")/portico"; }

# Removes what an earlier start left, and nothing that this script did not make.
clear_state() {
    [ -e "$state" ] || return 0
    [ -O "$state" ] || [ "$(id -u)" = 0 ] || die "$state belongs to another user"
    [ -f "$state/.portico-test-postgres" ] || die "$state was not made by this script: remove it yourself"
    rm -rf "$state"
}

start() {
    bin=$(binaries) || { install_server; bin=$(binaries) || die "the installed package has no initdb"; }
    if running; then url; return; fi
    clear_state
    mkdir -m 755 "$state"
    touch "$state/.portico-test-postgres"
    if [ "$(id -u)" = 0 ]; then chown postgres "$state"; fi
    # The server's user may not read the caller's directory.
    cd "$state"
    as_server "$bin/initdb" -D "$state/data" -U portico --auth=trust -E UTF8 --locale=C.UTF-8 --no-sync \
        >"$state/initdb.log" 2>&1 || { cat "$state/initdb.log" >&2; die "initdb failed"; }
    # Nothing in it outlives the tests, so durability is traded for speed. Somebody may take the port between
    # looking and starting, hence several attempts.
    for _ in 1 2 3 4 5; do
        port=$(free_port)
        options="-p $port -k $state -c listen_addresses=127.0.0.1 -c max_connections=200 -c shared_buffers=64MB \
            -c fsync=off -c full_page_writes=off -c synchronous_commit=off"
        if as_server "$bin/pg_ctl" -D "$state/data" -w -t 30 -l "$state/server.log" -o "$options" start >/dev/null 2>&1
        then
            as_server "$bin/createdb" -h "$state" -p "$port" -U portico portico
            echo "$port" >"$state/port"
            url
            return
        fi
    done
    cat "$state/server.log" >&2
    die "the server does not start"
}

stop() {
    bin=$(binaries) || return 0
    if running; then as_server "$bin/pg_ctl" -D "$state/data" -m immediate -w stop >/dev/null; fi
    clear_state
}

case ${1:-} in
start) start ;;
stop) stop ;;
url) [ -f "$state/port" ] || die "it does not run: call 'postgres.sh start' first"; url ;;
*) die "usage: postgres.sh start | url | stop" ;;
esac
