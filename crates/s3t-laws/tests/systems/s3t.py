"""S3T behind the protocol, by its command line: every step is a process of its own.

    s3t-laws check -- python3 s3t.py S3T MODEL

S3T is the program, MODEL the folder of a model that takes pictures of 4 x 4 points, for instance a tiny ViT. Pipeline files
and records lie outside of the folder that is searched, and are removed in the end.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from serve import Refused, serve

UNKNOWN, NO_SHARD = 3, 7

PIPELINE = """
seed = {seed}
model.path = {model}
store = {{ path = {store}, secret = "from-seed" }}
peft = {{ type = "lora", rank = 2 }}
training = {{ epochs = 2, batch_size = 8, learning_rate = 0.01 }}
partition = {{ type = "keyed-hash", shards = 2, slices = 2 }}
sequences = {{ type = "cyclic", budget = 2 }}

[data]
labels = ["class-0", "class-1", "class-2"]
train = {{ type = "jsonl", file = "train.jsonl", id = "id", subject = "subject", features = "x" }}
test = {{ type = "jsonl", file = "test.jsonl", id = "id", features = "x" }}
"""


class S3t:
    def __init__(self, folder, seed, resume):
        self.outside = tempfile.TemporaryDirectory()
        model, store = json.dumps(str(Path(sys.argv[2]).resolve())), json.dumps(f"{folder}/store")
        self.path("pipeline.toml").write_text(PIPELINE.format(seed=seed, model=model, store=store))
        self.ask([{"features": [0.0] * 8}])

    def path(self, name):
        return Path(self.outside.name) / name

    def run(self, command, *arguments):
        """The exit code and the JSON of a command."""
        ran = subprocess.run([sys.argv[1], command, "pipeline.toml", *arguments, "--json"], cwd=self.outside.name,
                             capture_output=True, text=True)
        if ran.returncode not in (0, UNKNOWN, NO_SHARD):
            sys.exit(ran.stderr)
        return ran.returncode, json.loads(ran.stdout) if ran.returncode == 0 else None

    def write(self, name, rows):
        self.path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def train(self, records):
        self.write("train.jsonl", [
            {"id": record["id"], "subject": record["subject"], "label": f"class-{record['label']}", "x": record["features"] * 2}
            for record in records])
        self.run("train")
        # The store has its own copy; the source is the operator's to delete.
        self.path("train.jsonl").unlink()

    def forget(self, ids):
        code, _ = self.run("delete", *(word for name in ids for word in ("--record", name)))
        if code == UNKNOWN:
            raise Refused("unknown-record")

    def settle(self):
        self.run("repair")

    def ask(self, questions):
        self.write("test.jsonl", [{"id": f"question-{row}", "label": "class-0", "x": question["features"] * 2}
                                  for row, question in enumerate(questions)])

    def answer(self, questions):
        self.ask(questions)
        code, answer = self.run("predict")
        if code == NO_SHARD:
            raise Refused("unavailable")
        return [prediction["scores"] for prediction in answer["predictions"]]

    def close(self):
        self.outside.cleanup()


if __name__ == "__main__":
    serve(S3t, name="s3t", supports=("settle", "restart"))
