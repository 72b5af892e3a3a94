"""The whole system beside the reference recipe: all stages of all sequences on the sentiment example, by the wall clock.

    cargo xtask fetch minilm && cargo xtask fetch sentiment
    python system.py S3T [--records N] [--budget B] [--epochs N] [--threads N] [--eval N] [--no-evaluation] [--skip-reference] [--json]

S3T is our program (`target/release/s3t`). The reference recipe is what the paper's scripts do, in `transformers` and `peft`: one
`Trainer` run for every sequence and every stage, all blocks run forward in each step, batches padded to their longest text in
random order, a checkpoint and an evaluation after each epoch; earlier groups are kept frozen as their own stages left them, as the
method says. It runs in one process, without the seconds that importing its libraries takes for every run. Both sides have the same texts, shards, slices, sequences, epochs, batch
size and threads. The accuracy is that of the ensemble of the first sequence of each shard. Peak memory is that of the process.
"""

import argparse
import csv
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


def ours(args, folder):
    for name, limit in (("train", args.records), ("test", args.eval)):
        chosen = rows(name, limit)
        with open(f"{folder}/{name}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, chosen[0].keys())
            writer.writeheader()
            writer.writerows(chosen)
    with open(f"{ROOT}/examples/sentiment-minilm.toml") as file:
        pipeline = file.read()
    pipeline = re.sub(r'"\.\./data/fetched/sentiment/(\w+)\.csv"', rf'"{folder}/\1.csv"', pipeline)
    pipeline = pipeline.replace('"../data/fetched/minilm"', json.dumps(MODEL))
    pipeline = pipeline.replace('"../stores/sentiment-minilm"', json.dumps(f"{folder}/store"))
    pipeline = re.sub(r"(?m)^budget = \d+", f"budget = {args.budget}", pipeline)
    pipeline = re.sub(r"(?m)^epochs = \d+", f"epochs = {args.epochs}", pipeline)
    pipeline = re.sub(r"(?m)^\[resources\]", f"[resources]\njobs = {args.threads}", pipeline)
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
    from transformers import (AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding,
                              Trainer, TrainingArguments)

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    config = AutoConfig.from_pretrained(MODEL)
    config.num_labels = len(LABELS)
    blocks = config.num_hidden_layers
    groups = [list(range(blocks - (k + 1) * blocks // SLICES, blocks - k * blocks // SLICES)) for k in range(SLICES)]

    def encode(chosen):
        return [dict(tokenizer(row["text"], truncation=True, max_length=64), labels=LABELS.index(row["label"])) for row in chosen]

    train, test = rows("train", args.records), encode(rows("test", args.eval))
    parts = {}
    for row in train:
        place = int.from_bytes(hashlib.sha256(b"place" + row["id"].encode()).digest()[:8], "big")
        parts.setdefault((place % SHARDS, place // SHARDS % SLICES), []).append(row)
    answers, seconds = [], 0.0
    for shard in range(SHARDS):
        for number, order in enumerate(sequences(args.budget)):
            kept = {}
            for stage in range(SLICES):
                started = time.perf_counter()
                model = AutoModelForSequenceClassification.from_pretrained(MODEL, config=config)
                layers = sorted(sum(groups[:stage + 1], []))
                model = get_peft_model(model, LoraConfig(
                    r=16, lora_alpha=32, use_rslora=True, lora_dropout=0.0, target_modules=["query", "value"],
                    layers_to_transform=layers, modules_to_save=["classifier"]))
                for name, parameter in model.named_parameters():
                    if name in kept:
                        parameter.data.copy_(kept[name])
                        parameter.requires_grad = False
                data = encode([row for slice_ in order[:stage + 1] for row in parts[(shard, slice_)]])
                arguments = TrainingArguments(
                    output_dir=f"{folder}/{shard}-{number}-{stage}", num_train_epochs=args.epochs, learning_rate=1e-3,
                    per_device_train_batch_size=8, per_device_eval_batch_size=64, weight_decay=0.0, warmup_steps=0.1,
                    eval_strategy="no" if args.no_evaluation else "epoch", save_strategy="epoch", logging_strategy="no", report_to=[], use_cpu=True,
                    disable_tqdm=True)
                trainer = Trainer(model=model, args=arguments, train_dataset=data, eval_dataset=test,
                                  data_collator=DataCollatorWithPadding(tokenizer))
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
    parser.add_argument("--records", type=int, default=0, help="training texts; 0 for all")
    parser.add_argument("--eval", type=int, default=500, help="held-out texts")
    parser.add_argument("--budget", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-evaluation", action="store_true", help="the reference does not evaluate after each epoch")
    parser.add_argument("--skip-reference", action="store_true")
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
