#!/usr/bin/env bash
# Whether the lock, torch left out, can be installed from wheels with other Pythons, which need not be here.
#     infra/lock/resolves.sh 3.12 3.13 3.14
set -euo pipefail
cd "$(dirname "$0")/../.."
nowhere=$(mktemp -d)
trap 'rm -rf "$nowhere"' EXIT

for version in "$@"; do
    if ! answer=$(.venv/bin/uv pip install --no-config --dry-run --python .venv/bin/python \
        --python-version "$version" --target "$nowhere" --only-binary :all: --require-hashes \
        -r requirements.lock 2>&1); then
        printf 'Python %s: the lock cannot be installed\n%s\n' "$version" "$answer" >&2
        exit 1
    fi
    echo "Python $version: $(grep -c '^ + ' <<<"$answer") packages of the lock, each with a wheel"
done
