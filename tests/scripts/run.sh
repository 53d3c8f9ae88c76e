#!/usr/bin/env bash
# Builds `portico` and starts it: RELEASE=1 takes the release profile, everything else goes to `portico dev`.
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/steps.sh"
cd "$root"
need_compilers
profile=$([ -n "${RELEASE:-}" ] && echo release || echo quick)
target=${CARGO_TARGET_DIR:-$root/target}
[ -x "$target/$profile/portico" ] || echo "The first build takes some minutes; later ones take seconds."
cargo build --profile "$profile" --package portico --bin portico
exec "$target/$profile/portico" dev "$@"
