"""A leak: features are centred with means over all data, and the means stay as they were when records are forgotten."""

import json

from serve import serve
from sisa import Sisa


class LeakyNormalisation(Sisa):
    def __init__(self, folder, seed, resume):
        super().__init__(folder, seed, resume)
        self.means = json.loads((self.folder / "means.json").read_text()) if resume else None

    def train(self, records):
        self.means = [sum(column) / len(records) for column in zip(*(record["features"] for record in records))]
        (self.folder / "means.json").write_text(json.dumps(self.means))
        super().train(records)

    def inputs(self, features):
        return [value - mean for value, mean in zip(features, self.means)] + [1.0]


if __name__ == "__main__":
    serve(LeakyNormalisation, name="leaky-normalisation")
