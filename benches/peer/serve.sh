#!/usr/bin/env bash
# Load on `s3t serve` with the quickstart's model, on this machine: answers a second and times at 16 callers, at 64 callers (overload),
# and with deletions beside. Needs wrk, curl and a trained store: `s3t train examples/quickstart.toml`.
#   benches/peer/serve.sh target/release/s3t examples/quickstart.toml
set -euo pipefail
s3t=$1 pipeline=$2 seconds=${3:-20}
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -r "$work"' EXIT
port=$((20000 + RANDOM % 20000))
"$s3t" serve "$pipeline" --address "127.0.0.1:$port" --data "$work" --stop-delay-seconds 0 >/dev/null 2>"$work/log" &
server=$!
until curl -fs "http://127.0.0.1:$port/readyz" >/dev/null; do sleep 0.05; done
cat >"$work/ask.lua" <<'LUA'
local numbers = {}
for index = 1, 784 do numbers[index] = (index * 37 % 255) end
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"inputs":{"features":[' .. table.concat(numbers, ",") .. ']}}'
LUA
load() {
    printf '\n== %s callers\n' "$1"
    wrk -t 1 -c "$1" -d "${seconds}s" --latency -s "$work/ask.lua" "http://127.0.0.1:$port/predict" | grep -E '50%|99%|Requests/sec|Non-2xx'
    printf 'memory: %s kB\n' "$(awk '/VmRSS/ { print $2 }' "/proc/$server/status")"
}
load 16
load 64
