#!/usr/bin/env bash
# Builds .venv-neuralhydrology, the environment of the peer that tests/numerics compares with.
# It is kept apart because its requirements bind neither the package nor its users.
set -euo pipefail
cd "$(dirname "$0")/../.."

environment=.venv-neuralhydrology
requirements=infra/neuralhydrology/requirements.txt

if [ -f "$environment/ready" ] && [ "$environment/ready" -nt "$requirements" ]; then
    echo "$environment is up to date"
    exit 0
fi
rm -rf "$environment"
"${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
"$environment/bin/python" -W ignore -c 'import neuralhydrology.modelzoo'
touch "$environment/ready"
