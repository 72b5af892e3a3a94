"""Writes a pipeline that continues texts with the bundled small Llama, trains it and prints the pipeline's path.

    make_texts.py PROGRAM FOLDER [RECORDS]
"""

import os
import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"

PIPELINE = """
seed = 0

[model]
path = "{model}"

[data]
task = "causal-lm"

[data.train]
type = "jsonl"
file = "train.jsonl"
id = "id"
subject = "subject"
template = "### Instruction:\\n{{instruction}}\\n\\n### Input:\\n{{input}}\\n\\n### Response:\\n"
label = "output"

[partition]
type = "keyed-hash"
shards = 2
slices = 2

[sequences]
type = "cyclic"
budget = 2

[peft]
type = "lora"
rank = 4
targets = ["query", "value"]

[training]
epochs = 1
batch_size = 16
learning_rate = 5e-3

[store]
path = "store"
secret = "from-seed"

[serving.generation]
on_deletion = "{on_deletion}"
"""


def make(program, folder, records=120, on_deletion="stop"):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = (DATA / "instructions" / "train.jsonl").read_text().splitlines()
    (folder / "train.jsonl").write_text("\n".join(lines[:records]) + "\n")
    pipeline = folder / "pipeline.toml"
    pipeline.write_text(PIPELINE.format(model=os.path.relpath(DATA / "llama-tiny", folder), on_deletion=on_deletion))
    subprocess.run([program, "train", pipeline, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return pipeline


if __name__ == "__main__":
    print(make(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 120))
