#!/usr/bin/env bash
# Lays out the root of an image: a program, the libraries that it is linked to, and what it reads at run time.
#   rootfs.sh PROGRAM DIRECTORY
# There is no shell, no package manager and nothing else to run in it. glibc comes along instead of being linked
# statically, because name lookups of a static one load parts of it at run time and crash where they are missing.
set -euo pipefail
program=${1:?the program} root=${2:?the directory}
[ ! -e "$root" ] || { echo "rootfs.sh: $root exists: remove it, or name another directory" >&2; exit 1; }
umask 022
mkdir -p "$root/etc/ssl/certs" "$root/tmp" "$root/var/empty"
chmod 1777 "$root/tmp"
cp "$program" "$root/app"
chmod 0755 "$root/app"

libraries=$(ldd "$root/app") || { echo "rootfs.sh: $program is not linked to this system's libraries" >&2; exit 1; }
case $libraries in *"not found"*) echo "rootfs.sh: $libraries" >&2; exit 1 ;; esac
for library in $(echo "$libraries" | grep -o '/[^ ]*'); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

# Public CAs, for the https of MCP servers and of clients' documents.
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
echo 'portico:x:10001:10001::/var/lib/portico:/nonexistent' >"$root/etc/passwd"
echo 'portico:x:10001:' >"$root/etc/group"
# The same program gives the same layer.
find "$root" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
