"""SISA (arXiv 1912.03817) with softmax regression: shards, slices, a checkpoint after each slice. Standard library only."""

import hashlib
import json
import math
import random
from pathlib import Path

from serve import Refused, serve

CLASSES = 3


class Sisa:
    SHARDS, SLICES, EPOCHS, RATE = 3, 2, 3, 0.3

    def __init__(self, folder, seed, resume):
        self.folder, self.seed = Path(folder), seed
        cells = [(shard, part) for shard in range(self.SHARDS) for part in range(self.SLICES)]
        self.data = {cell: self.read("data", cell) if resume else [] for cell in cells}
        self.weights = {cell: self.read("weights", cell) if resume else None for cell in cells}

    # Placement depends on the id and the seed only.
    def place(self, record_id):
        digest = hashlib.sha256(f"{self.seed}/{record_id}".encode()).digest()
        return digest[0] % self.SHARDS, digest[1] % self.SLICES

    def train(self, records):
        for record in records:
            self.data[self.place(record["id"])].append(record)
        for shard in range(self.SHARDS):
            self.build(shard, 0)

    def forget(self, ids):
        known = {record["id"] for records in self.data.values() for record in records}
        if not known.issuperset(ids):
            raise Refused("unknown-record")
        hit = {}
        for shard, part in map(self.place, ids):
            hit[shard] = min(part, hit.get(shard, part))
        for cell, records in self.data.items():
            self.data[cell] = [record for record in records if record["id"] not in ids]
        for shard, part in hit.items():
            self.build(shard, part)

    def build(self, shard, first):
        """Trains the slices of a shard from `first` on, from the checkpoint of the slice before."""
        weights = self.weights[shard, first - 1] if first else self.start(shard)
        for part in range(first, self.SLICES):
            weights = self.fit(weights, self.seen(shard, part), self.order(shard, part))
            self.weights[shard, part] = weights
            self.write("weights", (shard, part), weights)
            self.write("data", (shard, part), self.data[shard, part])

    def start(self, shard):
        numbers = random.Random(f"{self.seed}-{shard}")
        return [[numbers.gauss(0, 0.1) for _ in range(9)] for _ in range(CLASSES)]

    def seen(self, shard, part):
        records = [record for earlier in range(part + 1) for record in self.data[shard, earlier]]
        return sorted(records, key=lambda record: record["id"])

    def order(self, shard, part):
        return random.Random(f"{self.seed}-{shard}-{part}")

    def fit(self, weights, records, order):
        weights = [row[:] for row in weights]
        for _ in range(self.EPOCHS):
            for record in order.sample(records, len(records)):
                self.step(weights, record, self.RATE)
        return weights

    def step(self, weights, record, rate):
        inputs = self.inputs(record["features"])
        for label, probability in enumerate(softmax(weights, inputs)):
            error = probability - (label == record["label"])
            for place, value in enumerate(inputs):
                weights[label][place] -= rate * error * value

    def inputs(self, features):
        return features + [1.0]

    def alive(self):
        last = self.SLICES - 1
        return [self.weights[shard, last] for shard in range(self.SHARDS) if self.seen(shard, last)]

    def answer(self, questions):
        models = self.alive()
        if not models:
            raise Refused("unavailable")
        answers = []
        for question in questions:
            inputs = self.inputs(question["features"])
            each = [softmax(weights, inputs) for weights in models]
            answers.append([sum(column) / len(models) for column in zip(*each)])
        return answers

    def dump(self):
        return [[[value.hex() for value in row] for row in weights] for weights in self.alive()]

    def path(self, kind, cell):
        return self.folder / f"{kind}-{cell[0]}-{cell[1]}.json"

    def read(self, kind, cell):
        return json.loads(self.path(kind, cell).read_text())

    def write(self, kind, cell, value):
        new = self.folder / "new"
        new.write_text(json.dumps(value))
        new.replace(self.path(kind, cell))


def softmax(weights, inputs):
    logits = [sum(w * x for w, x in zip(row, inputs)) for row in weights]
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    return [power / sum(powers) for power in powers]


if __name__ == "__main__":
    serve(Sisa, name="sisa")
