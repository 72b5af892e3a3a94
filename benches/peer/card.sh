#!/usr/bin/env bash
# A graphics card in one command: the quickstart is trained on it and verified, which trains every stage again and compares the bits, and then a
# step, answers of an ensemble and a whole system are timed in single precision beside PyTorch on the same card, in single precision and in bfloat16.
#
#     benches/peer/card.sh cuda|vulkan|wgpu [FOLDER]
#
# FOLDER has `s3t`, `peer-step` and `peer-predict`, built with the feature of that name (on another machine, for example); without it they are built
# here. PYTHON names a Python with the packages of docs/performance.md and PyTorch for CUDA; without one that has them only the quickstart
# runs. Every part is tried, and the exit code is 1 if one failed. `flex` with a FOLDER tries the script itself on a machine without a
# card.
set -euo pipefail
cd "$(dirname "$0")/../.."
device=${1:?cuda, vulkan or wgpu}
programs=${2:-}
python=${PYTHON:-target/peer-venv/bin/python}
failed=0

try() {
    printf '\n== %s\n' "$*"
    "$@" || { echo "card.sh: failed: $*" >&2; failed=1; }
}

if [ -z "$programs" ]; then
    cargo build --release -p s3t-cli --features "$device"
    cargo build --release -p s3t-benches --features "$device" --bins
    programs=target/release
fi
programs=$(realpath "$programs")

command -v nvidia-smi > /dev/null && try nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv,noheader

# The quickstart on the card, in a store of its own.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -E "s#^device = .*##; s#\"\.\./(data|stores)/#\"$PWD/\1/#g; s#\"$PWD/stores/[^\"]*\"#\"$folder/store\"#" examples/quickstart.toml |
    { echo "device = \"$device\""; cat; } > "$folder/pipeline.toml"
try "$programs/s3t" train "$folder/pipeline.toml"
try "$programs/s3t" eval "$folder/pipeline.toml"
try "$programs/s3t" verify --scope all "$folder/pipeline.toml"

if ! "$python" -c 'import torch, transformers, peft' 2> /dev/null; then
    echo "card.sh: $python has no torch, transformers and peft; nothing is compared with PyTorch" >&2
    exit $failed
fi
try "$python" benches/peer/step.py "$programs/peer-step" --device "$device" --forms f32
try "$python" benches/peer/predict.py "$programs/peer-predict" --device "$device" --bf16
try "$python" benches/peer/system.py "$programs/s3t" --example images --device "$device" --bf16 --no-evaluation
exit $failed
