"""One training step and one forward pass beside PyTorch with transformers and peft: medians of interleaved runs.

    python step.py PEER_STEP [--rounds N] [--threads N] [--device DEVICE] [--ways WAY,...] [--forms FORM,...] [--json]

PEER_STEP is our side's program (`target/release/peer-step`). Both sides have the same random weights, the same batch, LoRA r 16
on query and value of all blocks, a head of 3 classes, AdamW, and the same number of threads. The language model has the sizes of Qwen2.5-0.5B and learns
every token but the first; a forward pass gives the likeliest token at each place. We run in each of FORMS: `f32`, and `bf16` with
products in bfloat16 (`training.precision = "bf16"`; without `avx512_bf16` they are emulated bit for bit, which is slow); PyTorch runs in each of WAYS: `f32`, `bf16` (autocast), `f32+compile`, `bf16+compile`
(`torch.compile`). The ratios are the time of PyTorch's fastest way divided by ours: of those in single precision for `f32`, of all for `bf16`.
With `--device cuda` or `vulkan`, of a program that was built with that feature (`cargo build --release -p s3t-benches --features
vulkan`), PyTorch runs on the same card through CUDA.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

# name, model, hidden, blocks, heads, batch, tokens
CONFIGS = [
    ("encoder d 384, 32 x 64", "bert", 384, 6, 12, 32, 64),
    ("encoder d 384, 8 x 128", "bert", 384, 6, 12, 8, 128),
    ("encoder d 768, 32 x 64", "bert", 768, 6, 12, 32, 64),
    ("encoder d 768, 8 x 128", "bert", 768, 6, 12, 8, 128),
    ("ViT-Tiny/16, 8 images of 224", "vit", 192, 12, 3, 8, 197),
    ("Qwen2.5-0.5B, 2 x 128", "qwen2", 896, 24, 14, 2, 128),
]
WORDS = 1000


def make(directory, kind, hidden, blocks, heads, batch, tokens):
    """A random model with its batch."""
    import numpy
    import torch
    from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    size = dict(hidden_size=hidden, num_hidden_layers=blocks, num_attention_heads=heads, intermediate_size=4 * hidden,
                num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    rng = numpy.random.default_rng(0)
    if kind == "bert":
        model = BertForSequenceClassification(BertConfig(vocab_size=WORDS + 4, max_position_embeddings=512, **size))
        vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3} | {f"w{word}": word + 4 for word in range(WORDS)}
        special = {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                   "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}
        single = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                  {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
        tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                     "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None,
                     "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single,
                                        "special_tokens": special},
                     "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}}
        with open(f"{directory}/tokenizer.json", "w") as file:
            json.dump(tokenizer, file)
        with open(f"{directory}/records.jsonl", "w") as file:
            for _ in range(batch):
                words = rng.integers(0, WORDS, tokens - 2)
                file.write(json.dumps(" ".join(f"w{word}" for word in words)) + "\n")
    elif kind == "qwen2":
        import shutil

        from generate import DATA, MODELS
        from tokenizers import Tokenizer
        from transformers import Qwen2Config, Qwen2ForCausalLM

        model = Qwen2ForCausalLM(Qwen2Config(**MODELS["qwen-0.5b"][1]))
        shutil.copy(f"{DATA}/tokenizer.json", directory)
        tokenizer = Tokenizer.from_file(f"{DATA}/tokenizer.json")
        with open(f"{directory}/continuations.jsonl", "w") as file:
            for _ in range(batch):
                # Random text that is cut where the tokens are enough: there is one more at the start, and one at the end.
                words = " ".join("".join(chr(97 + letter) for letter in rng.integers(0, 26, 5)) for _ in range(4 * tokens))
                offsets = tokenizer.encode(words, add_special_tokens=False).offsets
                file.write(json.dumps(["", words[:offsets[tokens - 3][1]]]) + "\n")
    else:
        model = ViTForImageClassification(ViTConfig(image_size=224, patch_size=16, **size))
        with open(f"{directory}/preprocessor_config.json", "w") as file:
            json.dump({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255,
                       "size": {"height": 224, "width": 224}}, file)
        with open(f"{directory}/images.bin", "wb") as file:
            file.write(rng.integers(0, 256, batch * 224 * 224 * 3, dtype=numpy.uint8).tobytes())
    model.save_pretrained(directory)
    if kind == "qwen2":
        os.remove(f"{directory}/generation_config.json")


def worker(directory, kind, threads, device, way):
    """PyTorch's side: a step or a forward pass a line."""
    import contextlib

    import numpy
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

    torch.set_num_threads(threads)
    if kind == "bert":
        model = AutoModelForSequenceClassification.from_pretrained(directory)
        with open(f"{directory}/tokenizer.json") as file:
            vocabulary = json.load(file)["model"]["vocab"]
        with open(f"{directory}/records.jsonl") as file:
            rows = [[2] + [vocabulary[word] for word in json.loads(line).split()] + [3] for line in file]
        ids = torch.tensor(rows)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        targets, head = ["query", "value"], ["classifier"]
    elif kind == "qwen2":
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(directory)
        # The time does not depend on which tokens they are.
        shape = next(config[-2:] for config in CONFIGS if config[1] == kind)
        ids = torch.randint(3, 400, shape, generator=torch.Generator().manual_seed(0))
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        targets, head = ["q_proj", "v_proj"], None
    else:
        model = AutoModelForImageClassification.from_pretrained(directory)
        pixels = numpy.fromfile(f"{directory}/images.bin", dtype=numpy.uint8).reshape(-1, 224, 224, 3)
        inputs = {"pixel_values": torch.tensor(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1.0}
        names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        targets = ["query", "value"] if "query" in names else ["q_proj", "v_proj"]
        head = ["classifier"]
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=targets, modules_to_save=head))
    batch = next(iter(inputs.values())).shape[0]
    labels = torch.arange(batch) % 3 if head else inputs["input_ids"]
    if device != "flex":
        model, labels = model.cuda(), labels.cuda()
        inputs = {name: tensor.cuda() for name, tensor in inputs.items()}
    precision, _, compiled = way.partition("+")
    answering = torch.compile(model) if compiled else model
    autocast = contextlib.nullcontext
    if precision == "bf16":
        autocast = lambda: torch.autocast("cpu" if device == "flex" else "cuda", dtype=torch.bfloat16)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    for line in sys.stdin:
        if line.strip() == "memory":
            print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.1f}", flush=True)
            continue
        started = time.perf_counter()
        if line.strip() == "train":
            model.train()
            optimizer.zero_grad()
            with autocast():
                loss = answering(**inputs, labels=labels).loss
            loss.backward()
            optimizer.step()
            loss.item()
        else:
            model.eval()
            with torch.inference_mode(), autocast():
                logits = answering(**inputs).logits
                (logits if head else logits.argmax(-1)).tolist()
        print(f"{(time.perf_counter() - started) * 1e3:.3f}", flush=True)


