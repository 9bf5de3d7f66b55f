# Environments that outlive a checkout, for the scripts that build one (bash, `set -e`); sourced.
#
#     keep_environment NAME PYTHON FILE...
#
# makes .venv-NAME a link to an environment that was made of the same: of this Python and these files, the
# script itself among them. Where none is kept, the caller's function `build` is given a folder and fills it.
# They are kept in $STUDY_ENVIRONMENTS, or in study-environments of the user's cache; one that was made of
# other files and not asked for in a week is removed.

keep_environment() {
    local name=$1 python=$2 home hash folder other
    shift 2
    home=${STUDY_ENVIRONMENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/study-environments}/$name
    hash=$("$python" -c '
import hashlib, pathlib, sys
parts = [f"{sys.version} {sys.base_prefix}".encode(), *(pathlib.Path(f).read_bytes() for f in sys.argv[1:])]
print(hashlib.sha256(b"\0".join(parts)).hexdigest()[:12])' "$@")
    mkdir -p "$home"
    folder=$(cd "$home" && pwd)/$hash

    exec 9>"$home/lock"  # until the script ends: another run waits, and takes what this one built
    if command -v flock >/dev/null; then flock 9; fi
    if [ -f "$folder/ready" ] && "$folder/bin/python" -c ''; then
        echo ".venv-$name is kept: $folder"
    else
        rm -rf "$folder"
        build "$folder"  # where it stays, since environments cannot be moved
    fi
    touch "$folder/ready"  # last, so half of one is never taken for one; and it is in use

    for other in "$home"/*/; do
        if [ "$(basename "$other")" != "$hash" ] && [ -z "$(find "$other" -maxdepth 1 -name ready -mtime -7)" ]; then
            rm -rf "$other"
        fi
    done
    [ -L ".venv-$name" ] || rm -rf ".venv-$name"
    ln -sfn "$folder" ".venv-$name"
}
