#!/usr/bin/env bash
# Everything that has to pass before a change lands, in the order of what fails fastest.
#   test.sh         all of it
#   test.sh lint    the static checks only
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/steps.sh"
cd "$root"
what=${1:-all}

step "set-up" tests/scripts/setup.sh "$([ "$what" = lint ] && echo lint || echo test)"
step "formatting" cargo fmt --all --check
step "proto rules" buf lint
step "dependencies" cargo fetch --quiet --locked
step "dependency rules" cargo deny --offline --log-level error --all-features check bans licenses sources
step "clippy" cargo clippy --quiet --workspace --all-targets -- -D warnings
[ "$what" = lint ] && exit 0

# Servers of this run alone: whoever works on this machine meanwhile keeps theirs. Postgres may run as another user, who
# has to get to its folder.
servers=$(mktemp -d)
chmod 755 "$servers"
export PORTICO_TEST_POSTGRES_DIR=$servers/postgres PORTICO_TEST_REDIS_DIR=$servers/redis
stop_servers() { # one even if the other does not stop
  tests/scripts/redis.sh stop || true
  tests/scripts/postgres.sh stop || true
  rm -rf "$servers"
}
trap stop_servers EXIT
step "postgres" tests/scripts/postgres.sh start
step "redis" tests/scripts/redis.sh start
PORTICO_TEST_POSTGRES_URL=$(tests/scripts/postgres.sh url)
PORTICO_TEST_REDIS_URL=$(tests/scripts/redis.sh url)
export PORTICO_TEST_POSTGRES_URL PORTICO_TEST_REDIS_URL

step "build" cargo nextest run --workspace --no-run --cargo-quiet
step "tests" cargo nextest run --workspace --cargo-quiet --status-level slow

# `portico` as the build above made it for the tests.
programs=${CARGO_TARGET_DIR:-$root/target}/debug
portico=$programs/portico-under-test
step "conformance" tests/scripts/conformance.sh test "$portico"
step "real clients and servers" tests/clients/clients.sh test "$portico"

step "programs" cargo build --quiet --workspace --bins
tests/scripts/platform.sh "$programs"
step "chart, compose, templates, images" tests/deploy/deploy.sh test "$programs"

printf '\nAll passed in %d s.\n' "$SECONDS"
