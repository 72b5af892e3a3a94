"""A leak: the files from before a deletion stay on disk under another name. Answers are right."""

from serve import serve
from sisa import Sisa


class LeakyBackup(Sisa):
    def write(self, kind, cell, value):
        path = self.path(kind, cell)
        if path.exists():
            path.rename(path.with_suffix(".old"))
        super().write(kind, cell, value)


if __name__ == "__main__":
    serve(LeakyBackup, name="leaky-backup")
