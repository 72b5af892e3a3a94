"""Makes a small Llama and the instruction data that it can be fine-tuned on.

    python -m venv venv && venv/bin/pip install -r xtask/golden/requirements.txt
    venv/bin/python xtask/golden/make_instructions.py [FOLDER]

FOLDER is `data` if it is not given. Made with torch 2.15.0, transformers 5.24.0 and tokenizers 0.23.3. It takes
4 minutes on one core. The data and the tokenizer are the same in every run, and so are the weights on one kind of
processor; on another they differ by rounding.

`llama-tiny` is a `LlamaForCausalLM` of 4 blocks with its byte-level BPE tokenizer. It is pre-trained on sentences and
lists that this script makes from the word lists and rules below: plurals, opposites, past tenses, sums, first and last
letters, numbers of letters, what comes next, and kinds of things. It has never seen an instruction.

`instructions/train.jsonl` and `test.jsonl` ask for the same facts as instructions, with the fields `id`, `subject`,
`instruction`, `input` and `output`. `subject` is the owner of one to four rows, by a seeded draw; no owner is in both
files. Nor is an input of the same task, but for days and months, of which there are too few: there the wording or the
input differs.
"""

import argparse
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "data"
TEMPLATE = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
# The same form for a chat.
CHAT_TEMPLATE = r"""{{- '<s>' }}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {{- message.content + '\n\n' }}
    {%- elif message.role == 'user' %}
        {%- if loop.previtem is defined and loop.previtem.role == 'assistant' %}
            {{- '\n\n' }}
        {%- endif %}
        {{- '### Instruction:\n' + message.content + '\n\n' }}
    {%- else %}
        {{- '### Response:\n' + message.content + '</s>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '### Response:\n' }}
{%- endif %}
"""
MAX_TOKENS = 96
VOCAB = 448
BEGIN, END = 1, 2

# Words and rules

KINDS = {
    "animal": "ant bat bear bee bird camel cat cow crab deer dog duck fish fly fox frog goat goose hen horse lion mouse"
              " ox pig rabbit sheep snake spider swan tiger wolf zebra",
    "fruit": "apple banana berry cherry date fig grape lemon lime mango melon orange peach pear plum",
    "tool": "axe brush drill fork hammer knife ladder nail needle pen pencil rake rope ruler saw spade spoon",
    "clothing": "belt boot cap coat dress glove hat jacket scarf shirt shoe skirt sock tie vest",
    "furniture": "bed bench chair couch desk lamp shelf sofa stool table wardrobe",
    "vehicle": "bike boat bus car cart lorry plane ship sledge taxi train tram truck van",
    "building": "barn castle church cottage factory hotel house library museum palace school shop tower",
    "body part": "arm back chin ear elbow eye finger foot hand head heel knee leg neck nose shoulder thumb toe tooth",
    "plant": "bush cactus daisy fern flower grass ivy lily moss oak palm rose tree tulip vine",
}
ODD_PLURALS = "deer deer fish fish goose geese mouse mice ox oxen sheep sheep foot feet tooth teeth cactus cacti"
OPPOSITES = (
    "hot cold big small tall short fast slow old young good bad happy sad light dark hard soft wet dry full empty"
    " open shut early late high low near far rich poor strong weak thick thin wide narrow deep shallow clean dirty"
    " loud quiet sharp blunt smooth rough sweet sour safe dangerous brave cowardly awake asleep alive dead true false"
    " right wrong first last inside outside above below up down here there always never many few more less day night"
    " morning evening summer winter north south east west top bottom start finish win lose give take push pull buy"
    " sell love hate laugh cry remember forget ask answer come go arrive leave raise lower sit stand begin end pass"
    " fail accept refuse"
)
REGULAR_VERBS = (
    "ask bake call carry chase clean climb close cook copy count cry dance drop end fail fill follow hate help hop"
    " hurry jump kick knock laugh like live look love melt mix move need open paint pass plan plant play pull push"
    " rain reach rest rub save shout skip smile start stay stop study talk tidy touch try turn visit wait walk want"
    " wash watch work"
)
ODD_VERBS = (
    "begin began bite bit blow blew break broke bring brought build built buy bought catch caught come came dig dug"
    " draw drew drink drank drive drove eat ate fall fell feel felt find found fly flew forget forgot freeze froze"
    " give gave go went grow grew hear heard hide hid hold held keep kept know knew leave left lose lost make made"
    " meet met pay paid ride rode ring rang rise rose run ran say said see saw sell sold send sent shake shook sing"
    " sang sit sat sleep slept speak spoke stand stood steal stole sweep swept swim swam take took teach taught tell"
    " told think thought throw threw wake woke wear wore win won write wrote"
)
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBERS = SMALL + [ten + unit for ten in TENS for unit in ["", *(f"-{small}" for small in SMALL[1:10])]]


def pairs(words):
    words = words.split()
    return dict(zip(words[::2], words[1::2]))


def ends_in_consonant_and_y(word):
    return word.endswith("y") and word[-2] not in "aeou"


