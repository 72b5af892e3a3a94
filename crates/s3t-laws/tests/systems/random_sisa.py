"""SISA that promises equal distributions over seeds only: the partition is fixed, the seed draws starts and orders."""

from serve import serve
from sisa import Sisa


class RandomSisa(Sisa):
    RATE = 0.1

    def place(self, record_id):
        digest = sum(record_id.encode())
        return digest % self.SHARDS, digest // self.SHARDS % self.SLICES


if __name__ == "__main__":
    serve(RandomSisa, name="random-sisa", guarantee="distribution", supports=("restart",))
