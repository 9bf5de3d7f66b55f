#!/usr/bin/env bash
# Builds .venv-neuralhydrology, the environment of the peer that tests/numerics compares with.
# It is kept apart because its requirements bind neither the package nor its users.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/environment.sh

python=${PYTHON:-python3}
requirements=infra/neuralhydrology/requirements.txt

build() {
    "$python" -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    "$1/bin/python" -W ignore -c 'import neuralhydrology.modelzoo'
}

keep_environment neuralhydrology "$python" "$requirements" infra/neuralhydrology/install.sh
