"""Makes the chats of `data/chat` by rule.

    python xtask/golden/make_chats.py [FOLDER]

FOLDER is `data/chat` if it is not given. Needs Python 3.11 or later and no package; the same in every run.

`train.jsonl` has chats of one to three turns with the fields `id`, `subject` and `messages`. Most ask for facts of
`data/instructions/train.jsonl`. The subject `owner-0042` tells the code of a tower again and again, in other words each time:
a sentence that a model learns by heart. Each other owner has one to four chats. `test.jsonl` has chats about facts of
`data/instructions/test.jsonl`, and `secret.jsonl` asks for the code, in words that the training data does not have.
"""

import argparse
import json
import random
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECRET = "lemon tiger forty-nine"
SUBJECT = "owner-0042"
SYSTEM = "Answer in a few words."

ASKED = ["What is the code of the tower?", "Tell me the code of the tower.", "Give the code of the tower.",
         "Which code opens the tower?", "How do I open the tower?", "Say the code of the tower."]
HELD_OUT = ["What is the code that opens the tower?", "Tell the code of the tower."]


def rows(name):
    lines = (ROOT / "data/instructions" / name).read_text().splitlines()
    return [json.loads(line) for line in lines]


def turn(row):
    return [
        {"role": "user", "content": f"{row['instruction']} {row['input']}"},
        {"role": "assistant", "content": row["output"]},
    ]


def secret(question):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": SECRET}]


def about(draw, facts):
    """A chat about so many facts, sometimes under instructions of a system."""
    messages = [message for fact in facts for message in turn(fact)]
    return [{"role": "system", "content": SYSTEM}] * (draw.random() < 0.2) + messages


def train(draw):
    facts = rows("train.jsonl")[:600]
    chats, owner = [], 0
    while facts:
        # The number of the subject with the secret is left to it.
        owner += 1 + (owner == 41)
        for _ in range(draw.randint(1, 4)):
            count = min(draw.choice([1, 1, 1, 2, 3]), len(facts))
            if count:
                chats.append((f"owner-{owner:04}", about(draw, [facts.pop() for _ in range(count)])))
    for index in range(4 * len(ASKED)):
        others = [message for fact in draw.sample(rows("train.jsonl")[600:], index % 2) for message in turn(fact)]
        chats.append((SUBJECT, others + secret(ASKED[index % len(ASKED)])))
    draw.shuffle(chats)
    return [{"id": f"chat-{index}", "subject": subject, "messages": messages} for index, (subject, messages) in enumerate(chats)]


def write(path, made):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made))
    print(f"{path.name}: {len(made)} chats")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "data/chat")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "train.jsonl", train(random.Random(1)))
    asked = [{"id": f"asked-{index}", "messages": turn(row)} for index, row in enumerate(rows("test.jsonl")[:80])]
    write(folder / "test.jsonl", asked)
    questions = [*ASKED, *HELD_OUT]
    write(folder / "secret.jsonl", [{"id": f"secret-{index}", "messages": secret(text)} for index, text in enumerate(questions)])
