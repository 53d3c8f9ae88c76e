#!/usr/bin/env bash
# Starts and stops a private Redis for the tests: `redis.sh start | url | stop`.
# `start` prints the URL and may be called again; on Debian and Ubuntu it installs the server if there is none.
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/steps.sh"

state=${PORTICO_TEST_REDIS_DIR:-${TMPDIR:-/tmp}/portico-test-redis-$(id -u)}

die() { echo "redis.sh: $*" >&2; exit 1; }

install_server() {
    command -v apt-get >/dev/null ||
        die "there is no Redis here: install version 7.0 or newer, or set PORTICO_TEST_REDIS_URL"
    apt_install redis-server
}

ask() { redis-cli -h 127.0.0.1 -p "$(cat "$state/port")" "$@"; }

# The server that wrote the process id, and not another one that has its port or its id today.
running() {
    [ -f "$state/port" ] && [ -f "$state/redis.pid" ] &&
        [ "$(ask config get pidfile 2>/dev/null | tail -n 1)" = "$state/redis.pid" ]
}

url() { echo "redis://127.0.0.1:$(cat "$state/port")"; }

# Removes what an earlier start left, and nothing that this script did not make.
clear_state() {
    [ -e "$state" ] || return 0
    [ -O "$state" ] || [ "$(id -u)" = 0 ] || die "$state belongs to another user"
    [ -f "$state/.portico-test-redis" ] || die "$state was not made by this script: remove it yourself"
    rm -rf "$state"
}

start() {
    command -v redis-server >/dev/null || install_server
    if running; then url; return; fi
    clear_state
    mkdir -m 755 "$state"
    touch "$state/.portico-test-redis"
    # Nothing in it outlives the tests. Somebody may take the port between looking and starting, hence several
    # attempts.
    for _ in 1 2 3 4 5; do
        port=$(free_port)
        echo "$port" >"$state/port"
        redis-server --port "$port" --bind 127.0.0.1 --dir "$state" --pidfile "$state/redis.pid" --daemonize yes \
            --logfile "$state/server.log" --save '' --appendonly no --maxmemory 256mb \
            --maxmemory-policy volatile-ttl >/dev/null
        for _ in $(seq 50); do
            if running; then url; return; fi
            sleep 0.1
        done
    done
    cat "$state/server.log" >&2
    die "the server does not start"
}

stop() {
    if running; then
        pid=$(cat "$state/redis.pid")
        ask shutdown nosave >/dev/null 2>&1 || true
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    fi
    clear_state
}

case ${1:-} in
start) start ;;
stop) stop ;;
url) [ -f "$state/port" ] || die "it does not run: call 'redis.sh start' first"; url ;;
*) die "usage: redis.sh start | url | stop" ;;
esac
