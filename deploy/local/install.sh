#!/usr/bin/env bash
# Installs what a local platform and the build of it need, where it is missing (Debian and Ubuntu).
set -euo pipefail
# shellcheck source=tests/scripts/steps.sh
source "$(dirname "$0")/../../tests/scripts/steps.sh"
export PATH=$PATH:/usr/sbin

need_compilers
missing=()
command -v python3 >/dev/null || missing+=(python3)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v nginx >/dev/null || missing+=(nginx-light)
[ ${#missing[@]} = 0 ] && exit 0
echo "    installing ${missing[*]}, once"
# The packages would otherwise start servers of their own.
as_root mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] ||
  echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
apt_install "${missing[@]}"
