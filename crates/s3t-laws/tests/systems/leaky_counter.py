"""A leak: the order of training is drawn from a counter of deletions, so that a system tells how often it has forgotten."""

import random

from serve import serve
from sisa import Sisa


class LeakyCounter(Sisa):
    deletions = 0

    def forget(self, ids):
        super().forget(ids)
        self.deletions += 1

    def order(self, shard, part):
        return random.Random(f"{self.seed}-{shard}-{part}-{self.deletions}")


if __name__ == "__main__":
    serve(LeakyCounter, name="leaky-counter", supports=())
