#!/usr/bin/env bash
# Makes requirements.lock and constraints.txt of pyproject.toml. Versions that stand in the lock stay, unless
# `infra/lock/lock.sh --upgrade` or `--upgrade-package NAME` is said.
set -euo pipefail
cd "$(dirname "$0")/../.."

.venv/bin/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command 'make lock' --overrides infra/lock/overrides.txt --no-emit-package torch \
    --output-file requirements.lock "$@" --extra dev pyproject.toml infra/lock/torch.txt >/dev/null
{
    echo '# requirements.lock and requirements-torch.lock without hashes, made by `make lock`: for whoever'
    echo '# installs a part (`pip install -c constraints.txt ".[run]"`).'
    sed -n '/^[a-z]/s/ \\$//p' requirements.lock
    grep -v '^#' requirements-torch.lock
} >constraints.txt
