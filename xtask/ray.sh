#!/usr/bin/env bash
# A Ray of its own on this machine, for tests: a head with its dashboard, and nodes beside it. Every file is in one folder.
#
#   xtask/ray.sh install                     installs Ray in `target/ray` where pip can; exit code 3 where it cannot
#   xtask/ray.sh start FOLDER CPUS [PORT [TOKEN]]
#                                            starts it and waits until it takes jobs; its address is in FOLDER/address; with the file TOKEN
#                                            it answers to whoever has that token
#   xtask/ray.sh node FOLDER NAME CPUS       adds a node
#   xtask/ray.sh dashboard FOLDER            prints the process of the dashboard
#   xtask/ray.sh stop FOLDER                 ends all of it
#
# Takes Ray from the virtual environment S3T_RAY, or from `target/ray`, or from the search path. Exit code 3: not installed.
set -euo pipefail
command=${1:?install, start, node, dashboard or stop}
own=$(cd "$(dirname "$0")/.." && pwd)/target/ray
environment=${S3T_RAY:-$own}
if [ "$command" = install ]; then
    [ -x "$environment/bin/ray" ] && exit 0
    # Ray sends reports of its use unless it is told not to, and every start here tells it.
    if python3 -m venv "$own" 2> /dev/null && "$own/bin/pip" install -q 'ray[default]>=2.50,<3' > /dev/null 2>&1; then exit 0; fi
    rm -rf "$own"
    echo "ray.sh: Ray is not installed, and cannot be" >&2
    exit 3
fi
folder=$(realpath -m "${2:?a folder}")
ray=$environment/bin/ray
[ -x "$ray" ] || ray=$(command -v ray) || { echo "ray.sh: Ray is not installed" >&2; exit 3; }
python=$(dirname "$(realpath -s "$ray")")/python
export RAY_USAGE_STATS_ENABLED=0
# A test machine that is short of memory is no cluster that is.
export RAY_memory_monitor_refresh_ms=0
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY

# The processes of this Ray: all of them are told its folder.
processes() {
    local process
    for process in /proc/[0-9]*; do
        grep -qsF "$folder/session" "$process/cmdline" && echo "${process#/proc/}" || true
    done
}

case $command in
start)
    cpus=${3:?a number of cores}
    port=${4:-26379}
    mkdir -p "$folder"
    echo "$port" > "$folder/port"
    if [ -n "${5:-}" ]; then
        RAY_AUTH_TOKEN=$(cat "$5")
        export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
    fi
    setsid "$ray" start --head --block --node-name=head --node-ip-address=127.0.0.1 --port="$port" --num-cpus="$cpus" \
        --dashboard-host=127.0.0.1 --dashboard-port=$((port + 1)) --dashboard-agent-listen-port=$((port + 2)) \
        --ray-client-server-port=$((port + 3)) --object-store-memory=80000000 --temp-dir="$folder/session" \
        --disable-usage-stats < /dev/null > "$folder/head.out" 2>&1 &
    echo $! > "$folder/head.pid"
    address=http://127.0.0.1:$((port + 1))
    for _ in $(seq 240); do
        # The list of jobs, and the agent that starts them.
        if "$python" - "$address/api/jobs/" "http://127.0.0.1:$((port + 2))/api/local_raylet_healthz" 2> /dev/null << 'END'
import os, sys, urllib.request
token = os.environ.get("RAY_AUTH_TOKEN")
headers = {"Authorization": f"Bearer {token}"} if token else {}
for address in sys.argv[1:]:
    urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=5).read()
END
        then
            echo "$address" > "$folder/address"
            exit 0
        fi
        kill -0 "$(cat "$folder/head.pid")" 2> /dev/null || break
        sleep 0.5
    done
    echo "ray.sh: Ray takes no jobs:" >&2
    tail -n 20 "$folder/head.out" >&2
    exit 1
    ;;
node)
    name=${3:?the name of a node}
    setsid "$ray" start --block --address="127.0.0.1:$(cat "$folder/port")" --node-name="$name" --node-ip-address=127.0.0.1 \
        --num-cpus="${4:?a number of cores}" --object-store-memory=80000000 --disable-usage-stats \
        < /dev/null > "$folder/$name.out" 2>&1 &
    echo $! > "$folder/$name.pid"
    for _ in $(seq 240); do
        "$python" - "$(cat "$folder/address")/api/v0/nodes?detail=false" "$name" 2> /dev/null << 'END' && exit 0
import json, sys, urllib.request
nodes = json.load(urllib.request.urlopen(sys.argv[1], timeout=5))["data"]["result"]["result"]
sys.exit(not any(node["node_name"] == sys.argv[2] and node["state"] == "ALIVE" for node in nodes))
END
        sleep 0.5
    done
    echo "ray.sh: $name does not join:" >&2
    tail -n 20 "$folder/$name.out" >&2
    exit 1
    ;;
dashboard)
    for process in $(processes); do
        grep -qsF dashboard/dashboard.py "/proc/$process/cmdline" && echo "$process" || true
    done
    ;;
stop)
    for pid in "$folder"/*.pid; do
        kill "$(cat "$pid" 2> /dev/null)" 2> /dev/null || true
    done
    for _ in $(seq 50); do
        [ -z "$(processes)" ] && exit 0
        sleep 0.1
    done
    for process in $(processes); do kill -KILL "$process" 2> /dev/null || true; done
    ;;
*)
    echo "ray.sh: $command? install, start, node, dashboard or stop" >&2
    exit 2
    ;;
esac
