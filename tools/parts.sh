#!/usr/bin/env bash
# Sees to it that the programs are there that Python does not bring: tools/parts.sh PROGRAM...
#
# A program that is missing is installed from Debian's or Ubuntu's packages where this is root and
# apt-get exists. Elsewhere it is an error that names the package. A package with another name than
# its program is given as PROGRAM=PACKAGE; those below are known.
set -euo pipefail

# Debian keeps servers outside the PATH of ordinary users.
PATH=$PATH:/usr/sbin:/sbin

package_of() {
  case $1 in
    *=*) echo "${1#*=}" ;;
    nginx) echo nginx-light ;;
    node) echo nodejs ;;
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

# Servers are used by tests on ports of their own. None is to start as a service because it was
# installed: Debian asks policy-rc.d, and 101 forbids it. A policy that is already there is left.
policy=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

echo "==> apt-get install ${missing[*]}"
apt-get update --quiet=2
DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}"
