#!/usr/bin/env bash
# Makes the peer's environment: FastAPI, uvicorn, torch (CPU), transformers and PEFT from PyPI.
#   benches/serving/peer.sh FOLDER && PEER=FOLDER benches/serving/load.sh ...
set -euo pipefail
python3 -m venv "$1"
"$1/bin/pip" install --quiet --disable-pip-version-check -r "$(dirname "$0")/requirements.txt"
