#!/usr/bin/env bash
# Runs the test bed in namespaces of its own (processes, network, mounts, shared memory), as `make
# testbed` does. However this script ends, its child ends with it, and takes all hosts, all that
# runs on them, their links and their mounts along.
#     tests/testbed/run.sh PYTHON [pytest's options]
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
shift

refuse() {
    echo "the test bed cannot run: $1" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || refuse "it makes hosts from Linux namespaces, which needs root"
PATH=$PATH:/usr/sbin:/sbin
for command in sshd rsync ip unshare setpriv nsenter; do
    command -v "$command" > /dev/null || refuse "no $command here; run infra/testbed/install.sh"
done
spaces=(--net --pid --mount --ipc --fork --mount-proc)
unshare "${spaces[@]}" true || refuse "no namespaces can be made here (unshare ${spaces[*]})"

mark=$(mktemp)
trap 'rm -f "$mark"' EXIT
trap : INT # let the child tear down and tell of it
keep=$("$python" -c 'import sys; print(sys.prefix, sys.base_prefix)')
code=0
# Process 1 is bash, which collects those whose parent has ended.
setpriv --pdeathsig KILL unshare "${spaces[@]}" --kill-child bash -c '
    set -eu
    readlink /proc/self/ns/ipc > "$0"
    . tests/testbed/private.sh
    private /tmp "$PWD" '"$keep"'
    ip link set lo up
    "$@" || exit $?
    ' "$mark" env STUDY_TESTBED=1 "$python" -m pytest -v -x -m testbed --timeout=900 \
    -p no:cacheprovider "$@" tests/testbed || code=$?

# All processes of the bed had this one namespace; links and mounts live as long as they.
left=$(readlink /proc/[0-9]*/ns/ipc 2> /dev/null | grep -cxF "$(cat "$mark")" || true)
echo "testbed: torn down, $left processes left"
[ "$left" = 0 ] && exit "$code"
exit 1
