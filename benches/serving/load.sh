#!/usr/bin/env bash
# Load on `s3t serve` with a trained pipeline, on this machine: closed loop at 16 callers and, with refusals, at 64 and more; open loop
# at rates below and at four times the capacity. Needs wrk, curl, node and a trained store (`s3t train examples/quickstart.toml`).
#   benches/serving/load.sh target/release/s3t examples/quickstart.toml [SECONDS]
# With PEER=FOLDER (made by peer.sh) the peer has the same load, and the ratio is printed.
set -euo pipefail
s3t=$(realpath "$1") pipeline=$2 seconds=${3:-20}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
server=
stop() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; server=; fi
}
trap 'stop; rm -r "$work"' EXIT
port=$((20000 + RANDOM % 20000))
url=http://127.0.0.1:$port

ready() { until curl -fs "$url/readyz" >/dev/null; do sleep 0.05; done; }
start() { # options of the server
    "$s3t" serve "$pipeline" --address "127.0.0.1:$port" --data "$work/data" --stop-delay-seconds 0 --log warn "$@" >/dev/null 2>"$work/log" &
    server=$!
    ready
}
memory() { awk '/VmRSS/ { printf "%.0f", $2 / 1024 }' "/proc/$server/status"; }
# Seconds of processor time that the server has used, in hundredths.
cpu() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$server/stat"; }
load() { # callers, words
    local result before
    before=$(cpu)
    result=$(wrk -t 1 -c "$1" -d "${seconds}s" --latency --timeout 15s -s "$here/ask.lua" "$url/predict" | sed -n 's/^RESULT //p')
    answers=$(sed 's/answers\/s \([0-9]*\).*/\1/' <<<"$result")
    printf '%-42s %s, memory %s MB, CPU %s ms an answer\n' "$2" "$result" "$(memory)" \
        "$(awk "BEGIN { printf \"%.2f\", 10 * ($(cpu) - $before) / ($answers * $seconds + 1) }")"
}

uptime
printf '%s\n' "== s3t"
start
seconds=5 load 16 "warm-up"
load 16 "closed loop, 16 callers"
ours=$answers
load 64 "closed loop, 64 callers"
if command -v npm >/dev/null; then
    (cd "$work" && npm install --silent --no-audit --no-fund autocannon@9.0.0)
    for share in 50 80; do
        rate=$((ours * share / 100))
        printf '%-42s ' "open loop, $rate/s ($share %)"
        node "$here/open.mjs" "$work/node_modules/autocannon/autocannon.js" "$url/predict" "$rate" "$seconds"
    done
fi
stop
# A queue of what is answered in about a quarter of a second, so that four times the load is refused instead of waiting.
queue=$((ours / 4 > 64 ? ours / 4 : 64))
start --queue-records "$queue"
printf '%s\n' "== overload, a queue of $queue records: one caller's token may fill half of it"
before=$(memory)
load $((queue * 2)) "closed loop, four times what waits"
printf '%-42s %s %%; memory before %s MB\n' "of the peak" "$((100 * answers / ours))" "$before"
if [ -d "$work/node_modules" ]; then
    printf '%-42s ' "open loop, $((4 * ours))/s (400 %)"
    node "$here/open.mjs" "$work/node_modules/autocannon/autocannon.js" "$url/predict" "$((4 * ours))" "$seconds"
fi
printf '%-42s %s MB\n' "memory afterwards" "$(memory)"
stop
if [ -n "${PEER:-}" ]; then
    printf '%s\n' "== FastAPI + PEFT"
    # One adapter, and two as the quickstart's shards have; the threads of torch at their best.
    for adapters in 1 2; do
        best=0
        for threads in 1 2; do
            "$PEER/bin/python" "$here/peer.py" --port "$port" --threads "$threads" --adapters "$adapters" >"$work/peer" 2>&1 &
            server=$!
            ready
            seconds=5 load 16 "warm-up"
            load 16 "16 callers, $adapters adapters, $threads threads"
            best=$((answers > best ? answers : best))
            stop
        done
        printf '%-42s %s\n' "ratio to $adapters adapters" "$(awk "BEGIN { printf \"%.2f\", $ours / $best }")"
    done
fi
uptime
