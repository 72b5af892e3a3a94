"""Makes the golden files of evaluation: measures of texts by `rouge_score` and lm-evaluation-harness, and whole tasks run by the harness.

    python eval.py FOLDER_OF_S3T_EVAL FOLDER_OF_S3T

The first folder gets `text.json`: measures of made-up texts and likelihoods. The second gets task files with their data, and
`expected.json`: what the harness reports for the bundled Llama on each. Needs the packages of requirements.txt; reads no network.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["DISABLE_MULTIPROC"] = "1"

import numpy as np
import torch
from lm_eval import simple_evaluate
from lm_eval.api.metrics import bits_per_byte, exact_match_hf_evaluate, mean_stderr, weighted_perplexity
from lm_eval.api.task import ConfigurableTask, PerplexityTask
from lm_eval.models.huggingface import HFLM
from rouge_score.rouge_scorer import RougeScorer
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

MODEL = Path(__file__).parents[2] / "data/llama-tiny"
rng = np.random.default_rng(20261126)

TEXTS = [
    "", " ", "The quick brown fox jumps over the lazy dog", "the lazy dog jumps over the quick brown fox.",
    "Three", "three.", "a b c d e", "e d c b a", "a  b\tc\n d\u00a0e", "It's 5 o'clock, isn't it?", "5 o clock it is",
    "Grüße aus Köln", "grusse aus koln", "日本語のテキスト", "naïve café", "NAÏVE CAFÉ", "Straße \u0130stanbul \u212a", "x\u001cy\u2003z\u0085w",
    "running runner runs ran", "run run run", "1234 56", "123456", "end\n", "\nend", "Σίσυφος ΣΊΣΥΦΟΣ abc",
]


def texts():
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    rouge, exact = [], []
    for target in TEXTS:
        for answer in TEXTS:
            score = scorer.score(target, answer)["rougeL"]
            rouge.append({"target": target, "answer": answer, "rougeL": [score.precision, score.recall, score.fmeasure]})
            for case, punctuation, digits in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 1), (0, 0, 1)]:
                same = exact_match_hf_evaluate([answer], [target], ignore_case=bool(case), ignore_punctuation=bool(punctuation),
                                               ignore_numbers=bool(digits))["exact_match"]
                if same or target == answer or len(exact) % 23 == 0:
                    exact.append({"target": target, "answer": answer, "ignored": [bool(case), bool(punctuation), bool(digits)],
                                  "same": bool(same)})
    units = [{"text": text, "words": PerplexityTask.count_words(text), "bytes": PerplexityTask.count_bytes(text)} for text in TEXTS]
    return {"rouge": rouge, "exact": exact, "units": units}


def choices():
    """Choices judged by the harness' own task, ties among them."""
    options = ["no", "perhaps", "Größe", "日本", "a longer answer", "x", "yes!"]
    config = {"task": "choices", "output_type": "multiple_choice", "doc_to_text": "", "doc_to_choice": "{{choices}}",
              "doc_to_target": "gold", "metric_list": [{"metric": name} for name in ("acc", "acc_norm", "acc_bytes")],
              "dataset_path": "json", "test_split": "test"}
    cases = []

    class Fixed(ConfigurableTask):
        def download(self, *_args, **_kwargs):
            import datasets
            row = {"choices": options[:2], "gold": 0}
            self.dataset = datasets.DatasetDict({"test": datasets.Dataset.from_list([row])})

    task = Fixed(config=config)
    for _ in range(60):
        count = int(rng.integers(2, 6))
        texts = [str(text) for text in rng.choice(options, count, replace=False)]
        likelihoods = np.round(-rng.integers(1, 5, count) * rng.choice([0.5, 1.0, 2.0], count), 3).tolist()
        if rng.random() < 0.4:
            likelihoods = [-float(len(text)) for text in texts]
        results = [(value, False) for value in likelihoods]
        gold = int(rng.integers(count))
        judged = task.process_results({"choices": texts, "gold": gold}, results)
        cases.append({"choices": texts, "log_probabilities": likelihoods, "gold": gold,
                      **{name: judged[name] for name in ("acc", "acc_norm", "acc_bytes")}})
    return cases


def ratios():
    cases = []
    for count in (1, 2, 7, 40):
        sums = np.round(-rng.gamma(2.0, 5.0, count), 4)
        weights = rng.integers(1, 30, count).astype(float)
        pairs = list(zip(sums.tolist(), weights.tolist()))
        means = sums.tolist()
        # The residuals of a ratio have a mean of 0, so their deviation by numpy is the one about 0.
        ratio = sums.sum() / weights.sum()
        error = np.std(sums - ratio * weights, ddof=1) * np.sqrt(count) / weights.sum() if count > 1 else None
        perplexity = weighted_perplexity(pairs)
        cases.append({
            "pairs": pairs,
            "mean": float(np.mean(means)),
            "mean_error": mean_stderr(means) if count > 1 else None,
            "weighted_perplexity": perplexity,
            "perplexity_error": error * perplexity if count > 1 else None,
            "bits_per_byte": bits_per_byte(pairs),
        })
    return cases


WORDS = {
    "wolf": "wolves", "cat": "cats", "box": "boxes", "child": "children", "mouse": "mice", "knife": "knives", "city": "cities",
    "dog": "dogs", "tooth": "teeth", "bus": "buses", "leaf": "leaves", "man": "men", "tree": "trees", "shelf": "shelves",
}
PROMPT, DELIMITER = "The plural of {word} is", " "


