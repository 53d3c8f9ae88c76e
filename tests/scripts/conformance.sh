#!/usr/bin/env bash
# The MCP conformance suite, with the fixture that passes everything when it is addressed directly.
#   conformance.sh setup              installs the suite, its Node and the fixture under .cache/
#   conformance.sh test PORTICO       starts that binary with the fixture behind it and runs, authenticated: the server
#                                     sets for each kind of endpoint, and the authorization set
#   conformance.sh platform PORTICO READY_FILE   the same against a Portico that runs already
#   conformance.sh run URL [TOKEN]    the server sets against any endpoint
#   conformance.sh direct             the server sets against the fixture itself
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/steps.sh"
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
  npm_install --save-exact \
    "node@$node_version" "@modelcontextprotocol/conformance@$suite_version"
  python3 -m venv venv
  venv/bin/pip install --quiet --disable-pip-version-check "mcp==$mcp_version"
  # The fixture is in the source distribution only.
  venv/bin/pip download --quiet --disable-pip-version-check --no-deps --no-binary mcp "mcp==$mcp_version"
  tar xzf "mcp-$mcp_version.tar.gz"
  echo "$wanted" >installed
}

use_suite() {
  [ -f "$dir/installed" ] || { echo "run conformance.sh setup first" >&2; exit 1; }
  export PATH=$dir/node_modules/node/bin:$dir/node_modules/.bin:$PATH PYTHONDONTWRITEBYTECODE=1
  # shellcheck source=tests/scripts/background.sh
  source "$root/tests/scripts/background.sh"
}

start_fixture() {
  fixture=$(free_port)
  PYTHONPATH=$dir/mcp-$mcp_version/examples/servers/everything-server \
    start fixture "$dir/venv/bin/python" -m mcp_everything_server --port "$fixture"
}

# server_sets NAME URL [TOKEN]: one row of the table. The suite sends no credentials of its own: the shim adds them.
server_sets() {
  local name=$1 url=$2 token=${3:-} path=/${2#*://*/} status=0
  local set port output revision option expected
  start "$name-shim" node "$here/header-shim.mjs" "${url%"$path"}" ${token:+"Authorization: Bearer $token"}
  within 10 test -s "$work/$name-shim.log" || return 1
  port=$(cat "$work/$name-shim.log")
  printf '    %-14s' "$name"
  for set in "${sets[@]}"; do
    read -r revision option expected <<<"$set"
    output=$dir/results/$name/$revision
    rm -rf "$output"
    mkdir -p "$output"
    # Its exit code counts scenarios that the revision does not require, so the score is taken from what it wrote.
    patiently conformance server --url "http://127.0.0.1:$port$path" "$option" "$revision" --output-dir "$output" \
      >"$output/log" 2>&1 || true
    score "$name, $revision" "$output" "$expected" || status=1
  done
  printf '\n'
  return "$status"
}

# score WHAT DIRECTORY EXPECTED: a cell of the table; what is to be said about it comes below the table.
score() {
  local cell status=0
  cell=$(python3 "$here/score.py" "$@" 2>>"$work/remarks") || status=1
  printf ' %-11s' "$cell"
  return "$status"
}

# The authorization set, with a client that registers itself and a person who signs in on the pages.
authorization_set() {
  local output=$dir/results/authorization status=0
  rm -rf "$output"
  mkdir -p "$output"
  patiently python3 "$here/authorize.py" "$PORTICO_READY_FILE" "$origin/fixture/mcp" "$output" >"$work/authorize.log" 2>&1 ||
    { cat "$work/authorize.log" >>"$work/remarks"; status=1; }
  printf '    %-14s' authorization
  score authorization "$output" 2 || status=1
  printf '\n'
  return "$status"
}

heading() {
  printf '    %-14s' ""
  for set in "${sets[@]}"; do printf ' %-11s' "${set%% *}"; done
  printf '\n'
}

# The remarks of all scores, and whether anything failed.
verdict() {
  if [ -s "$work/remarks" ]; then sed 's/^/    /' "$work/remarks"; fi
  return "$1"
}

run_tests() { # PORTICO [READY_FILE]
  local status=0 endpoint
  use_suite
  start_fixture
  if [ -n "${2:-}" ]; then use_portico "$1" "$2"; else start_portico "$1"; fi
  until_listening fixture "$fixture"
  # One server; that server as a virtual server; and merged with another one, whose names do not collide.
  portico server register fixture --url "http://127.0.0.1:$fixture/mcp" >/dev/null
  portico endpoint create virtual --server fixture --names plain >/dev/null
  portico endpoint create merged --server fixture --server demo --names plain >/dev/null
  heading
  for endpoint in fixture virtual merged; do
    until_usable "$endpoint"
    server_sets "$endpoint" "$origin/$endpoint/mcp" "$(portico token --endpoint "$endpoint")" || status=1
  done
  authorization_set || status=1
  verdict "$status"
}

run() {
  local status=0
  use_suite
  heading
  server_sets run "$@" || status=1
  verdict "$status"
}

direct() {
  local status=0
  use_suite
  start_fixture
  until_listening fixture "$fixture"
  heading
  server_sets direct "http://127.0.0.1:$fixture/mcp" || status=1
  verdict "$status"
}

case ${1:-} in
setup | direct) "$1" ;;
test) run_tests "${2:?the binary to test}" ;;
platform) run_tests "${2:?the command line}" "${3:?its ready file}" ;;
run) run "${@:2}" ;;
*)
  sed -n '2,/^set/p' "$0" | sed '$d;s/^# \{0,1\}//' >&2
  exit 2
  ;;
esac
