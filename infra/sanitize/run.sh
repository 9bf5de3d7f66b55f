#!/usr/bin/env bash
# The tests of what is written in C, with the C checked while they run: `infra/sanitize/run.sh [PYTEST'S WORDS]`.
# Needs gcc. Python itself is not checked: it is started with the library of the checks, which then knows the
# limits of every tensor, and its own leaks are none of ours.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ $# = 0 ]; then
    set -- tests/models/test_native.py tests/training/test_muon.py -k 'not without_a_compiler'
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
libraries="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so.6)"
CC=$PWD/infra/sanitize/compiler.sh XDG_CACHE_HOME=$folder LD_PRELOAD=$libraries ASAN_OPTIONS=detect_leaks=0 \
    OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q --capture=no "$@"
[ -n "$(find "$folder" -name 'native-*.so')" ]  # else torch computed what was to be checked
