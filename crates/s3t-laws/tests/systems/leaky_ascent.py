"""A leak: instead of training again, a few steps of gradient ascent on the forgotten records (NegGrad)."""

from serve import serve
from random_sisa import RandomSisa


class LeakyAscent(RandomSisa):
    def forget(self, ids):
        last = self.SLICES - 1
        for cell in list(self.data):
            gone = [record for record in self.data[cell] if record["id"] in ids]
            self.data[cell] = [record for record in self.data[cell] if record["id"] not in ids]
            self.write("data", cell, self.data[cell])
            for record in gone:
                self.step(self.weights[cell[0], last], record, -0.1)
                self.write("weights", (cell[0], last), self.weights[cell[0], last])


if __name__ == "__main__":
    serve(LeakyAscent, name="leaky-ascent", guarantee="distribution", supports=("restart",))
