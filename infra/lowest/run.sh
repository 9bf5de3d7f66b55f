#!/usr/bin/env bash
# The demo's study with the lowest versions that pyproject.toml allows, in .venv-lowest (Python 3.11): search,
# report, bundle and prediction, on fewer basins, epochs and seeds than the demo's, since only that it works is
# asked here. Of torch the locked version: older ones have no wheel on PyPI but those with CUDA.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/environment.sh

python=${LOWEST_PYTHON:-python3.11}
requirements=infra/lowest/requirements.txt  # made by `make lock`

build() {
    "$python" -m venv "$1"
    .venv/bin/uv pip install --no-config --quiet --python "$1/bin/python" --no-deps -r "$requirements"
    "$1/bin/pip" install --quiet --no-deps -r requirements-torch.lock
    "$1/bin/pip" check
}

keep_environment lowest "$python" "$requirements" requirements-torch.lock infra/lowest/run.sh

checkout=$PWD
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export PYTHONPATH=$checkout  # a kept environment holds what the package needs, not the package
study() { "$checkout/.venv-lowest/bin/python" -m study "$@"; }

study data synthesize --out basins --basins 6 --snow-signal
study data build --root basins --snow basins/swe_uaz --out store.zarr
study run "$checkout/search_spaces/demo.yaml" --data store.zarr --results results \
    --set training.epochs=4 --set search.rungs=[2] --set confirmation.seeds=3
study report demo --results results >report.txt
study predict --help >help.txt
bundle=$(echo results/demo/export/*)
study inspect "$bundle"
study predict "$bundle" --forcing "$bundle/example.csv" --out predicted.csv
[ "$(wc -l <predicted.csv)" = "$(wc -l <"$bundle/example-expected.csv")" ]
[ -s results/demo/report/report.html ]
echo "the lowest versions run a study: $(grep -c == "$checkout/$requirements") packages"
