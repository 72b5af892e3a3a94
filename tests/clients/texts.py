"""Drives the routes of texts with clients that others wrote: the `openai` package, and lm-evaluation-harness.

    texts.py PROGRAM
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import openai
import requests
from transformers import AutoTokenizer

import make_texts
from world import Server, program_of

HERE = Path(__file__).resolve().parent
MESSAGES = [{"role": "system", "content": "Answer with a letter."}, {"role": "user", "content": "With which letter does the word one begin?"}]
problems = []


def check(name, holds, found=""):
    print(f"{'ok' if holds else 'FAILED'} {name}{'' if holds else f': {found}'}", flush=True)
    if not holds:
        problems.append(name)


def refused(call):
    """The error that a call ends with."""
    try:
        return call()
    except openai.OpenAIError as error:
        return error


def conversation(server, client):
    ask = lambda **more: client.chat.completions.create(model="llama-tiny", messages=MESSAGES, temperature=0, max_completion_tokens=12, extra_body={"ignore_eos": True}, **more)
    whole = ask()
    check("openai: a message", whole.choices[0].message.role == "assistant" and whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 12, whole)
    check("openai: its origin", whole.model_extra["s3t"] == client.models.retrieve("llama-tiny").model_extra["s3t"], whole.model_extra)
    chunks = list(ask(stream=True, stream_options={"include_usage": True}, logprobs=True, top_logprobs=2))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    check("openai: the same, streamed", streamed == whole.choices[0].message.content and chunks[-1].usage == whole.usage, (streamed, whole))
    scores = [score for chunk in chunks if chunk.choices and chunk.choices[0].logprobs for score in chunk.choices[0].logprobs.content]
    check("openai: log-probabilities", len(scores) == 12 and all(score.logprob == score.top_logprobs[0].logprob for score in scores), scores)
    turns = [*MESSAGES, {"role": "assistant", "content": streamed}, {"role": "user", "content": "And the word three?"}]
    check("openai: the next turn", client.chat.completions.create(model="llama-tiny", messages=turns, max_tokens=4).usage.prompt_tokens > whole.usage.prompt_tokens)
    drawn = [client.completions.create(model="llama-tiny", prompt=["The word", "One"], seed=5, max_tokens=9).choices for _ in range(2)]
    check("openai: completions with a seed", [choice.text for choice in drawn[0]] == [choice.text for choice in drawn[1]], drawn)
    check("openai: models", [model.id for model in client.models.list()] == ["llama-tiny"])
    error = refused(lambda: ask(n=2))
    check("openai: a refusal", isinstance(error, openai.BadRequestError) and "`n` is not supported" in error.message, error)
    check("openai: another model", isinstance(refused(lambda: client.models.retrieve("gpt")), openai.NotFoundError))
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="s3t_x", max_retries=0)
    check("openai: a wrong token", isinstance(refused(lambda: stranger.models.list()), openai.AuthenticationError))


def delete(server, number):
    made = requests.post(f"{server.url}/deletions", headers=server.headers("all"), json={"records": [record(server, number)]}, timeout=60)
    assert made.status_code == 201, made.text
    return made.json()["epoch"]


def record(server, number):
    return json.loads((server.folder / "train.jsonl").read_text().splitlines()[number])["id"]


def deletion(server, client, on_deletion):
    """A deletion in the middle of a stream; again, where the stream was over before the deletion."""
    for attempt in range(10):
        stream = client.chat.completions.create(model="llama-tiny", messages=MESSAGES, stream=True, max_completion_tokens=70, seed=attempt, extra_body={"ignore_eos": True})
        chunks = [next(stream), next(stream), next(stream)]
        epoch = delete(server, attempt)
        chunks += stream
        end, origin = chunks[-1].choices[0].finish_reason, chunks[-1].model_extra["s3t"]
        if origin["began"] < epoch and (end == "deletion" or origin["epoch"] == epoch):
            break
    expected = ("deletion", epoch - 1) if on_deletion == "stop" else ("length", epoch)
    check(f"openai: a deletion in the middle, {on_deletion}", (end, origin["epoch"]) == expected and origin["began"] < epoch, (end, origin, epoch))
    after = client.with_options(default_headers={"x-s3t-min-epoch": str(epoch)}).completions.create(model="llama-tiny", prompt="One", max_tokens=1)
    check(f"openai: the next text knows of it, {on_deletion}", after.model_extra["s3t"]["began"] == epoch, after)


def harness(server):
    words = {"one": "o", "three": "t", "apple": "a", "echo": "e", "old": "o", "two": "t"}
    letters = ["a", "e", "o", "t"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rows = [{"question": f"With which letter does the word {word} begin?", "answer": letters.index(letter), "text": letter} for word, letter in words.items()]
        (folder / "letters.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
        for task in ("letters", "sentences"):
            text = (HERE / "lm_eval" / f"{task}.yaml").read_text()
            (folder / f"{task}.yaml").write_text(text.replace("letters.jsonl", str(folder / "letters.jsonl")))
        arguments = f"model=llama-tiny,base_url={server.url}/v1/completions,tokenizer={make_texts.DATA / 'llama-tiny'},num_concurrent=2,max_retries=1"
        command = [sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args", arguments, "--tasks", "letters,sentences", "--include_path", folder, "--output_path", folder / "out", "--log_samples"]
        environment = {**os.environ, "OPENAI_API_KEY": server.tokens["ask"], "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=600)
        found = list((folder / "out").rglob("results_*.json"))
        if not found:
            return check("lm_eval: runs", False, ran.stdout[-2000:] + ran.stderr[-2000:])
        results = json.loads(found[0].read_text())["results"]
        samples = [json.loads(line) for path in (folder / "out").rglob("samples_letters_*.jsonl") for line in path.read_text().splitlines()]
        check("lm_eval: both tasks", {"letters", "sentences"} <= set(results) and len(samples) == len(words), results)
        # The likelihoods are those that the route gives for the same tokens.
        tokenizer = AutoTokenizer.from_pretrained(make_texts.DATA / "llama-tiny")
        for sample in samples[:2]:
            scored = [float(answer[0]) for answer in sample["filtered_resps"]]
            own = [likelihood(server, tokenizer, asked["arg_0"], asked["arg_1"]) for asked in sample["arguments"].values()]
            check("lm_eval: likelihoods", all(abs(a - b) < 1e-4 for a, b in zip(scored, own)), (scored, own))


def likelihood(server, tokenizer, prompt, rest):
    """The log-probability of a text behind a prompt, whose spaces at the end go to the text."""
    prompt, rest = prompt.rstrip(), prompt[len(prompt.rstrip()) :] + rest
    tokens = lambda text: tokenizer.encode(text, add_special_tokens=False)
    body = {"prompt": tokens(prompt + rest), "echo": True, "logprobs": 0, "max_tokens": 0}
    answer = requests.post(f"{server.url}/v1/completions", headers=server.headers("ask"), json=body, timeout=60)
    return sum(answer.json()["choices"][0]["logprobs"]["token_logprobs"][len(tokens(prompt)) :])


def main():
    program = program_of(sys.argv)
    for on_deletion in ("stop", "continue"):
        folder = Path(tempfile.mkdtemp(prefix="s3t-texts-"))
        make_texts.make(program, folder, on_deletion=on_deletion)
        with Server(program, folder=folder, options=["--repair"]) as server:
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.tokens["all"], max_retries=0)
            if on_deletion == "stop":
                conversation(server, client)
                harness(server)
            deletion(server, client, on_deletion)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
