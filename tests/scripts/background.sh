# Sourced by the scripts that run servers and a Portico beside their tests; everything they start ends with them.
# shellcheck shell=bash
work=$(mktemp -d)
pids=()

# start NAME COMMAND …: in the background, its output in $work/NAME.log.
start() {
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 &
  pids+=($!)
}

# Those that ended by themselves are no problem; whoever does not end is ended.
stop_all() {
  kill "${pids[@]}" 2>/dev/null || true
  within 40 all_ended || kill -KILL "${pids[@]}" 2>/dev/null || true
  wait "${pids[@]}" 2>/dev/null || true
  rm -rf "$work"
}
trap stop_all EXIT

all_ended() {
  local pid
  for pid in "${pids[@]}"; do
    ! kill -0 "$pid" 2>/dev/null || return 1
  done
}

# within SECONDS COMMAND …: until it succeeds.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }

# until_listening NAME PORT: waits for a server that was started.
until_listening() {
  within 60 listens "$2" && return
  echo "$1 does not listen on port $2:" >&2
  tail -n 20 "$work/$1.log" >&2
  return 1
}

# start_portico BINARY: a deployment of its own on free ports; sets $origin, and `portico` is its command line.
start_portico() {
  start portico "$1" dev --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --data-dir "$work/data" \
    --ready-file "$work/ready.json"
  within 60 test -s "$work/ready.json" || { tail -n 20 "$work/portico.log" >&2; return 1; }
  use_portico "$1" "$work/ready.json"
}

# use_portico BINARY READY_FILE: one that runs already.
use_portico() {
  binary=$1
  export PORTICO_READY_FILE=$2
  origin=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["origin"].rstrip("/"))' "$2")
}

portico() { "$binary" "$@"; }

# until_usable ENDPOINT: until the gateway has heard of what was just registered.
until_usable() {
  within 10 portico call "$1" && return
  portico call "$1" >/dev/null
}
