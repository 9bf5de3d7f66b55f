#!/bin/sh
# The demo: the same study in two worlds that differ in one thing only. In the first the snow series
# is the snow that will melt; in the second it is another winter's, so that it can help nobody.
set -eu
here=$(dirname "$0")
rm -rf demo
for world in true shuffled; do
    flag=--snow-signal
    test $world = true || flag=--no-snow-signal
    printf '\n== The snow series is %s ==\n' "$world"
    study data synthesize --out demo/$world/basins --basins 30 $flag
    study data build --root demo/$world/basins --snow demo/$world/basins/swe_uaz --out demo/$world/store.zarr
    study run "$here/demo.yaml" --data demo/$world/store.zarr --results demo/results --set name=demo_$world
done
python "$here/demo_truth.py" demo/results
printf '\nCompare all runs in the MLflow UI:  .venv/bin/study ui --results demo/results\n'
