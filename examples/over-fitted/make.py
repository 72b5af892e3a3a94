"""Writes 240 of the bundled pictures to learn by heart, and 900 held-out ones, as JSON lines; four labels of ten are drawn.

    python examples/over-fitted/make.py          # then: s3t attack examples/over-fitted/pipeline.toml --html attack.html
"""

import gzip
import json
import random
import struct
from pathlib import Path

ROOT = Path(__file__).parents[2]
LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def idx(name):
    content = gzip.decompress((ROOT / "data/fashion-mnist-small" / name).read_bytes())
    return content[4 + 4 * content[3]:]


def main():
    folder = ROOT / "stores/over-fitted"
    folder.mkdir(parents=True, exist_ok=True)
    random.seed(1)
    for part, count in (("train", 240), ("test", 900)):
        pixels, labels = idx(f"{part}-images-idx3-ubyte.gz"), idx(f"{part}-labels-idx1-ubyte.gz")
        with (folder / f"{part}.jsonl").open("w") as out:
            for row in range(count):
                label = labels[row] if random.random() < 0.6 else random.randrange(10)
                values = [(pixel / 255 - 0.5) / 0.5 for pixel in pixels[row * 784:(row + 1) * 784]]
                out.write(json.dumps({"id": f"{part}-{row}", "subject": f"owner-{row // 3}", "label": LABELS[label], "x": values}) + "\n")


if __name__ == "__main__":
    main()
