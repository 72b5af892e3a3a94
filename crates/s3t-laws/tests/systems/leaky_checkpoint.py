"""A leak: after a deletion, training goes on from the checkpoint of the slice that was hit, which has seen the record."""

from serve import serve
from sisa import Sisa


class LeakyCheckpoint(Sisa):
    def build(self, shard, first):
        old = self.weights[shard, first]
        self.resumed = old
        super().build(shard, first)

    def fit(self, weights, records, order):
        resumed, self.resumed = self.resumed, None
        return super().fit(weights if resumed is None else resumed, records, order)


if __name__ == "__main__":
    serve(LeakyCheckpoint, name="leaky-checkpoint")
