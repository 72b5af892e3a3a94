#!/usr/bin/env bash
# The bits of training on a processor that this machine may not have: the golden digests and the self-test under an emulator of a
# processor with AVX2 and without AVX-512 (`qemu-x86_64 -cpu Haswell`, of the package qemu-user in Debian and Ubuntu).
#
#     xtask/elsewhere.sh
#     xtask/elsewhere.sh aarch64
#
# The first runs what `cargo test --workspace` compiled. The second compiles the tests of the kernels, the self-test and the golden digests for
# 64-bit ARM, and runs them under its emulator: packages qemu-user, gcc-aarch64-linux-gnu and g++-aarch64-linux-gnu, and
# `rustup target add aarch64-unknown-linux-gnu`. It takes more than CI has time for. Exits with 3 where there is no emulator and none can
# be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = aarch64 ]; then
    if ! command -v qemu-aarch64 aarch64-linux-gnu-gcc aarch64-linux-gnu-g++ >/dev/null; then
        echo "not run: qemu-aarch64, aarch64-linux-gnu-gcc and aarch64-linux-gnu-g++ are needed" >&2
        exit 3
    fi
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
    export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++
    arm() { cargo test --target aarch64-unknown-linux-gnu "$@"; }
    arm -p s3t-kernels
    arm -p s3t-backends --features flex --lib
    arm -p s3t --test threads on_every_machine
    exit
fi

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

run "$(programs --test threads | grep '/threads-')" crates/s3t on_every_machine
run "$(programs --lib | grep '/s3t_backends-')" crates/s3t-backends self_test
