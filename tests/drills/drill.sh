#!/usr/bin/env bash
# Builds what the fault drills need and runs them: ONLY=name for one, SMOKE=1 for the short ones, PROFILE=release.
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/../scripts/steps.sh"
cd "$root"
profile=${PROFILE:-quick}
command -v faketime >/dev/null || step "faketime" apt_install faketime
step "what a platform needs" deploy/local/install.sh
programs=(gateway auth-server registry worker migrator portico mcpload echo-upstream)
step "build" cargo build --quiet --profile "$profile" "${programs[@]/#/--package=}"
exec python3 tests/drills/drills.py --bin "${CARGO_TARGET_DIR:-$root/target}/$profile" ${ONLY:+--only "$ONLY"} ${SMOKE:+--smoke} "$@"
