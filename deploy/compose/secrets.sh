#!/usr/bin/env bash
# Makes the secrets that compose.yaml mounts, once: secrets.sh [DIRECTORY]. What is there stays as it is.
# The directory is closed to other users of this machine. The files are not: containers read them as other users.
set -euo pipefail
dir=${1:-$(dirname "$0")/secrets}
rights=$(dirname "$0")/../redis-users.acl
mkdir -p "$dir"
chmod 700 "$dir"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# put NAME VALUE: a file that is never overwritten.
put() {
    [ ! -e "$dir/$1" ] || return 0
    printf '%s\n' "$2" >"$dir/$1"
    chmod 644 "$dir/$1"
}

# By way of a variable: a failure within an argument would go unnoticed, and leave an empty password.
password=$(random)
put postgres-password "$password"
put database-url "postgres://portico:$(cat "$dir/postgres-password")@postgres:5432/portico"

# Each service is a user of Redis with the rights that it needs. Without a password there is only the answer that the
# health check asks for.
users="user default on nopass -@all +ping"
for service in gateway auth-server registry worker; do
    [ -e "$dir/redis-url-$service" ] || rm -f "$dir/redis-users"
    password=$(random)
    put "redis-url-$service" "redis://$service:$password@redis:6379"
    password=$(sed "s#^redis://$service:##;s#@.*##" "$dir/redis-url-$service")
    hash=$(printf %s "$password" | sha256sum | cut -d' ' -f1)
    users+=$'\n'$(grep "^user $service " "$rights" | sed "s/ PASSWORD / #$hash /")
done
put redis-users "$users"
password=$(random)
put administrator-password "$password"
echo "The secrets are in $dir; the administrator's password is in administrator-password."