def plural(noun):
    if ends_in_consonant_and_y(noun):
        return noun[:-1] + "ies"
    if noun in ("knife", "shelf", "wolf"):
        return noun.removesuffix("fe").removesuffix("f") + "ves"
    return noun + ("es" if noun.endswith(("s", "sh", "ch", "x")) else "s")


def past(verb):
    if ends_in_consonant_and_y(verb):
        return verb[:-1] + "ied"
    if verb in ("drop", "hop", "plan", "rub", "skip", "stop"):
        return verb + verb[-1] + "ed"
    return verb + ("d" if verb.endswith("e") else "ed")


def both_ways(couples):
    """Each word with its first partner."""
    result = {}
    for one, other in couples:
        result.setdefault(one, other)
        result.setdefault(other, one)
    return result


@dataclass
class Task:
    """Facts `x: y`, the sentences that state one for pre-training, and the instructions that ask for it.

    `share` of the facts become instructions. If there are `few`, each is asked for in every wording.
    """

    facts: dict
    sentences: list
    instructions: list
    share: float = 1.0
    few: bool = False


def tasks():
    kinds = {noun: kind for kind, nouns in KINDS.items() for noun in nouns.split()}
    plurals = {noun: plural(noun) for noun in kinds} | pairs(ODD_PLURALS)
    pasts = {verb: past(verb) for verb in REGULAR_VERBS.split()} | pairs(ODD_VERBS)
    opposites = both_ways(pairs(OPPOSITES).items())
    words = sorted({*kinds, *pasts, *opposites})
    sums = {f"{SMALL[a]} and {SMALL[b]}": NUMBERS[a + b] for a in range(13) for b in range(13)}
    return {
        "plural": Task(
            plurals,
            ["One {x}, two {y}.", "The plural of {x} is {y}.", "There was one {x}. Now there are many {y}.",
             "Where one {x} is, more {y} come."],
            ["Make the word plural.", "Give the plural.", "Write the word for more than one."],
        ),
        "opposite": Task(
            opposites,
            ["The opposite of {x} is {y}.", "It was not {x}, it was the opposite: {y}.",
             "{x} or {y}? They are opposites.", "What is the opposite of {x}? It is {y}."],
            ["Give the opposite.", "Write the opposite of the word.", "Which word means the opposite?"],
        ),
        "past tense": Task(
            pasts,
            ["Today they {x}, yesterday they {y}.", "The past tense of {x} is {y}.", "We {x} now, as we {y} before.",
             "They {x} every day, and last year they {y} too."],
            ["Put the verb into the past tense.", "Give the past tense.", "Write the word as it was yesterday."],
        ),
        "sum": Task(
            sums,
            ["{x} make {y}.", "The sum of {x} is {y}.", "Add {x}: that is {y}.", "How much is {x}? It is {y}."],
            ["Add the two numbers.", "Give the sum.", "How much is it together?"],
        ),
        "first letter": Task(
            {word: word[0] for word in words},
            ["The first letter of {x} is {y}.", "{x} begins with {y}.", "You spell {x} with {y} in front."],
            ["Give the first letter.", "With which letter does the word begin?"],
            share=0.55,
        ),
        "last letter": Task(
            {word: word[-1] for word in words},
            ["The last letter of {x} is {y}.", "{x} ends in {y}.", "You spell {x} with {y} at the back."],
            ["Give the last letter.", "In which letter does the word end?"],
            share=0.55,
        ),
        "length": Task(
            {word: SMALL[len(word)] for word in words},
            ["The word {x} has {y} letters.", "{x} is {y} letters long.", "Count the letters of {x}: there are {y}."],
            ["Count the letters.", "How many letters does the word have?"],
            share=0.55,
        ),
        "next number": Task(
            dict(zip(NUMBERS, NUMBERS[1:])),
            ["After {x} comes {y}.", "We count {x}, {y}.", "One more than {x} is {y}."],
            ["Which number comes next?", "Add one to the number."],
        ),
        "next day": Task(
            dict(zip(DAYS, DAYS[1:] + DAYS[:1])),
            ["After {x} comes {y}.", "Today is {x}, tomorrow is {y}.", "The day behind {x} is {y}."],
            ["Which day comes next?", "Today is this day. Which day is tomorrow?", "Name the day after this one."],
            few=True,
        ),
        "next month": Task(
            dict(zip(MONTHS, MONTHS[1:] + MONTHS[:1])),
            ["After {x} comes {y}.", "It is {x} now and it will be {y} soon.", "The month behind {x} is {y}."],
            ["Which month comes next?", "It is this month now. Which one is it after that?",
             "Name the month after this one."],
            few=True,
        ),
        "kind": Task(
            kinds,
            ["The kind of {x} is {y}.", "Of all kinds, {x} is {y}.", "What is {x}? It is some kind of {y}.",
             "Every {x} counts as {y}."],
            ["What kind of thing is it?", "Name the kind that the word belongs to.", "Sort the word into its kind."],
        ),
    }


# Text for pre-training


