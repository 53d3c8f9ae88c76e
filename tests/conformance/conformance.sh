#!/usr/bin/env bash
# The MCP conformance suite, with the fixture that passes everything when it is addressed directly.
#   conformance.sh setup                            installs the suite, its Node and the fixture under .cache/
#   conformance.sh fixture PORT                     runs the fixture on 127.0.0.1 (foreground)
#   conformance.sh run URL [TOKEN]                  the three server sets; each must be complete and without a failure
#   conformance.sh direct                           the same against the fixture itself
#   conformance.sh authorization ISSUER CLIENT_ID RESOURCE [CLIENT_SECRET]
#                                                   the authorization server; prints the URL that a person, or a script,
#                                                   signs in at, and waits for http://127.0.0.1:3000/callback
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/../scripts/steps.sh"
here=$root/tests/conformance
dir=$cache/conformance
node_version=24.21.0
suite_version=0.2.0-alpha.12
mcp_version=2.3.0
# The revision, how it is selected, and how many scenarios it scores. No failure is expected in any of them.
sets=(
  "2025-11-25 --requirements 30"
  "2026-07-28 --requirements 37"
  "2025-06-18 --spec-version 27"
)

setup() {
  local wanted="$node_version $suite_version $mcp_version"
  [ "$(cat "$dir/installed" 2>/dev/null || true)" = "$wanted" ] && return
  rm -rf "$dir"
  mkdir -p "$dir"
  cd "$dir"
  echo '{ "private": true }' >package.json
  npm install --silent --save-exact "node@$node_version" "@modelcontextprotocol/conformance@$suite_version"
  python3 -m venv venv
  venv/bin/pip install --quiet --disable-pip-version-check "mcp==$mcp_version"
  # The fixture is in the source distribution only.
  venv/bin/pip download --quiet --disable-pip-version-check --no-deps --no-binary mcp "mcp==$mcp_version"
  tar xzf "mcp-$mcp_version.tar.gz"
  echo "$wanted" >installed
}

use_suite() {
  [ -f "$dir/installed" ] || { echo "run conformance.sh setup first" >&2; exit 1; }
  export PATH=$dir/node_modules/node/bin:$dir/node_modules/.bin:$PATH
}

fixture() {
  PYTHONPATH=$dir/mcp-$mcp_version/examples/servers/everything-server \
    exec "$dir/venv/bin/python" -m mcp_everything_server --port "$1"
}

# run_set URL REVISION OPTION EXPECTED: exactly the expected number of scenarios is scored, and none of them fails.
run_set() {
  local url=$1 revision=$2 option=$3 expected=$4 output=$dir/results/$2 ran unscored failed
  rm -rf "$output"
  mkdir -p "$output"
  # Its exit code counts scenarios that the revision does not require; they are listed behind "Not scored".
  conformance server --url "$url" "$option" "$revision" --output-dir "$output" >"$output/log" 2>&1 || true
  ran=$(sed -nE 's/^Running .*\(([0-9]+) scenarios\).*/\1/p' "$output/log")
  unscored=$(sed -nE '/^Not scored/,$s/^ +[✓✗] ([a-z0-9-]+) .*/\1/p' "$output/log")
  failed=$(sed -nE 's/^✗ ([a-z0-9-]+):.*/\1/p' "$output/log" | grep -vxF "${unscored:-none}" || true)
  local scored=$((${ran:-0} - $(printf '%s' "$unscored" | grep -c . || true)))
  if [ -z "$failed" ] && [ "$scored" = "$expected" ] && grep -q '^Total:' "$output/log"; then
    printf '    %s: %d/%d\n' "$revision" "$scored" "$expected"
    return
  fi
  printf '    %s: FAILED, %d of %d scenarios ran (log: %s)\n' "$revision" "$scored" "$expected" "$output/log" >&2
  [ -z "$failed" ] || printf '      %s\n' $failed >&2
  return 1
}

run() {
  local url=$1 token=${2:-} origin path port status=0 shim
  use_suite
  origin=$(printf '%s' "$url" | sed -E 's#(https?://[^/]+).*#\1#')
  path=${url#"$origin"}
  # The suite sends no credentials of its own.
  exec 3< <(exec node "$here/header-shim.mjs" "$origin" ${token:+"Authorization: Bearer $token"})
  shim=$!
  read -r port <&3
  for set in "${sets[@]}"; do
    # shellcheck disable=SC2086
    run_set "http://127.0.0.1:$port$path" $set || status=1
  done
  kill "$shim"
  return "$status"
}

direct() {
  local port pid status=0
  port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
  fixture "$port" >"$dir/fixture.log" 2>&1 &
  pid=$!
  for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
  done
  run "http://127.0.0.1:$port/mcp" || status=$?
  kill "$pid"
  return "$status"
}

authorization() {
  use_suite
  mkdir -p "$dir/results/authorization"
  conformance authorization --url "$1" --client-id "$2" --resource "$3" ${4:+--client-secret "$4"} \
    --port 3000 --output-dir "$dir/results/authorization"
}

command=${1:-}
shift || true
case $command in
setup | direct) "$command" ;;
fixture | run | authorization) "$command" "$@" ;;
*)
  sed -n '2,/^set/p' "$0" | sed '$d;s/^# \{0,1\}//' >&2
  exit 2
  ;;
esac
