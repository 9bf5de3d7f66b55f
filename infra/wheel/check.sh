#!/usr/bin/env bash
# A wheel, alone with its extra `predict` in an environment of its own, reads a bundle and predicts with it.
#     infra/wheel/check.sh BUNDLE
# Versions are those of constraints.txt; forcing and what must come of it are the bundle's own example.
set -euo pipefail
bundle=$(realpath "$1")
cd "$(dirname "$0")/../.."
checkout=$PWD

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/source"
cp -r study pyproject.toml README.md LICENSE "$folder/source"  # a build leaves files, and would find older ones
.venv/bin/pip wheel --quiet --no-deps --no-build-isolation -w "$folder" "$folder/source"
.venv/bin/python -m venv --without-pip "$folder/environment"
.venv/bin/uv pip install --no-config --quiet --python "$folder/environment/bin/python" \
    -c constraints.txt "study[predict] @ file://$(echo "$folder"/study-*.whl)"

cd "$folder"  # whatever is imported now is the wheel's
unset PYTHONPATH
study=environment/bin/study
version=$("$study" --version)
[ "$version" = "$("$checkout/.venv/bin/study" --version)" ]
"$study" inspect "$bundle"
"$study" predict "$bundle" --forcing "$bundle/example.csv" --out predicted.csv
environment/bin/python - "$bundle/example-expected.csv" <<'END'
import importlib.util
import sys

import pandas as pd

heavy = [name for name in ("torch", "ray", "mlflow", "optuna") if importlib.util.find_spec(name)]
assert not heavy, f"predict alone brings {heavy}"
keys = ["gauge_id", "date"]
expected, predicted = (
    pd.read_csv(path, dtype={"gauge_id": str}).set_index(keys)["qsim"]
    for path in (sys.argv[1], "predicted.csv")
)
apart = (predicted - expected).abs()
assert len(apart) == len(expected) and apart.max() < 1e-4, apart
END
echo "study $version, installed alone, predicts as expected"
