"""Ensemble prediction beside PyTorch: the answers of all shards for one text and for 64, as a service gives them.

    cargo xtask fetch minilm && cargo xtask fetch sentiment
    python predict.py PEER_PREDICT [--shards N] [--rounds N] [--threads N] [--device DEVICE] [--form FORM] [--bf16] [--json]

PEER_PREDICT is our side's program (`target/release/peer-predict`). Both sides have MiniLM with LoRA r 16 on query and value and a
head for each shard, the same 64 texts of the sentiment set, and the same threads. PyTorch has one resident model, pads a batch to its
longest text, and answers in two ways: its adapters are switched from shard to shard, or all shards go through the model in one batch
that is so many times as large, each part with its adapter (`adapter_names`). `full` is a system without deletions: every shard has adapters on all six
blocks. `cut` is one after deletions: the shards serve with adapters on the upper 6, 6, 4, 4 and 2 blocks, and so on in turn.
`--form` is that of our frozen weights: `f32`, `bf16`, `int8` or `nf4`. With `--bf16` PyTorch answers in both ways under bfloat16 autocast too, and the
ratio is to the fastest of all.
With `--device cuda` or `vulkan`, of a program that was built with that feature, PyTorch runs on the same card through CUDA.
"""

import argparse
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from step import take_turns
from system import LABELS, MODEL, rows

STATES = {"full": [0], "cut": [0, 0, 2, 2, 4]}


def texts():
    return [row["text"] for row in rows("test", 64)]


def worker(shards, threads, device, way):
    """PyTorch's side: a line `full one`, `cut batch` and so on answers once."""
    import contextlib

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(threads)
    autocast = contextlib.nullcontext
    if way.endswith("bf16"):
        autocast = lambda: torch.autocast("cpu" if device == "flex" else "cuda", dtype=torch.bfloat16)
    config = AutoConfig.from_pretrained(MODEL)
    config.num_labels = len(LABELS)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    models = {}
    for state, starts in STATES.items():
        model = AutoModelForSequenceClassification.from_pretrained(MODEL, config=config)
        for shard in range(shards):
            start = starts[shard % len(starts)]
            lora = LoraConfig(r=16, lora_alpha=32, target_modules=["query", "value"], modules_to_save=["classifier"],
                              layers_to_transform=list(range(start, config.num_hidden_layers)))
            model = get_peft_model(model, lora, f"shard{shard}") if shard == 0 else model
            if shard > 0:
                model.add_adapter(f"shard{shard}", lora)
        models[state] = model.eval() if device == "flex" else model.eval().cuda()
    all_texts = texts()
    for line in sys.stdin:
        state, size = line.split()
        model, asked = models[state], all_texts if size == "batch" else all_texts[:1]
        started = time.perf_counter()
        with torch.inference_mode(), autocast():
            inputs = tokenizer(asked, padding=True, truncation=True, max_length=64, return_tensors="pt")
            if device != "flex":
                inputs = inputs.to("cuda")
            if way.startswith("mixed"):
                names = [f"shard{shard}" for shard in range(shards) for _ in asked]
                inputs = {name: tensor.repeat(shards, 1) for name, tensor in inputs.items()}
                outputs = model(**inputs, adapter_names=names).logits.view(shards, len(asked), -1)
            else:
                outputs = []
                for shard in range(shards):
                    model.set_adapter(f"shard{shard}")
                    outputs.append(model(**inputs).logits)
                outputs = torch.stack(outputs)
            outputs.float().mean(0).tolist()
        print(f"{(time.perf_counter() - started) * 1e3:.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer_predict")
    parser.add_argument("--shards", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="flex")
    parser.add_argument("--form", choices=["f32", "bf16", "int8", "nf4"], default="f32")
    parser.add_argument("--bf16", action="store_true", help="PyTorch answers under bfloat16 autocast too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args.shards, args.threads, args.device, args.worker)
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ours = subprocess.Popen([args.peer_predict, MODEL, str(args.threads), str(args.shards), args.device, args.form], **pipes)
    ours.stdin.write(json.dumps(texts()) + "\n")
    def peer(form):
        return subprocess.Popen([sys.executable, __file__, args.peer_predict, "--shards", str(args.shards), "--threads", str(args.threads),
                                 "--device", args.device, "--worker", form], **pipes)

    ways = ["switched", "mixed"] + (["switched bf16", "mixed bf16"] if args.bf16 else [])
    processes = (ours, *(peer(way) for way in ways))
    results = []
    for state in STATES:
        for size in ("one", "batch"):
            mine, *times = take_turns(processes, f"{state} {size}", args.rounds, 5)
            best = min(range(len(ways)), key=lambda way: times[way])
            ratio = times[best] / mine
            results.append({"state": state, "texts": 64 if size == "batch" else 1, "shards": args.shards, "s3t_ms": round(mine, 2),
                            "pytorch_ms": {way: round(of, 2) for way, of in zip(ways, times)}, "ratio": round(ratio, 2)})
            if not args.json:
                theirs = ", ".join(f"{way} {of:.2f}" for way, of in zip(ways, times))
                print(f"{args.shards} shards, {state:5} {results[-1]['texts']:3} texts {mine:9.2f} ms  PyTorch ms: {theirs}  ratio to "
                      f"{ways[best]} {ratio:.2f}", flush=True)
    for process in processes:
        process.stdin.close()
        process.wait()
    if args.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
