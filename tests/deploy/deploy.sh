#!/usr/bin/env bash
# What deploys Portico, read by the tools that would read it: the real Helm library, Kubernetes' schemas, CloudFormation's
# linter, HAProxy, and images that are built and run.
#   deploy.sh setup           installs the tools under .cache/, podman and HAProxy by apt
#   deploy.sh test [BINARIES] renders, lints, checks; with a folder of built programs, builds and runs their images
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/../scripts/steps.sh"
here=$root/tests/deploy
dir=$cache/deploy
export PATH=$PATH:/usr/sbin

setup() {
  local wanted program
  # runc, not crun: crun refuses machines whose cgroups are of both versions.
  for program in podman runc iptables ip haproxy openssl strip; do
    command -v "$program" >/dev/null && continue
    apt_install podman buildah runc netavark aardvark-dns iptables iproute2 catatonit haproxy openssl binutils
    break
  done
  wanted=$(sha256sum <"$here/requirements.txt")
  [ "$(cat "$dir/installed" 2>/dev/null || true)" = "$wanted" ] && return
  rm -rf "$dir/venv"
  mkdir -p "$dir"
  python3 -m venv "$dir/venv"
  "$dir/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  echo "$wanted" >"$dir/installed"
}

run_tests() {
  [ -f "$dir/installed" ] || { echo "run deploy.sh setup first" >&2; exit 1; }
  export PATH=$dir/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PORTICO_BINARIES=${1:-}
  cd "$here"
  python3 -m pytest --quiet --exitfirst --override-ini=cache_dir="$dir/pytest" .
}

case ${1:-} in
setup) setup ;;
test) run_tests "${@:2}" ;;
*)
  sed -n '2,/^set/p' "$0" | sed '$d;s/^# \{0,1\}//' >&2
  exit 2
  ;;
esac
