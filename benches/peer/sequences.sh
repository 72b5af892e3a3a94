#!/usr/bin/env bash
# Sequences and simulation beside the same algorithms in Python: prints medians of interleaved runs and their ratios.
# Needs cargo, and Python 3 with its venv and pip.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=target/peer-venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet numpy==2.3.5 scipy==1.16.3
cargo build --release --quiet
"$venv/bin/python" benches/peer/sequences.py target/release/s3t "$@"
