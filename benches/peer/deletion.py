"""Deletion to effect in a process that answers, beside what a PEFT user can do about a deletion.

    cargo xtask fetch minilm && cargo xtask fetch sentiment
    python deletion.py PEER_DELETE [--shards N] [--rounds N] [--deletions N] [--threads N] [--json]

PEER_DELETE is our side's program (`target/release/peer-delete`): a store of all sentiment texts with so many shards of MiniLM with
LoRA r 16, three slices and three sequences, which answers without pause while records are deleted one by one. What serves instead is
loaded from files that the system has in memory, as PyTorch's are; deletions after which nothing is loaded do not count there. PyTorch's side is
idle otherwise and does, for shards that lost a record, one of these: reads base model and surviving adapters of five shards again; reads the
surviving adapter of one shard into the resident model (`load_adapter`) and switches to it; switches one shard to
another prefix when every prefix of every shard of five is resident (`set_adapter`). None of these is durable. The sides take turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from step import ask
from system import LABELS, MODEL, SLICES, rows

RESIDENT = 5


def worker(folder, threads):
    """PyTorch's side: a line `reload`, `load` or `switch` prints the milliseconds."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.set_num_threads(threads)
    config = AutoConfig.from_pretrained(MODEL)
    config.num_labels = len(LABELS)
    blocks = config.num_hidden_layers

    def base():
        return AutoModelForSequenceClassification.from_pretrained(MODEL, config=config)

    model = None
    for shard in range(RESIDENT):
        for depth in range(1, SLICES + 1):
            lora = LoraConfig(r=16, lora_alpha=32, target_modules=["query", "value"], modules_to_save=["classifier"],
                              layers_to_transform=list(range(blocks - depth * blocks // SLICES, blocks)))
            name = f"shard{shard}-depth{depth}"
            if model is None:
                model = get_peft_model(base(), lora, name)
            else:
                model.add_adapter(name, lora)
    model = model.eval()
    names = list(model.peft_config)
    model.save_pretrained(folder)
    turn = 0
    for line in sys.stdin:
        turn += 1
        survivors = [f"shard{shard}-depth{1 + (turn + shard) % (SLICES - 1)}" for shard in range(RESIDENT)]
        started = time.perf_counter()
        if line.strip() == "reload":
            resident = base()
            resident = PeftModel.from_pretrained(resident, f"{folder}/{survivors[0]}", adapter_name=survivors[0])
            for name in survivors[1:]:
                resident.load_adapter(f"{folder}/{name}", adapter_name=name)
        elif line.strip() == "load":
            model.load_adapter(f"{folder}/{survivors[0]}", adapter_name=f"new{turn}")
            model.set_adapter(f"new{turn}")
        else:
            model.set_adapter(names[turn % len(names)])
        print(f"{(time.perf_counter() - started) * 1e3:.4f}", flush=True)
        if line.strip() == "load":
            model.delete_adapter(f"new{turn}")


def high(times):
    return sorted(times)[min(len(times) * 99 // 100, len(times) - 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer_delete")
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--deletions", type=int, default=40, help="of each round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args.worker, args.threads)
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        ours = subprocess.Popen([args.peer_delete, MODEL, str(args.threads), str(args.shards), folder], **pipes)
        print(json.dumps([row["text"] for row in rows("train", 0)]), file=ours.stdin, flush=True)
        theirs = subprocess.Popen([sys.executable, __file__, args.peer_delete, "--threads", str(args.threads), "--worker",
                                   f"{folder}/adapters"], **pipes)

        for turn in range(args.rounds + 1):
            times = {}
            steps = zip(*ask(ours, args.deletions))
            names = ["acknowledged", "in effect from then", "next stages loaded from then", "erased"]
            times |= {f"s3t {name}": [time for time in step if time is not None] for name, step in zip(names, steps)}
            for line, what, count in (("reload", f"PyTorch checkpoints of {RESIDENT} shards", 3), ("load", "PyTorch load_adapter", 10),
                                      ("switch", "PyTorch set_adapter", args.deletions)):
                times[what] = [ask(theirs, line) for _ in range(count)]
            if turn > 0:  # The first turn warms both sides up.
                for what, values in times.items():
                    found.setdefault(what, []).extend(values)
        for process in (ours, theirs):
            process.stdin.close()
            process.wait()
    results = [{"what": what, "count": len(times), "median_ms": round(statistics.median(times), 4), "p99_ms": round(high(times), 4)}
               for what, times in found.items()]
    if args.json:
        return print(json.dumps(results, indent=2))
    for row in results:  # Of few times, the 99th percentile is the longest.
        print(f"{row['what']:34} {row['count']:5} times  median {row['median_ms']:10.4f} ms  p99 {row['p99_ms']:10.4f} ms")


if __name__ == "__main__":
    main()
