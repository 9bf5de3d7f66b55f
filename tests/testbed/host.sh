#!/usr/bin/env bash
# Process 1 of a host of the test bed, in namespaces of its own (network, processes, mounts, name).
#     host.sh NAME ADDRESS GATEWAY FOLDER PYTHON KEEP...
# FOLDER holds the keys; PYTHON is the environment that takes the place of an installed package; of
# the machine's /tmp, only the folders KEEP are seen.
set -euo pipefail
name=$1 address=$2 gateway=$3 folder=$4 python=$5
shift 5

hostname "$name"
. "$(dirname "$0")/private.sh"
keys=$(cat "$folder/id.pub")
hostkey=$(cat "$folder/hostkey")
private /tmp "$@"
for own in /run /mnt /dev/shm /var/tmp; do
    mount -t tmpfs tmpfs "$own"
done
mkdir -p /run/sshd /run/etc /mnt/home/.ssh
export HOME=/mnt/home

# root's home is here, and root may log in with the key whatever the machine says of its password.
sed "s|^\(root:[^:]*:[^:]*:[^:]*:[^:]*\):.*|\1:$HOME:/bin/bash|" /etc/passwd > /run/etc/passwd
sed 's|^root:[^:]*|root:*|' /etc/shadow > /run/etc/shadow
chmod 600 /run/etc/shadow
mount --bind /run/etc/passwd /etc/passwd
mount --bind /run/etc/shadow /etc/shadow
echo "$keys" > "$HOME/.ssh/authorized_keys"
(umask 077 && echo "$hostkey" > /run/hostkey)
chmod 700 "$HOME" "$HOME/.ssh"
cat > "$HOME/.bashrc" << END
export PATH=$python:\$PATH PYTHONPATH=\$HOME/study
export RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true OMP_NUM_THREADS=1
export AWS_EC2_METADATA_DISABLED=true RAY_UP_enable_autoscaler_v2=0
export RAY_agent_register_timeout_ms=120000  # this machine may be a busy one
export RAY_gcs_rpc_server_reconnect_timeout_s=20  # 60: how long a worker waits for a lost head
END
echo '. ~/.bashrc' > "$HOME/.profile"

ip link set lo up
until ip link show eth0 > /dev/null 2>&1; do
    sleep 0.05
done
ip address add "$address/24" dev eth0
ip link set eth0 up
ip route add default via "$gateway"  # which leads nowhere, but Ray finds the host's address by it
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /usr/sbin/sshd -D -e -p 22 -h /run/hostkey -f /dev/null -o UsePAM=no -o PidFile=none \
    -o PermitRootLogin=prohibit-password -o ListenAddress="$address"
