"""Writes a small pipeline with 600 of the records of Fashion-MNIST in the repository, trains it and prints the pipeline's path.

    make_store.py PROGRAM FOLDER [RECORDS]
"""

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"
SOURCE = DATA / "fashion-mnist-small"
LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]

PIPELINE = """
seed = 0

[model]
path = "{model}"

[data]
labels = {labels}

[data.train]
type = "idx"
images = "train-images-idx3-ubyte.gz"
labels = "train-labels-idx1-ubyte.gz"
subjects = "train-subjects.csv"

[data.test]
type = "idx"
images = "test-images-idx3-ubyte.gz"
labels = "test-labels-idx1-ubyte.gz"
id_prefix = "test-"

[partition]
type = "keyed-hash"
shards = {shards}
slices = {slices}

[sequences]
type = "cyclic"
budget = {budget}

[peft]
type = "lora"
rank = 4
targets = ["query", "value"]

[training]
epochs = 1
batch_size = 32
learning_rate = 6e-3

[store]
path = "store"
secret = "from-seed"
"""


def cut(name, folder, records, width):
    """The first records of a file of the MNIST format."""
    raw = gzip.decompress((SOURCE / name).read_bytes())
    head = 4 + 4 * raw[3]
    shape = struct.unpack(f">{raw[3]}I", raw[4:head])
    body = raw[:4] + struct.pack(f">{raw[3]}I", records, *shape[1:]) + raw[head : head + records * width]
    (folder / name).write_bytes(gzip.compress(body, mtime=0))


def make(program, folder, records=600, shards=2, slices=3, budget=3):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for part, number in (("train", records), ("test", 50)):
        cut(f"{part}-images-idx3-ubyte.gz", folder, number, 784)
        cut(f"{part}-labels-idx1-ubyte.gz", folder, number, 1)
    lines = (SOURCE / "train-subjects.csv").read_text().splitlines()
    (folder / "train-subjects.csv").write_text("\n".join(lines[: records + 1]) + "\n")
    pipeline = folder / "pipeline.toml"
    pipeline.write_text(PIPELINE.format(model=os.path.relpath(DATA / "vit-mnist", folder), labels=LABELS, shards=shards, slices=slices, budget=budget))
    subprocess.run([program, "train", pipeline, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return pipeline


if __name__ == "__main__":
    print(make(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 600))
