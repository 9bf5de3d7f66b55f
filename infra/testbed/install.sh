#!/usr/bin/env bash
# What `make testbed` needs of Debian: sshd, rsync, and `ip` to join the hosts.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
if command -v sshd > /dev/null && command -v rsync > /dev/null && command -v ip > /dev/null; then
    echo "sshd, rsync and ip are there"
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "install OpenSSH's server, rsync and iproute2, or run this as root on Debian" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
wait=-oDPkg::Lock::Timeout=300  # somebody else may be installing
apt-get "$wait" update -qq
# A service that a package starts would listen on this machine; policy-rc.d forbids it meanwhile.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get "$wait" install -y -qq --no-install-recommends openssh-server rsync iproute2 > /dev/null