def ask(process, line):
    """What a process answers to a line, a JSON value."""
    print(line, file=process.stdin, flush=True)
    answer = process.stdout.readline()
    if not answer:
        sys.exit(f"one side ended early; its exit code is {process.wait()}")
    return json.loads(answer)


def take_turns(processes, line, rounds, together):
    """The median milliseconds of each process for a line, from turns of so many runs each."""
    times = [[] for _ in processes]
    for _ in range(rounds):
        for side, process in enumerate(processes):
            # The other side's threads spin for a while before they sleep. What follows a pause is not counted.
            time.sleep(0.3)
            ask(process, line)
            times[side].extend(ask(process, line) for _ in range(together))
    return [statistics.median(side) for side in times]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer_step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="flex")
    parser.add_argument("--only", help="part of a configuration's name")
    parser.add_argument("--ways", default="f32,bf16,f32+compile,bf16+compile")
    parser.add_argument("--forms", default="f32,bf16")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", default="f32", help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=2, metavar=("MODEL", "KIND"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(*args.worker, args.threads, args.device, args.way)

    results = []
    for name, kind, *sizes in CONFIGS:
        if args.only and args.only not in name:
            continue
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r});"
                            f"import step; step.make({directory!r}, {kind!r}, *{sizes!r})"], check=True)
            pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            forms, ways = args.forms.split(","), args.ways.split(",")
            ours = [subprocess.Popen([args.peer_step, directory, str(args.threads), args.device, form], **pipes) for form in forms]
            theirs = [subprocess.Popen([sys.executable, __file__, args.peer_step, "--threads", str(args.threads), "--device",
                                        args.device, "--way", way, "--worker", directory, kind], **pipes) for way in ways]
            for what in ("train", "forward"):
                medians = take_turns(ours + theirs, what, args.rounds, 3)
                mine, peers = dict(zip(forms, medians)), dict(zip(ways, medians[len(forms):]))
                # Single precision against the same, bfloat16 against all.
                best = {form: min((ms, way) for way, ms in peers.items() if form == "bf16" or way.startswith("f32")) for form in forms}
                results.append({"configuration": name, "what": what, "threads": args.threads,
                                "s3t_ms": {form: round(ms, 1) for form, ms in mine.items()},
                                "pytorch_ms": {way: round(ms, 1) for way, ms in peers.items()},
                                "ratio": {form: round(best[form][0] / ms, 2) for form, ms in mine.items()}})
                if not args.json:
                    of_ours = ", ".join(f"{form} {ms:8.1f} ms" for form, ms in mine.items())
                    of_peers = "  ".join(f"{way} {ms:.1f}" for way, ms in peers.items())
                    ratios = ", ".join(f"{form} {best[form][0] / ms:.2f} ({best[form][1]})" for form, ms in mine.items())
                    print(f"{name:30} {what:8} {of_ours}  PyTorch: {of_peers}  ratio {ratios}", flush=True)
            memory = dict(zip([f"s3t {form}" for form in forms] + ways, [ask(process, "memory") for process in ours + theirs]))
            results.append({"configuration": name, "what": "peak memory", "mb": memory})
            if not args.json:
                print(f"{name:30} memory   " + "  ".join(f"{way} {mb:.0f} MB" for way, mb in memory.items()), flush=True)
            for process in ours + theirs:
                process.stdin.close()
                process.wait()
    if args.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
