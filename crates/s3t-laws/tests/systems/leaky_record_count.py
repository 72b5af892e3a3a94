"""A leak: the seed of a shard comes from the number of records that the whole system was trained on."""

import random

from serve import serve
from sisa import Sisa


class LeakyRecordCount(Sisa):
    count = 0

    def train(self, records):
        self.count = len(records)
        super().train(records)

    def order(self, shard, part):
        return random.Random(f"{self.seed}-{shard}-{part}-{self.count}")


if __name__ == "__main__":
    serve(LeakyRecordCount, name="leaky-record-count", supports=())