def data():
    words = list(WORDS)
    rows = []
    for at, word in enumerate(words):
        others = [WORDS[words[(at + step) % len(words)]] for step in (3, 7)]
        options = [f"{word}s", WORDS[word], *others, f"{word}é"]
        options = list(dict.fromkeys(options))
        order = rng.permutation(len(options))
        options = [options[int(i)] for i in order]
        rows.append({"id": f"plural-{at}", "word": word, "plural": WORDS[word], "options": options,
                     "right": options.index(WORDS[word]), "sentence": f"One {word}, two {WORDS[word]}. Where  is it?"})
    return rows[4:], rows[:4]


TASKS = {
    "generate": """\
kind = "generate"
data = "questions.jsonl"
id = "id"
prompt = "The plural of {word} is"
target = " {plural}"
max_new_tokens = 8
stop = ["\\n", "."]
""",
    "generate-few": """\
name = "plurals after two examples"
kind = "generate"
data = "questions.jsonl"
id = "id"
prompt = "The plural of {word} is"
target = " {plural}"
max_new_tokens = 8
stop = ["."]
metrics = ["exact_match"]
few_shot = { file = "solved.jsonl", count = 2, separator = ".\\n" }
""",
    "choice": """\
kind = "choice"
data = "questions.jsonl"
id = "id"
prompt = "The plural of {word} is "
choices = "options"
answer = "right"
""",
    "choice-few": """\
kind = "choice"
data = "questions.jsonl"
id = "id"
prompt = "The plural of {word} is "
choices = "options"
answer = "right"
few_shot = { file = "solved.jsonl", count = 3 }
""",
    "loglikelihood": """\
kind = "loglikelihood"
data = "questions.jsonl"
id = "id"
prompt = "The plural of {word} is"
target = " {plural}"
metrics = ["acc", "perplexity"]
""",
    "rolling": """\
kind = "loglikelihood"
data = "questions.jsonl"
id = "id"
target = "{sentence}"
metrics = ["word_perplexity", "byte_perplexity", "bits_per_byte", "token_perplexity", "token_accuracy"]
""",
}


def harness(folder, rows, solved):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(MODEL / "tokenizer.json"), bos_token="<s>", eos_token="</s>")
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    common = {"dataset_path": "json", "test_split": "test", "fewshot_split": "solved",
              "dataset_kwargs": {"data_files": {"test": str(folder / "questions.jsonl"), "solved": str(folder / "solved.jsonl")}}}
    plural = {"doc_to_text": "The plural of {{word}} is", "doc_to_target": "{{plural}}", "target_delimiter": " "}
    first = {"fewshot_config": {"sampler": "first_n"}}
    generate = {"output_type": "generate_until", "metric_list": [{"metric": "exact_match"}], **plural}
    choice = {"output_type": "multiple_choice", "doc_to_choice": "{{options}}", **plural, "doc_to_target": "right",
              "metric_list": [{"metric": name} for name in ("acc", "acc_norm", "acc_bytes")]}
    configs = {
        "generate": {**generate, "generation_kwargs": {"until": ["\n", "."], "max_gen_toks": 8, "do_sample": False},
                     # The text that follows begins with the blank that stands before the target.
                     "doc_to_target": " {{plural}}", "target_delimiter": ""},
        "generate-few": {**generate, "num_fewshot": 2, "fewshot_delimiter": ".\n", **first,
                         "doc_to_target": "{{' ' + plural}}", "target_delimiter": "",
                         "generation_kwargs": {"until": ["."], "max_gen_toks": 8, "do_sample": False}},
        "choice": choice,
        "choice-few": {**choice, "num_fewshot": 3, "fewshot_delimiter": "\n\n", **first},
        # The harness puts no delimiter in front of a target whose likelihood it asks for.
        "loglikelihood": {"output_type": "loglikelihood", **plural, "doc_to_target": " {{plural}}",
                          "metric_list": [{"metric": "acc"}, {"metric": "perplexity"}]},
        "rolling": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{sentence}}",
                    "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")]},
    }
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    expected = {}
    for name, config in configs.items():
        # A rolling likelihood starts from the start token; a tokenizer that adds one would have it scored after itself.
        starts = None if name != "rolling" else False
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu", max_length=128, add_bos_token=starts)
        found = simple_evaluate(model=lm, tasks=[{"task": name, **common, **config}], log_samples=True, bootstrap_iters=0)
        scores = found["results"][name]
        samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
        case = {key.split(",")[0]: value for key, value in scores.items() if "," in key and "stderr" not in key}
        for key, value in list(case.items()):
            if key.startswith("acc") or key == "exact_match":
                values = [float(sample[key]) for sample in samples]
                case[f"{key}_error"] = mean_stderr(values)
        if config["output_type"] == "generate_until":
            answers = [sample["resps"][0][0] for sample in samples]
            case["answers"] = answers
            case["rougeL"] = float(np.mean([
                scorer.score(row["plural"], answer)["rougeL"].fmeasure for row, answer in zip(rows, answers)]))
        else:
            case["log_probabilities"] = [
                [float(response[0][0] if isinstance(response[0], (tuple, list)) else response[0]) for response in sample["resps"]]
                for sample in samples]
        expected[name] = case
    return expected


def main():
    of_texts, of_tasks = Path(sys.argv[1]), Path(sys.argv[2])
    of_texts.mkdir(parents=True, exist_ok=True)
    of_tasks.mkdir(parents=True, exist_ok=True)
    golden = {**texts(), "choices": choices(), "ratios": ratios()}
    (of_texts / "text.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
    rows, solved = data()
    for name, lines in (("questions", rows), ("solved", solved)):
        (of_tasks / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines))
    for name, text in TASKS.items():
        (of_tasks / f"{name}.toml").write_text(text)
    expected = harness(of_tasks, rows, solved)
    (of_tasks / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
