#!/usr/bin/env bash
# A Slurm of its own on this machine, for tests: a controller and some nodes, as root or as yourself, without munge, systemd, cgroups or
# accounting. Every file is in one folder.
#
#   xtask/slurm.sh install                     installs it where apt-get can; exit code 3 where it cannot
#   xtask/slurm.sh start FOLDER NODES [PORT]   starts it and waits until the nodes are idle; then `export SLURM_CONF=FOLDER/slurm.conf`
#   xtask/slurm.sh controller FOLDER           starts the controller again, after `kill $(cat FOLDER/slurmctld.pid)`
#   xtask/slurm.sh node FOLDER NAME            starts a node again
#   xtask/slurm.sh stop FOLDER                 ends the controller, the nodes and their jobs
#
# Needs slurmctld, slurmd and slurm-client (Debian: `apt-get install -y slurmctld slurmd slurm-client`). Exit code 3: not installed.
set -euo pipefail
command=${1:?install, start, controller, node or stop}
# Distributions keep the daemons out of the search path of users.
PATH=$PATH:/usr/sbin:/sbin
if [ "$command" = install ]; then
    command -v slurmctld > /dev/null && exit 0
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        apt-get update -qq > /dev/null 2>&1 || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurmctld slurmd slurm-client > /dev/null 2>&1 && exit 0
    fi
    echo "slurm.sh: slurmctld, slurmd and slurm-client are not installed, and cannot be" >&2
    exit 3
fi
folder=$(realpath -m "${2:?a folder}")
export SLURM_CONF=$folder/slurm.conf

for program in slurmctld slurmd sbatch squeue scontrol scancel; do
    command -v "$program" > /dev/null || { echo "slurm.sh: $program is not installed" >&2; exit 3; }
done

controller() { slurmctld -i -f "$SLURM_CONF" > "$folder/slurmctld.out" 2>&1; }

node() { slurmd -N "$1" -f "$SLURM_CONF" > "$folder/$1.out" 2>&1; }

wait_for_idle() {
    local wanted=$1
    for _ in $(seq 480); do
        [ "$(timeout 5 sinfo --noheader --Node --format '%t' 2> /dev/null | grep -cx idle)" = "$wanted" ] && return
        sleep 0.25
    done
    echo "slurm.sh: $wanted nodes are not idle after two minutes:" >&2
    timeout 5 sinfo --Node --long >&2 || true
    tail -n 20 "$folder"/*.log >&2
    return 1
}

end() {
    local pid
    pid=$(cat "$1" 2> /dev/null) || return 0
    kill "$pid" 2> /dev/null || return 0
    for _ in $(seq 50); do
        kill -0 "$pid" 2> /dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$pid" 2> /dev/null || true
}

case $command in
start)
    nodes=${3:?a number of nodes}
    port=${4:-27817}
    mkdir -p "$folder/state" "$folder/spool"
    user=$(id -un)
    host=$(hostname -s)
    {
        cat << END
ClusterName=s3t
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
KillWait=2
MinJobAge=300
MaxArraySize=8
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
END
        for number in $(seq "$nodes"); do
            echo "NodeName=node$number NodeAddr=127.0.0.1 NodeHostname=$host Port=$((port + number)) CPUs=2 RealMemory=1000 State=UNKNOWN"
        done
        echo "PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP"
    } > "$SLURM_CONF"
    controller
    for number in $(seq "$nodes"); do
        mkdir -p "$folder/spool/node$number"
        node "node$number"
    done
    wait_for_idle "$nodes"
    ;;
controller) controller ;;
node) node "${3:?the name of a node}" ;;
stop)
    timeout 10 scancel --user "$(id -un)" 2> /dev/null || true
    for pid in "$folder"/node*.pid "$folder"/slurmctld.pid; do end "$pid"; done
    # The managers of jobs outlive the daemon of their node.
    for process in /proc/[0-9]*; do
        [ "$(cat "$process/comm" 2> /dev/null)" = slurmstepd ] || continue
        grep -qz "^SLURM_CONF=$SLURM_CONF$" "$process/environ" 2> /dev/null && kill -KILL "${process#/proc/}" 2> /dev/null || true
    done
    ;;
*)
    echo "slurm.sh: $command? install, start, controller, node or stop" >&2
    exit 2
    ;;
esac
