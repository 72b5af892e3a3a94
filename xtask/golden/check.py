"""Compares `s3t predict` with Python `peft` on adapters that `s3t export` wrote.

    cargo run --release -- export PIPELINE --to EXPORT
    python check.py --s3t target/release/s3t --model MODEL --adapter EXPORT/shard-0 --input questions.jsonl

MODEL is the base model's folder, questions.jsonl has one object with a `text` a line. Weights of 16 bits are computed with in
32 bits on both sides. Prints the largest difference of the
logits; exits with 1 if it is above 1e-4. Needs the packages of requirements.txt.
"""

import argparse
import json
import subprocess
import sys

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers import PreTrainedTokenizerFast
from safetensors.torch import load_file


def head_rows(adapter):
    """The number of classes of the head in an adapter; 0 if it has none."""
    weights = load_file(f"{adapter}/adapter_model.safetensors")
    rows = [tensor.shape[0] for name, tensor in weights.items()
            if name.endswith(("classifier.weight", "classifier.out_proj.weight", "score.weight"))]
    return rows[0] if rows else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("s3t", "model", "adapter", "input"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--max-tokens", type=int, default=64)
    args = parser.parse_args()

    command = [args.s3t, "predict", "--model", args.model, "--adapter", args.adapter, "--input", args.input,
               "--max-tokens", str(args.max_tokens), "--json"]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["predictions"]

    config = AutoConfig.from_pretrained(args.model)
    classes = head_rows(args.adapter)
    if classes:
        config.num_labels = classes
        base = AutoModelForSequenceClassification.from_pretrained(args.model, config=config, dtype=torch.float32)
    else:
        base = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, args.adapter).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{args.model}/tokenizer.json")
    largest = 0.0
    with open(args.input) as lines:
        texts = [json.loads(line)["text"] for line in lines if line.strip()]
    for text, answer in zip(texts, ours, strict=True):
        ids = tokenizer(text, truncation=True, max_length=args.max_tokens, padding=False)["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)).long()).logits
        theirs = logits.reshape(-1) if classes else logits[0, -1]
        largest = max(largest, (theirs - torch.tensor(answer["logits"])).abs().max().item())
    print(f"{len(texts)} texts, largest difference of the logits {largest:.2e}")
    sys.exit(largest > 1e-4)


if __name__ == "__main__":
    main()
