"""A leak: a deletion is answered before it is on disk, so that a crash brings the records back."""

from serve import serve
from sisa import Sisa


class LeakyLateWrite(Sisa):
    late = None

    def forget(self, ids):
        self.late = self.late or {}
        super().forget(ids)

    def write(self, kind, cell, value):
        if self.late is None:
            super().write(kind, cell, value)
        else:
            self.late[kind, cell] = value

    def close(self):
        for (kind, cell), value in (self.late or {}).items():
            super().write(kind, cell, value)


if __name__ == "__main__":
    serve(LeakyLateWrite, name="leaky-late-write")
