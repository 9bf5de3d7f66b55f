#!/usr/bin/env bash
# What tests need of Debian: PostgreSQL and nginx, docker-compose to check compose.yaml, Chromium.
# Python's part (MLflow's login, psycopg, SeaweedFS) is the extra `tracking` of pyproject.toml.
set -euo pipefail

declare -A package=([nginx]=nginx-light [openssl]=openssl [docker-compose]=docker-compose
                    [chromium]=chromium)
wanted=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || wanted+=(postgresql)
PATH=$PATH:/usr/sbin
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || wanted+=("${package[$program]}")
done
if [ ${#wanted[@]} = 0 ]; then
    echo "PostgreSQL, nginx, openssl, docker-compose and Chromium are there"
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "install ${wanted[*]}, or run this as root on Debian" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
wait=-oDPkg::Lock::Timeout=300  # somebody else may be installing
# A server that a package starts would listen on this machine; policy-rc.d forbids it meanwhile.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get "$wait" update -qq
apt-get "$wait" install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
