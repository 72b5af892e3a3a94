"""The paper's published implementation (github.com/brcsomnath/S3T) behind the protocol, run from a clone of its repository.

    s3t-laws check --only power,determinism,non-interference,restart -- python3 reference.py CLONE

Needs torch, transformers and peft. The functions that choose the layers of a stage, and that go on from the stage before, are read from
`src/s3t_base.py` of the clone and run as they are, on a tiny RoBERTa of 24 blocks; the loop over records is ours, as the published one
downloads its data. Two mistakes of that file break a law each:

- Layers are matched by parts of their names, so that `layer.1` trains 10 to 19 too and `layer.2` 20 to 23. What is switched off with a
  slice is then not all that saw it: `non-interference`.
- A stage wraps the adapters of the stage before in new ones, so that these are lost: `restart`, after which the model goes on as the next
  stage would. Standard error says how many parameters each stage has found changed.
"""

import argparse
import ast
import hashlib
import json
import os
import sys
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from peft import LoraConfig, get_peft_model
from serve import Refused, serve

SLICES, BLOCKS, EPOCHS = 3, 24, 3
GROUP = BLOCKS // SLICES
TAKEN = {"config", "label_count", "get_subdirectory_name", "get_layers", "check_if", "model_init"}


def published(clone, base):
    """The names of `TAKEN`, as the clone defines them."""
    source = (Path(clone) / "src/s3t_base.py").read_text()
    names = {
        "os": os, "print": lambda *_: None, "LoraConfig": LoraConfig, "get_peft_model": get_peft_model, "checkpoint": str(base),
        "AutoModelForSequenceClassification": transformers.AutoModelForSequenceClassification,
        "args": argparse.Namespace(rank=4, dataset="cb"),
    }
    for statement in ast.parse(source).body:
        defined = {target.id for target in getattr(statement, "targets", []) if isinstance(target, ast.Name)}
        if TAKEN & (defined | {getattr(statement, "name", None)}):
            exec(compile(ast.Module([statement], []), "s3t_base.py", "exec"), names)
    missing = TAKEN - names.keys()
    if missing:
        sys.exit(f"{clone}/src/s3t_base.py does not define {', '.join(sorted(missing))}: is it a clone of the published implementation?")
    return argparse.Namespace(**{name: names[name] for name in TAKEN})


def adapters(model):
    return {name: value.detach().clone() for name, value in model.named_parameters() if "lora_" in name}


def group_of(name):
    """The stage that a block of the encoder belongs to: the last blocks are of the first."""
    block = int(name.split("layer.")[1].split(".")[0])
    return (BLOCKS - 1 - block) // GROUP


class Reference:
    def __init__(self, folder, seed, resume):
        self.folder, self.seed = Path(folder), seed
        base = self.folder / "base"
        torch.manual_seed(0)
        torch.use_deterministic_algorithms(True)
        shape = transformers.RobertaConfig(
            vocab_size=64, hidden_size=16, num_hidden_layers=BLOCKS, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16, num_labels=3, pad_token_id=1)
        self.published = published(sys.argv[1], base)
        if resume:
            self.depth = json.loads((self.folder / "depth").read_text())
            # As the next stage would go on.
            self.model = self.start(self.depth)
        else:
            self.depth = SLICES
            transformers.RobertaForSequenceClassification(shape).save_pretrained(base)

    def start(self, stage):
        torch.manual_seed(self.seed + stage)
        before = self.folder / f"stage-{stage - 1}"
        return self.published.model_init(stage, str(before), GROUP).eval()

    def slice_of(self, record_id):
        return hashlib.sha256(f"{self.seed}/{record_id}".encode()).digest()[0] % SLICES

    def train(self, records):
        self.model = None
        for stage in range(SLICES):
            last, self.model = self.model, self.start(stage)
            if last is not None:
                self.compare(stage, last)
            seen = sorted((of for of in records if self.slice_of(of["id"]) <= stage), key=lambda of: of["id"])
            self.fit(seen)
            self.model.save_pretrained(self.folder / f"stage-{stage}" / "checkpoint-1")
        self.write()

    def compare(self, stage, last):
        """Tells the adapters that the stage before has trained and this one does not begin with."""
        now = adapters(self.model)
        trained = {name: value for name, value in adapters(last).items() if group_of(name) < stage}
        lost = [name for name, value in trained.items() if name not in now or not torch.equal(value, now[name])]
        print(f"stage {stage}: {len(lost)} of {len(trained)} tensors of earlier stages are not what they were", file=sys.stderr)

    def fit(self, records):
        trained = [value for value in self.model.parameters() if value.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=1e-2)
        for _ in range(EPOCHS):
            for first in range(0, len(records), 8):
                batch = records[first:first + 8]
                labels = torch.tensor([record["label"] for record in batch])
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(self.logits(batch), labels).backward()
                optimiser.step()

    def logits(self, records):
        tokens = [[4 + max(0, min(59, int(8 * value) + 30)) for value in record["features"]] for record in records]
        return self.model(input_ids=torch.tensor([[0, *row, 2] for row in tokens])).logits

    def forget(self, ids):
        """As the paper says (section 3): the layers that saw a slice are switched off, and those trained after them. The head is that of the
        last stage that is left."""
        self.depth = min([self.depth, *(self.slice_of(name) for name in ids)])
        if self.depth > 0:
            head = transformers.AutoModelForSequenceClassification.from_pretrained(
                self.folder / f"stage-{self.depth - 1}" / "checkpoint-1", num_labels=3)
            heads = {name.split("classifier.")[1].replace("modules_to_save.default.", ""): value
                     for name, value in head.named_parameters() if "classifier." in name}
            with torch.no_grad():
                for name, value in self.model.named_parameters():
                    if "lora_B" in name and group_of(name) >= self.depth:
                        value.zero_()
                    if "classifier.modules_to_save" in name:
                        value.copy_(heads[name.split("modules_to_save.default.")[1]])
        self.write()

    def answer(self, questions):
        if self.depth == 0:
            raise Refused("unavailable")
        with torch.no_grad():
            return self.logits(questions).tolist()

    def write(self):
        (self.folder / "depth").write_text(json.dumps(self.depth))


if __name__ == "__main__":
    serve(Reference, name="reference", supports=("restart",))
