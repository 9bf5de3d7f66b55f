#!/usr/bin/env bash
# Makes requirements.lock, constraints.txt and infra/lowest/requirements.txt of pyproject.toml. Versions that
# stand in a lock stay, unless `infra/lock/lock.sh --upgrade` or `--upgrade-package NAME` is said.
set -euo pipefail
cd "$(dirname "$0")/../.."

compile() {
    .venv/bin/uv pip compile --no-config --quiet --python-version 3.11 --no-annotate \
        --custom-compile-command 'make lock' --overrides infra/lock/overrides.txt --no-emit-package torch \
        pyproject.toml infra/lock/torch.txt "$@" >/dev/null
}

compile --extra dev --universal --generate-hashes --output-file requirements.lock "$@"
{
    echo '# requirements.lock and requirements-torch.lock without hashes, made by `make lock`: for whoever'
    echo '# installs a part (`pip install -c constraints.txt ".[run]"`).'
    sed -n '/^[a-z]/s/ \\$//p' requirements.lock
    grep -v '^#' requirements-torch.lock
} >constraints.txt

floors=$(mktemp)
trap 'rm -f "$floors"' EXIT
.venv/bin/python infra/lowest/floors.py run >"$floors"
compile --extra run --constraints "$floors" --output-file infra/lowest/requirements.txt "$@"
