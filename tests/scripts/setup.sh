#!/usr/bin/env bash
# Installs what the tests need and the machine lacks: system packages by apt, everything else under .cache/.
#   setup.sh lint    what the static checks need
#   setup.sh test    that, and what the tests need
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/steps.sh"

buf_version=1.75.0
deny_version=0.20.2
nextest_version=0.9.143

need_node() {
  command -v node >/dev/null && command -v npm >/dev/null && return
  echo "Node (20 or newer) with npm is missing: install it from https://nodejs.org or with apt-get install nodejs npm" >&2
  return 1
}

install_cargo_tool() { # NAME VERSION: kept when the machine already has one
  command -v "cargo-$1" >/dev/null && return
  echo "    building cargo-$1 $2, once (a few minutes)"
  cargo install --quiet --locked --debug --root "$cache/cargo" "cargo-$1" --version "$2"
}

install_buf() {
  need_node
  [ "$(buf --version 2>/dev/null || true)" = "$buf_version" ] && return
  npm_install --no-save --prefix "$cache/npm" "@bufbuild/buf@$buf_version"
}

install_postgres() { # any major version from 15 on
  for initdb in /usr/lib/postgresql/*/bin/initdb; do
    local major=${initdb#/usr/lib/postgresql/}
    [ -x "$initdb" ] && [ "${major%%/*}" -ge 15 ] && return
  done
  apt_install postgresql-15 || apt_install postgresql
}

install_redis() {
  command -v redis-server >/dev/null && command -v redis-cli >/dev/null && return
  apt_install redis-server
}

install_python() {
  python3 -c 'import ensurepip, venv' 2>/dev/null && return
  apt_install python3 python3-venv
}

mkdir -p "$cache"
need_compilers
case ${1:-test} in
lint)
  install_cargo_tool deny "$deny_version"
  install_buf
  ;;
test)
  "$0" lint
  install_cargo_tool nextest "$nextest_version"
  install_postgres
  install_redis
  install_python
  "$root/deploy/local/install.sh"
  "$root/tests/scripts/conformance.sh" setup
  "$root/tests/clients/clients.sh" setup
  "$root/tests/deploy/deploy.sh" setup
  ;;
*)
  echo "usage: setup.sh lint|test" >&2
  exit 2
  ;;
esac
