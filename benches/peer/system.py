"""The whole system beside the reference recipe: all stages of all sequences of an example, by the wall clock.

    cargo xtask fetch minilm && cargo xtask fetch sentiment    (for the example `sentiment`; `images` is bundled)
    python system.py S3T [--example sentiment|images] [--records N] [--budget B] [--epochs N] [--threads N] [--eval N]
                         [--no-evaluation] [--skip-reference] [--device DEVICE] [--bf16] [--precision f32|bf16] [--json]

S3T is our program (`target/release/s3t`). `sentiment` is `examples/sentiment-minilm.toml`, `images` is `examples/quickstart.toml`.
The reference recipe is what the paper's scripts do, in `transformers` and `peft`: one
`Trainer` run for every sequence and every stage, all blocks run forward in each step, texts padded to the longest of their batch in
random order, a checkpoint and an evaluation after each epoch; earlier groups are kept frozen as their own stages left them, as the
method says. It runs in one process, without the seconds that importing its libraries takes for every run. Both sides have the same
records, shards, slices, sequences, epochs, batch size, optimiser settings and threads. The accuracy is that of the ensemble of the
first sequence of each shard. Peak memory is that of the process.
With `--bf16` the reference's trainer has its own `bf16=True`; `--precision` is `training.precision` of our side.
With `--device cuda` or `vulkan`, of a program that was built with that feature, the reference runs on the same card through CUDA.
"""

import argparse
import csv
import gzip
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = f"{ROOT}/data/fetched/sentiment"
MODEL = f"{ROOT}/data/fetched/minilm"
LABELS = ["negative", "neutral", "positive"]
SHARDS, SLICES = 2, 3


def rows(name, limit):
    with open(f"{DATA}/{name}.csv", newline="") as file:
        found = list(csv.DictReader(file))
    # As random as can be without a generator: by the hash of the id.
    found.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    return found[:limit] if limit else found


def sequences(budget):
    """Cyclic rotations, then the rotations of the rest behind each first slice."""
    from itertools import permutations
    rotations = [tuple((start + step) % SLICES for step in range(SLICES)) for start in range(SLICES)]
    others = [order for order in permutations(range(SLICES)) if order not in rotations]
    return (rotations + others)[:budget]


class Sentiment:
    """Texts for MiniLM."""

    pipeline, model, labels, batch_size, learning_rate, weight_decay = "sentiment-minilm", MODEL, LABELS, 8, 1e-3, 0.0
    lora = dict(r=16, lora_alpha=32, use_rslora=True, target_modules=["query", "value"])

    def write(self, folder, args, pipeline):
        for name, limit in (("train", args.records), ("test", args.eval)):
            chosen = rows(name, limit)
            with open(f"{folder}/{name}.csv", "w", newline="") as file:
                writer = csv.DictWriter(file, chosen[0].keys())
                writer.writeheader()
                writer.writerows(chosen)
        return re.sub(r'"\.\./data/fetched/sentiment/(\w+)\.csv"', rf'"{folder}/\1.csv"', pipeline)

    def load(self):
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
        self.kind = AutoModelForSequenceClassification
        self.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        self.collator = DataCollatorWithPadding(self.tokenizer)

    def records(self, name, limit):
        """Pairs of an id and what the model takes."""
        encode = lambda row: dict(self.tokenizer(row["text"], truncation=True, max_length=64), labels=LABELS.index(row["label"]))
        return [(row["id"], encode(row)) for row in rows(name, limit)]


