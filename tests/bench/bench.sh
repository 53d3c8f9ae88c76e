#!/usr/bin/env bash
# Measures the gateway beside nginx and a bare hyper proxy: builds what it needs, then runs bench.py with the arguments.
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/../scripts/steps.sh"
cd "$root"
[ "$(nproc)" -ge 2 ] || { echo "the benchmark needs two cores: one for the proxy, one for load and upstream" >&2; exit 1; }
need_compilers
export PATH=$PATH:/usr/sbin
command -v nginx >/dev/null || step "nginx" apt_install nginx-light
command -v taskset >/dev/null || step "taskset" apt_install util-linux
step "release build" cargo build --quiet --release -p portico -p mcpload -p echo-upstream -p floor-proxy
exec python3 tests/bench/bench.py --bin "${CARGO_TARGET_DIR:-$root/target}/release" "$@"
