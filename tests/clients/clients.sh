#!/usr/bin/env bash
# Real clients and real servers, with the packages as their authors publish them.
#   clients.sh setup           installs them under .cache/
#   clients.sh test PORTICO    starts that binary; every client signs in and calls, every server behaves through
#                              Portico as it does directly (differences.txt holds the differences: none)
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/../scripts/steps.sh"
here=$root/tests/clients
dir=$cache/clients
npm_packages=(node@24.21.0 @modelcontextprotocol/inspector@2.12.0 @modelcontextprotocol/sdk@1.32.2
  @modelcontextprotocol/client@2.4.0 @modelcontextprotocol/server-everything@2026.8.31)
# fastmcp 4.1.3 and newer want a newer certifi than every index has.
pip_packages=(mcp==2.3.0 fastmcp==4.1.2)

setup() {
  local wanted="${npm_packages[*]} ${pip_packages[*]}"
  [ "$(cat "$dir/installed" 2>/dev/null || true)" = "$wanted" ] && return
  rm -rf "$dir"
  mkdir -p "$dir"
  cd "$dir"
  echo '{ "private": true }' >package.json
  python3 -m venv python
  python/bin/pip install --quiet --disable-pip-version-check "${pip_packages[@]}" &
  local pip=$!
  npm_install --save-exact "${npm_packages[@]}"
  wait "$pip"
  echo "$wanted" >installed
}

# parity NAME URL: prints the differences between the server itself and the server through Portico: its own endpoint, and
# a virtual server with plain names.
parity() {
  local name=$1 url=$2 endpoint
  portico server register "$name" --url "$url" >/dev/null
  portico endpoint create "$name-virtual" --server "$name" --names plain >/dev/null
  scenarios "$name" "$url" >"$work/$name.direct"
  [ "$(wc -l <"$work/$name.direct")" -ge 20 ] || { echo "$name: too few scenarios ran"; cat "$work/$name.direct"; }
  for endpoint in "$name" "$name-virtual"; do
    until_usable "$endpoint"
    scenarios "$name" "$origin/$endpoint/mcp" "$(portico token --endpoint "$endpoint")" >"$work/$endpoint.through"
    diff "$work/$name.direct" "$work/$endpoint.through" || true
  done
}

# scenarios NAME URL [TOKEN]: in the session era with the official client; in the stateless era too where it is spoken.
scenarios() {
  patiently node "$here/parity.mjs" "$@"
  if [ "$1" = fastmcp ]; then patiently python3 "$here/stateless_parity.py" "$@"; fi
}

run_tests() {
  [ -f "$dir/installed" ] || { echo "run clients.sh setup first" >&2; exit 1; }
  export PATH=$dir/node_modules/node/bin:$PATH CLIENTS_DIR=$dir PYTHONDONTWRITEBYTECODE=1
  # shellcheck source=tests/scripts/background.sh
  source "$root/tests/scripts/background.sh"
  local everything fastmcp library
  everything=$(free_port) fastmcp=$(free_port) library=$(free_port)
  start everything env PORT="$everything" "$dir/node_modules/.bin/mcp-server-everything" streamableHttp
  start fastmcp "$dir/python/bin/python" "$here/fastmcp_server.py" "$fastmcp"
  start library node "$here/typescript-server.mjs" "$library"
  start_portico "$1"
  until_listening everything "$everything"
  until_listening fastmcp "$fastmcp"
  until_listening library "$library"

  local jobs=() job status=0
  run_job() { # NAME COMMAND …
    local name=$1
    shift
    jobs+=("$name")
    { "$@" >"$work/$name.out" 2>&1 && echo ok || echo failed; } >"$work/$name.status" &
    waits+=($!)
  }
  local waits=()
  run_job python patiently "$dir/python/bin/python" "$here/python_sdk.py" "$work/ready.json"
  run_job sdk-1 patiently node "$here/typescript-sdk.mjs" 1 "$work/ready.json"
  run_job client-2 patiently node "$here/typescript-sdk.mjs" 2 "$work/ready.json"
  run_job inspector patiently node "$here/inspector.mjs" "$work/ready.json"
  run_job s4_14_everything-parity parity everything "http://127.0.0.1:$everything/mcp"
  run_job s4_41_fastmcp-parity parity fastmcp "http://127.0.0.1:$fastmcp/mcp"
  run_job s2_12_typescript-parity parity library "http://127.0.0.1:$library/mcp"
  wait "${waits[@]}"
  cat "$work"/*-parity.out >"$work/differences"
  for job in "${jobs[@]}"; do
    if [ "$(cat "$work/$job.status")" != ok ]; then
      printf '    %s: FAILED\n' "$job" >&2
      sed 's/^/      /' "$work/$job.out" >&2
      status=1
    elif [[ $job != *-parity ]]; then
      sed 's/^/    /' "$work/$job.out"
    fi
  done
  if ! diff "$here/differences.txt" "$work/differences" >&2; then
    echo "a server behaves through Portico in another way than directly (lines with > are new)" >&2
    status=1
  elif [ "$status" = 0 ]; then
    echo "    server-everything, fastmcp and a TypeScript server: the same through Portico as directly"
  fi
  return "$status"
}

case ${1:-} in
setup) setup ;;
test) run_tests "${2:?the binary to test}" ;;
*)
  sed -n '2,5p' "$0" | sed 's/^# \{0,1\}//' >&2
  exit 2
  ;;
esac