class Images:
    """The bundled images for the bundled ViT."""

    folder = f"{ROOT}/data/fashion-mnist-small"
    pipeline, model, labels = "quickstart", f"{ROOT}/data/vit-mnist", list(range(10))
    batch_size, learning_rate, weight_decay = 32, 6e-3, 0.01
    lora = dict(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "fc1", "fc2"])

    def read(self, name, limit):
        """The rows of an IDX file with its header, and its labels."""
        with gzip.open(f"{self.folder}/{name}-images-idx3-ubyte.gz") as file:
            images = file.read()
        with gzip.open(f"{self.folder}/{name}-labels-idx1-ubyte.gz") as file:
            labels = file.read()[8:]
        count = min(limit or len(labels), len(labels))
        return [images[16 + row * 784:16 + (row + 1) * 784] for row in range(count)], labels[:count]

    def write(self, folder, args, pipeline):
        for name, limit in (("train", args.records), ("test", args.eval)):
            images, labels = self.read(name, limit)
            sizes = b"".join(size.to_bytes(4, "big") for size in (len(images), 28, 28))
            with gzip.open(f"{folder}/{name}-images-idx3-ubyte.gz", "wb") as file:
                file.write(b"\0\0\x08\x03" + sizes + b"".join(images))
            with gzip.open(f"{folder}/{name}-labels-idx1-ubyte.gz", "wb") as file:
                file.write(b"\0\0\x08\x01" + sizes[:4] + labels)
        pipeline = re.sub(r'"\.\./data/fashion-mnist-small/(\S+)\.gz"', rf'"{folder}/\1.gz"', pipeline)
        pipeline = re.sub(r"(?m)^(subjects = |delete_subjects = ).*\n", "", pipeline)
        return pipeline

    def load(self):
        from transformers import AutoModelForImageClassification, default_data_collator
        self.kind, self.collator = AutoModelForImageClassification, default_data_collator

    def records(self, name, limit):
        import numpy
        images, labels = self.read(name, limit)
        pixels = lambda image: (numpy.frombuffer(image, dtype=numpy.uint8).reshape(1, 28, 28) / numpy.float32(127.5) - 1).astype("float32")
        return [(f"{row}", {"pixel_values": pixels(image), "labels": label}) for row, (image, label) in enumerate(zip(images, labels))]


EXAMPLES = {"sentiment": Sentiment, "images": Images}


