#!/usr/bin/env bash
# Installs programs that are missing: tools/parts.sh PROGRAM...
#
# As root on Debian or Ubuntu, a missing program is installed with apt-get. Otherwise the script fails
# and names the package. If the package has another name than the program, pass PROGRAM=PACKAGE, except
# for the programs in package_of.
set -euo pipefail

# Debian installs servers in folders that are not in the PATH of ordinary users.
PATH=$PATH:/usr/sbin:/sbin

package_of() {
  case $1 in
    *=*) echo "${1#*=}" ;;
    etcd) echo etcd-server ;;
    nginx) echo nginx-light ;;
    node) echo nodejs ;;
    promtool) echo prometheus ;;
    *) echo "$1" ;;
  esac
}

missing=()
for part in "$@"; do
  command -v "${part%%=*}" >/dev/null || missing+=("$(package_of "$part")")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "missing: ${missing[*]}. As root: apt-get install ${missing[*]}" >&2
  exit 1
fi

# Tests start servers themselves, so the installation must not start them as services: Debian asks
# policy-rc.d, and exit code 101 forbids it. An existing policy is kept.
policy=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

echo "==> apt-get install ${missing[*]}"
apt-get update --quiet=2
DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}"
