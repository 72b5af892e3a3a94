#!/usr/bin/env bash
# The bits of training on a processor that this machine may not have: the golden digests and the self-test under an emulator of a
# processor with AVX2 and without AVX-512 (`qemu-x86_64 -cpu Haswell`, of the package qemu-user in Debian and Ubuntu).
#
#     xtask/elsewhere.sh
#
# Runs what `cargo test --workspace` compiled. Exits with 3 where there is no emulator and none can be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v qemu-x86_64 >/dev/null; then
    (apt-get update && apt-get install -y --no-install-recommends qemu-user) >/dev/null 2>&1 || true
fi
if ! command -v qemu-x86_64 >/dev/null; then
    echo "not run: there is no qemu-x86_64 (package qemu-user), and it cannot be installed" >&2
    exit 3
fi

programs() {
    cargo test --workspace "$@" --no-run --message-format=json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}

run() {
    local program=$1 folder=$2
    shift 2
    # The emulator says which features of that processor it lacks; none of them is used.
    (cd "$folder" && qemu-x86_64 -cpu Haswell "$program" "$@" 2> >(grep -v '^qemu-x86_64: warning: TCG' >&2))
}

run "$(programs --test threads | grep '/threads-')" crates/s3t
run "$(programs --lib | grep '/s3t_backends-')" crates/s3t-backends self_test