class Writer:
    def __init__(self, all_tasks, seed):
        self.random = random.Random(seed)
        self.facts = [(name, x, y) for name, task in all_tasks.items() for x, y in task.facts.items()]
        # A task of few facts would hardly come up if every fact came up alike.
        self.weights = [len(all_tasks[name].facts) ** -0.5 for name, _, _ in self.facts]
        self.sentences = {name: task.sentences for name, task in all_tasks.items()}
        self.about = {}
        for name, x, y in self.facts:
            self.about.setdefault(x, []).append((name, y))

    def sentence(self, name, x, y):
        return self.random.choice(self.sentences[name]).format(x=x, y=y) + self.random.choice([" ", "\n"])

    def lines(self, name, x, y):
        """A name, a word and the answer, each on a line."""
        head = self.random.choice([f"{name}\n{x}", f"{x}\n{name}", f"{name}: {x}", f"{name} of\n{x}", f"{x}: {name}"])
        return f"{head}\n{y}\n\n"

    def entry(self, _name, x, _y):
        """What there is to say about a word."""
        about = self.random.sample(self.about[x], len(self.about[x]))
        return f"{x}\n" + "".join(f"{name}: {y}\n" for name, y in about) + "\n"

    def piece(self):
        fact = self.random.choices(self.facts, self.weights)[0]
        return self.random.choices([self.sentence, self.lines, self.entry], [4, 4, 2])[0](*fact)


# Instructions


def rows(all_tasks, seed):
    """Two lists of questions, for training and for testing."""
    draw = random.Random(seed)
    train, test = [], []
    for task in all_tasks.values():
        if task.few:
            asked = [(x, wording) for x in task.facts for wording in task.instructions]
        else:
            inputs = draw.sample(list(task.facts), round(task.share * len(task.facts)))
            asked = [(x, draw.choice(task.instructions)) for x in inputs]
        draw.shuffle(asked)
        made = [{"instruction": wording, "input": x, "output": task.facts[x]} for x, wording in asked]
        held_out = round(len(made) / 5)
        test += made[:held_out]
        train += made[held_out:]
    draw.shuffle(train)
    draw.shuffle(test)
    return train, test


def with_owners(made, seed, first_row, first_owner):
    draw = random.Random(seed)
    owners = []
    owner = first_owner
    while len(owners) < len(made):
        owners += [f"owner-{owner:04}"] * draw.randint(1, 4)
        owner += 1
    owners = owners[:len(made)]
    draw.shuffle(owners)
    named = [{"id": f"row-{first_row + i}", "subject": owners[i], **row} for i, row in enumerate(made)]
    return named, owner


# Model


def new_tokenizer(texts):
    special = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", BEGIN)]
    )
    return tokenizer


def new_model(seed):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=96, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=192, max_position_embeddings=128, bos_token_id=BEGIN, eos_token_id=END,
    )
    return transformers.LlamaForCausalLM(config)


def pretrain(model, tokenizer, writer, steps, batch, rate):
    """Texts of `MAX_TOKENS`, each with its begin and its end, of pieces drawn by `writer`."""
    seen = {}

    def text():
        ids = [BEGIN]
        while True:
            piece = writer.piece()
            if piece not in seen:
                seen[piece] = tokenizer.encode(piece, add_special_tokens=False).ids
            if len(ids) + len(seen[piece]) >= MAX_TOKENS:
                return ids + [END] * (MAX_TOKENS - len(ids)), len(ids)
            ids += seen[piece]

    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        texts = [text() for _ in range(batch)]
        ids = torch.tensor([ids for ids, _ in texts])
        # The first end mark counts, the rest is padding.
        targets = torch.tensor([ids[1:end + 1] + [-100] * (MAX_TOKENS - end - 1) for ids, end in texts])
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1} of {steps}, loss {loss.item():.3f}", flush=True)


# Files


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_rows(path, made):
    path.write_text("".join(json.dumps(row) + "\n" for row in made))


def make_all(out, steps, batch, rate):
    all_tasks = tasks()
    train, test = rows(all_tasks, seed=1)
    train, owner = with_owners(train, 2, 0, 0)
    test, _ = with_owners(test, 3, len(train), owner)

    # Its pieces cover the template and the instructions too; the model is not trained on those.
    writer = Writer(all_tasks, seed=4)
    texts = [writer.piece() for _ in range(6000)]
    texts += [TEMPLATE.format(**row) for row in train]
    tokenizer = new_tokenizer(texts)
    longest = max(len(tokenizer.encode(TEMPLATE.format(**row) + row["output"] + "</s>")) for row in train + test)
    assert longest <= MAX_TOKENS, f"a row of {longest} tokens"
    print(f"{len(train)} and {len(test)} rows of up to {longest} tokens")

    instructions = fresh(out / "instructions")
    write_rows(instructions / "train.jsonl", train)
    write_rows(instructions / "test.jsonl", test)
    model = new_model(seed=5)
    pretrain(model, tokenizer, Writer(all_tasks, seed=6), steps, batch, rate)
    folder = fresh(out / "llama-tiny")
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # With more threads the weights would depend on their number.
    torch.set_num_threads(1)
    make_all(parser.parse_args().folder, steps=1400, batch=32, rate=4e-3)
