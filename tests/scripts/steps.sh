# Sourced by the other scripts: headings with durations, and the paths that they all use.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=$root/.cache
export PATH=$cache/cargo/bin:$cache/npm/node_modules/.bin:$PATH

# step NAME COMMAND …: runs the command under a heading; a failure ends the script and names the step.
step() {
  local name=$1 begin=$SECONDS
  shift
  printf '\n=== %s\n' "$name"
  if "$@"; then
    printf '    %s: ok, %d s\n' "$name" $((SECONDS - begin))
  else
    printf '    %s: FAILED after %d s (command: %s)\n' "$name" $((SECONDS - begin)) "$*" >&2
    exit 1
  fi
}

# need_compilers: Rust's has to be there; C's, which some dependencies are built with, is installed.
need_compilers() {
  command -v cargo >/dev/null || { echo "cargo is missing: install a Rust toolchain from https://rustup.rs" >&2; return 1; }
  command -v cc >/dev/null || step "C compiler" apt_install build-essential
}

# patiently COMMAND …: with all the time that a busy machine may need, but not for ever.
patiently() {
  timeout --foreground --kill-after=10 1200 "$@"
}

# npm_install ARGUMENT …: says nothing but what went wrong.
npm_install() {
  npm install --loglevel=error --no-audit --no-fund "$@" >/dev/null
}

# as_root COMMAND …: directly as root, with sudo otherwise.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "this needs root: run it as root or install sudo (command: $*)" >&2
    return 1
  fi
}

# apt_install PACKAGE …: from the distribution, without starting the daemons that come with it.
apt_install() {
  as_root apt-get update -qq &&
    as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# free_port: one that nobody listens on or is connected from, outside the range that the kernel hands out by itself, so that
# nobody is given it before its server has it.
free_port() {
  local port
  while :; do
    port=$(shuf -i 20000-32000 -n 1)
    grep -qi ":$(printf '%04X' "$port") " /proc/net/tcp /proc/net/tcp6 2>/dev/null || break
  done
  echo "$port"
}
