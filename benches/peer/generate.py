"""Texts continued by two members, beside PyTorch, transformers and PEFT with their cache.

    python generate.py PEER_GENERATE [--model llama-77m|qwen-0.5b] [--rounds N] [--threads N] [--forms FORM,...] [--ways WAY,...] [--prompts N,...] [--json]

PEER_GENERATE is our side's program (`target/release/peer-generate`). Both sides have one model of random parameters, a Llama of 77 million or
one with the sizes of Qwen2.5-0.5B, two LoRA adapters (r 16 on query and value), prompts of 128 random tokens, and 64 new tokens taken greedily from the mean of both members' logits,
with keys and values remembered. PyTorch does it in two ways, each in single precision and in bfloat16: the adapters are switched and
each has its own cache (`switched`), or both go through the model in one batch with `adapter_names` (`mixed`). Ours runs in each
of FORMS: `f32`, `bf16` (products of frozen weights in bfloat16), `int8` and `nf4` (`model.weights`, the language head in single precision); a ratio is
that of PyTorch's fastest of WAYS in the same precision, for the last two in any (all four unless given, as `--ways "switched f32,mixed f32"`: autocast
takes minutes on a processor without instructions for bfloat16). `--prompts` are the numbers of prompts that are continued together.
The peak of memory is that of each process, after all runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

MODELS = {
    "llama-77m": ("Llama", dict(
        vocab_size=32000, hidden_size=512, intermediate_size=1536, num_hidden_layers=13, num_attention_heads=8, num_key_value_heads=8,
        max_position_embeddings=1024, rms_norm_eps=1e-6, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)),
    # https://huggingface.co/Qwen/Qwen2.5-0.5B/blob/main/config.json
    "qwen-0.5b": ("Qwen2", dict(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
        max_position_embeddings=32768, rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)),
}
DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../data/llama-tiny")
MEMBERS = 2
WAYS = ("switched f32", "mixed f32", "switched bf16", "mixed bf16")


def make_model(name, folder):
    import shutil

    import torch
    import transformers

    torch.manual_seed(0)
    family, config = MODELS[name]
    config = getattr(transformers, f"{family}Config")(**config)
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(folder)
    os.remove(os.path.join(folder, "generation_config.json"))
    shutil.copy(os.path.join(DATA, "tokenizer.json"), folder)


def worker(folder, form, threads):
    import resource

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    how, precision = form.split()
    dtype = torch.float32 if precision == "f32" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(model, lora, "member0")
    for member in range(1, MEMBERS):
        model.add_adapter(f"member{member}", lora)
    model = model.to(dtype).eval()
    for line in sys.stdin:
        if line.strip() == "memory":
            print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.1f}", flush=True)
            continue
        prompts, tokens, new, seed = map(int, line.split())
        torch.manual_seed(seed)
        ids = torch.randint(3, model.config.vocab_size, (prompts, tokens))
        started, first = time.perf_counter(), None
        with torch.inference_mode():
            caches = [None] * MEMBERS
            for _ in range(new):
                if how == "mixed":
                    names = [f"member{member}" for member in range(MEMBERS) for _ in range(prompts)]
                    outputs = model(input_ids=ids.repeat(MEMBERS, 1), past_key_values=caches[0], use_cache=True, logits_to_keep=1,
                                    adapter_names=names)
                    caches[0] = outputs.past_key_values
                    logits = outputs.logits[:, -1].float().view(MEMBERS, prompts, -1).mean(0)
                else:
                    logits = 0
                    for member in range(MEMBERS):
                        model.set_adapter(f"member{member}")
                        outputs = model(input_ids=ids, past_key_values=caches[member], use_cache=True, logits_to_keep=1)
                        caches[member] = outputs.past_key_values
                        logits = logits + outputs.logits[:, -1].float() / MEMBERS
                ids = logits.argmax(-1, keepdim=True)
                if first is None:
                    first = time.perf_counter() - started
        print(f"{first * 1e3:.3f} {(time.perf_counter() - started) * 1e3:.3f}", flush=True)


def ask(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return [float(number) for number in process.stdout.readline().split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer_generate")
    parser.add_argument("--model", choices=MODELS, default="llama-77m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--forms", default="f32,bf16")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--prompts", default="1,16")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "FORM"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(*args.worker, args.threads)
    forms, ways = args.forms.split(","), args.ways.split(",")
    if unknown := set(ways) - set(WAYS):
        parser.error(f"unknown ways: {', '.join(sorted(unknown))}; known are {', '.join(WAYS)}")
    with tempfile.TemporaryDirectory() as folder:
        make_model(args.model, folder)
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes = {f"s3t {form}": subprocess.Popen(
            [args.peer_generate, folder, str(args.threads), str(MEMBERS), form], **pipes) for form in forms}
        for form in ways:
            command = [sys.executable, __file__, args.peer_generate, "--threads", str(args.threads), "--worker", folder, form]
            processes[form] = subprocess.Popen(command, **pipes)
        results = []
        for prompts in map(int, args.prompts.split(",")):
            times = {form: [] for form in processes}
            for round_ in range(args.rounds):
                for form, process in processes.items():
                    time.sleep(0.3)
                    ask(process, f"{prompts} 128 2 1")
                    times[form].append(ask(process, f"{prompts} 128 64 {2 + round_}"))
            for kind, what in enumerate(("first token", "64 tokens")):
                medians = {form: statistics.median(run[kind] for run in runs) for form, runs in times.items()}
                results.append({"prompts": prompts, "what": what, "ms": {form: round(value, 1) for form, value in medians.items()}})
                results[-1]["ratio"] = {}
                for ours in forms:
                    peers = [medians[way] for way in ways if ours in ("int8", "nf4") or way.endswith(ours)]
                    if peers:
                        results[-1]["ratio"][ours] = round(min(peers) / medians[f"s3t {ours}"], 2)
        memory = {form: ask(process, "memory")[0] for form, process in processes.items()}
        for process in processes.values():
            process.stdin.close()
            process.wait()
    if args.json:
        print(json.dumps({"results": results, "memory_mb": memory}, indent=2))
        return
    for result in results:
        times = "  ".join(f"{form} {value:9.1f}" for form, value in result["ms"].items())
        ratios = ", ".join(f"{form} {ratio:.2f}" for form, ratio in result["ratio"].items())
        print(f"{result['prompts']:2} prompts, {result['what']:11} (ms)  {times}  ratio {ratios}")
    print("peak memory (MB)  " + "  ".join(f"{form} {value:.0f}" for form, value in memory.items()))


if __name__ == "__main__":
    main()
