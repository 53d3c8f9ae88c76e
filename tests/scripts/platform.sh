#!/usr/bin/env bash
# What is tested on separate services with two replicas of each, behind one balancer: platform.sh PROGRAMS
# PROGRAMS is the folder of the built binaries.
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/steps.sh"
cd "$root"
programs=${1:?the folder of the binaries}
local_platform=$root/deploy/local/local.py
# Postgres runs as a user of its own, who has to get to its folder.
dir=$(mktemp -d)
chmod 755 "$dir"

clear_away() {
  local status=$?
  "$local_platform" down --dir "$dir/platform" >/dev/null || true
  if [ "$status" = 0 ]; then
    rm -rf "$dir"
  else
    echo "the logs of all services are in $dir/platform/logs" >&2
  fi
}
trap clear_away EXIT

# Limits that scenarios in turn would reach together; each is tested where it is set.
settings=(
  --set auth-server:auth_server.sign_ins_per_minute=10000
  --set auth-server:auth_server.limits.principal_per_minute=100000
  --set auth-server:auth_server.limits.principal_burst=10000
  --set auth-server:auth_server.limits.denial_records_per_minute=1000
  --set registry:registry.limits.principal_per_minute=100000
  --set registry:registry.limits.principal_burst=10000
  --set registry:registry.limits.denial_records_per_minute=1000
)

up() {
  local begin=$SECONDS
  # A step's failures do not end it by themselves.
  "$local_platform" up --dir "$dir/platform" --free-ports --bin "$programs" "${settings[@]}" || return
  [ $((SECONDS - begin)) -lt 20 ] || { echo "it took $((SECONDS - begin)) s, more than 20" >&2; return 1; }
}

scenarios() {
  PORTICO_TEST_DEPLOYMENT=platform PORTICO_TEST_PLATFORM=$dir/platform \
    cargo nextest run --workspace -E 'package(acceptance) & binary(e2e)' --run-ignored all -j 1 --cargo-quiet \
    --status-level slow
}

# Without a right a service works as if Redis were down: nothing else fails.
rights() {
  ! grep -F "the user of the Redis URL may not do" "$dir"/platform/logs/*
}

down() {
  "$local_platform" down --dir "$dir/platform" || return
  if pgrep -f "$dir/platform"; then
    echo "these still run" >&2
    return 1
  fi
}

step "platform up" up
step "scenarios on separate services" scenarios
step "conformance through the balancer" tests/scripts/conformance.sh platform "$programs/portico" "$dir/platform/ready.json"
step "rights of the users of Redis" rights
step "platform down" down
step "fault drills, the short ones" python3 tests/drills/drills.py --bin "$programs" --smoke
