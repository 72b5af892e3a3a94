#!/usr/bin/env bash
# An `sshd` of its own on this machine, for tests: on a high port, as root or as yourself, with keys of its own. Every file is in one folder.
#
#   xtask/sshd.sh install               installs it where apt-get can; exit code 3 where it cannot
#   xtask/sshd.sh start FOLDER [PORT]   starts it; then `ssh -F FOLDER/ssh_config node1` enters this machine, as node2 to node4 do;
#                                       at the host `dead` nobody listens
#   xtask/sshd.sh stop FOLDER           ends it and its sessions
#
# Needs ssh, sshd and ssh-keygen (Debian: `apt-get install -y openssh-client openssh-server`). Exit code 3: not installed.
set -euo pipefail
command=${1:?install, start or stop}
# Distributions keep daemons out of the search path of users.
PATH=$PATH:/usr/sbin:/sbin
if [ "$command" = install ]; then
    command -v sshd > /dev/null && command -v ssh > /dev/null && exit 0
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        apt-get update -qq > /dev/null 2>&1 || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openssh-client openssh-server > /dev/null 2>&1 && exit 0
    fi
    echo "sshd.sh: ssh and sshd are not installed, and cannot be" >&2
    exit 3
fi
folder=$(realpath -m "${2:?a folder}")
for program in ssh sshd ssh-keygen; do
    command -v "$program" > /dev/null || { echo "sshd.sh: $program is not installed" >&2; exit 3; }
done

case $command in
start)
    port=${3:-27922}
    mkdir -p "$folder"
    # sshd wants its empty folder when it runs as root.
    if [ "$(id -u)" = 0 ]; then mkdir -p /run/sshd; fi
    for key in host_key user_key; do
        [ -e "$folder/$key" ] || ssh-keygen -q -t ed25519 -N '' -C "$key" -f "$folder/$key"
    done
    cp "$folder/user_key.pub" "$folder/authorized_keys"
    echo "test $(cut -d ' ' -f 1,2 "$folder/host_key.pub")" > "$folder/known_hosts"
    cat > "$folder/sshd_config" << END
ListenAddress 127.0.0.1
Port $port
HostKey $folder/host_key
PidFile $folder/sshd.pid
AuthorizedKeysFile $folder/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
END
    cat > "$folder/ssh_config" << END
Host node1 node2 node3 node4
    Port $port
Host dead
    Port 1
Host *
    HostName 127.0.0.1
    HostKeyAlias test
    User $(id -un)
    IdentityFile $folder/user_key
    IdentitiesOnly yes
    UserKnownHostsFile $folder/known_hosts
    StrictHostKeyChecking yes
END
    "$(command -v sshd)" -f "$folder/sshd_config" -E "$folder/sshd.log"
    for _ in $(seq 120); do
        ssh -F "$folder/ssh_config" -o BatchMode=yes -o ConnectTimeout=5 node1 true 2> "$folder/ssh.out" && exit 0
        sleep 0.25
    done
    echo "sshd.sh: nobody can enter:" >&2
    tail -n 20 "$folder/ssh.out" "$folder/sshd.log" >&2
    exit 1
    ;;
stop)
    pid=$(cat "$folder/sshd.pid" 2> /dev/null) || exit 0
    # The sessions are its children.
    for process in $(pgrep -P "$pid") "$pid"; do kill "$process" 2> /dev/null || true; done
    ;;
*)
    echo "sshd.sh: $command? install, start or stop" >&2
    exit 2
    ;;
esac