def ours(args, folder):
    example = EXAMPLES[args.example]()
    with open(f"{ROOT}/examples/{example.pipeline}.toml") as file:
        pipeline = example.write(folder, args, file.read())
    pipeline = re.sub(r"(?m)(^\[model\]\n(?:.*\n)*?path = ).*", lambda match: match[1] + json.dumps(example.model), pipeline, count=1)
    pipeline = re.sub(r'"\.\./stores/[\w-]+"', json.dumps(f"{folder}/store"), pipeline)
    pipeline = re.sub(r"(?m)^budget = \d+", f"budget = {args.budget}", pipeline)
    pipeline = re.sub(r"(?m)^epochs = \d+", f"epochs = {args.epochs}", pipeline)
    pipeline = f"device = {json.dumps(args.device)}\n" + re.sub(r"(?m)^device = .*\n", "", pipeline)
    pipeline, sections = re.subn(r"(?m)^\[training\].*\n", f"[training]\nprecision = {json.dumps(args.precision)}\n", pipeline)
    assert sections == 1
    if "[resources]" not in pipeline:
        pipeline += "\n[resources]\n"
    pipeline = pipeline.replace("[resources]\n", f"[resources]\njobs = {args.threads}\n")
    with open(f"{folder}/pipeline.toml", "w") as file:
        file.write(pipeline)
    started = time.perf_counter()
    subprocess.run([args.s3t, "train", f"{folder}/pipeline.toml", "--json"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    command = [args.s3t, "eval", f"{folder}/pipeline.toml", "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"seconds": seconds, "memory_mb": memory, "accuracy": found["evaluation"]["score"]}


def reference(args, folder):
    """Prints a JSON object; run in a process of its own."""
    import logging
    import warnings

    import torch
    import transformers
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, Trainer, TrainingArguments

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    example = EXAMPLES[args.example]()
    example.load()
    config = AutoConfig.from_pretrained(example.model)
    config.num_labels = len(example.labels)
    blocks = config.num_hidden_layers
    groups = [list(range(blocks - (k + 1) * blocks // SLICES, blocks - k * blocks // SLICES)) for k in range(SLICES)]
    test = [record for _, record in example.records("test", args.eval)]
    parts = {}
    for name, record in example.records("train", args.records):
        place = int.from_bytes(hashlib.sha256(b"place" + name.encode()).digest()[:8], "big")
        parts.setdefault((place % SHARDS, place // SHARDS % SLICES), []).append(record)
    answers, seconds = [], 0.0
    for shard in range(SHARDS):
        for number, order in enumerate(sequences(args.budget)):
            kept = {}
            for stage in range(SLICES):
                started = time.perf_counter()
                model = example.kind.from_pretrained(example.model, config=config)
                layers = sorted(sum(groups[:stage + 1], []))
                lora = LoraConfig(lora_dropout=0.0, layers_to_transform=layers, modules_to_save=["classifier"], **example.lora)
                model = get_peft_model(model, lora)
                for name, parameter in model.named_parameters():
                    if name in kept:
                        parameter.data.copy_(kept[name])
                        parameter.requires_grad = False
                data = [record for slice_ in order[:stage + 1] for record in parts[(shard, slice_)]]
                arguments = TrainingArguments(
                    output_dir=f"{folder}/{shard}-{number}-{stage}", num_train_epochs=args.epochs, learning_rate=example.learning_rate,
                    per_device_train_batch_size=example.batch_size, per_device_eval_batch_size=64, weight_decay=example.weight_decay, warmup_steps=0.1,
                    eval_strategy="no" if args.no_evaluation else "epoch", save_strategy="epoch", logging_strategy="no", report_to=[], use_cpu=args.device == "flex",
                    bf16=args.bf16, disable_tqdm=True)
                trainer = Trainer(model=model, args=arguments, train_dataset=data, eval_dataset=test,
                                  data_collator=example.collator)
                trainer.train()
                kept |= {name: parameter.detach().clone() for name, parameter in model.named_parameters() if "lora_" in name}
                seconds += time.perf_counter() - started
                print(f"reference: shard {shard}, sequence {number}, stage {stage}: {seconds:.0f} s", file=sys.stderr, flush=True)
            if number == 0:
                answers.append(torch.tensor(trainer.predict(test).predictions))
    labels = torch.tensor([record["labels"] for record in test])
    right = (torch.stack(answers).mean(0).argmax(1) == labels).float().mean().item()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "memory_mb": memory, "accuracy": right}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("s3t")
    parser.add_argument("--example", choices=EXAMPLES, default="sentiment")
    parser.add_argument("--records", type=int, default=0, help="training records; 0 for all")
    parser.add_argument("--eval", type=int, default=500, help="held-out records")
    parser.add_argument("--budget", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-evaluation", action="store_true", help="the reference does not evaluate after each epoch")
    parser.add_argument("--skip-reference", action="store_true")
    parser.add_argument("--device", default="flex")
    parser.add_argument("--bf16", action="store_true", help="the reference trains under bfloat16 autocast")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--reference", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.reference:
        return reference(args, args.reference)
    with tempfile.TemporaryDirectory() as folder:
        results = {"s3t": ours(args, folder)}
        if not args.skip_reference:
            command = [sys.executable, __file__, *sys.argv[1:], "--reference", folder]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results["reference"] = json.loads(found.strip().splitlines()[-1])
    if args.json:
        return print(json.dumps(results, indent=2))
    print(f"{'':12}{'seconds':>10}{'memory':>12}{'accuracy':>10}")
    for side, found in results.items():
        print(f"{side:12}{found['seconds']:10.1f}{found['memory_mb']:9.0f} MB{100 * found['accuracy']:9.1f}%")
    if "reference" in results:
        ratios = [results["reference"][key] / results["s3t"][key] for key in ("seconds", "memory_mb")]
        print(f"ratio       {ratios[0]:10.2f}{ratios[1]:12.2f}")


if __name__ == "__main__":
    main()
