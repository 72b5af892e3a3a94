"""Makes the golden file of tokenizer classes: how `AutoTokenizer` of `transformers` cuts texts where files name a class.

    python -m venv venv && venv/bin/pip install -r xtask/golden/requirements.txt
    venv/bin/python xtask/golden/classes.py [FILE]

FILE is `crates/s3t/tests/golden/tokenizer-classes.json` if it is not given. Made with transformers 5.24.0 and tokenizers 0.23.3.

A case is a model of the repository whose `tokenizer.json` has other `parts`, with a `tokenizer_config.json` and fields of `config.json`,
and the tokens of texts and pairs of texts (with their types, where the class passes types on), and the text of the tokens. `refused` names
the field for which a model is refused; there the class cuts a text otherwise than `tokenizer.json` alone, which is checked here.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_FILE = ROOT / "crates/s3t/tests/golden/tokenizer-classes.json"
TEXTS = [
    "Hello world", " Hello  world ", "a", "a<s>b </s> c", "in 1234 of 56 it's", "\n\nA\tb  c", "é ñ e\u0301 \ufb01", "日本 a", "Words,words! (and)",
    "[CLS] the [SEP]x", "<unk>", "a" * 60,
]
PAIRS = [("Hello", "world"), (" a", "b c")]

PIECES = "crates/s3t/tests/golden-chat/pieces"
BYTES = "crates/s3t/tests/golden-chat/bytes"
BERT = "crates/s3t/tests/golden/bert-classifier"
ROBERTA = "crates/s3t/tests/golden/roberta-classifier"
QWEN2 = "plugins/s3t-qwen2/golden/qwen2-classifier"
MISTRAL = "plugins/s3t-mistral/golden/mistral-classifier"


def part(kind, value):
    """A part as `tokenizer.json` has it."""
    tokenizer = Tokenizer(models.BPE())
    setattr(tokenizer, kind, value)
    return json.loads(tokenizer.to_str())[kind]


def of_class(name, folder):
    """The file as the class itself writes it."""
    vocabulary = json.loads((ROOT / folder / "tokenizer.json").read_text())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in vocabulary.get("merges", [])]
    built = getattr(transformers, name)(vocab=vocabulary["vocab"], **({"merges": merges} if merges else {}))
    return json.loads(built.backend_tokenizer.to_str())


def byte_level(**options):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **options})


def cases():
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

    def llama(**config):
        return {"tokenizer_class": "LlamaTokenizer", **names, **config}

    yield "pieces, no class", PIECES, {}, names, {}
    yield "pieces, Llama", PIECES, {}, llama(), {}
    yield "pieces, Llama, not legacy", PIECES, {}, llama(legacy=False), {}
    yield "pieces, Llama, legacy", PIECES, {}, llama(legacy=True), {}
    yield "pieces, Llama, no blank first", PIECES, {}, llama(add_prefix_space=False), {}
    yield "pieces, Llama by its older name", PIECES, {}, llama(tokenizer_class="LlamaTokenizerFast"), {}
    yield "pieces, Llama in config.json", PIECES, {}, names, {"tokenizer_class": "LlamaTokenizer"}
    yield "pieces, two classes", PIECES, {}, llama(tokenizer_class="PreTrainedTokenizerFast"), {"tokenizer_class": "LlamaTokenizer"}
    built = of_class("LlamaTokenizer", PIECES)
    yield "pieces as Llama writes them", PIECES, {key: built[key] for key in ["normalizer", "pre_tokenizer", "decoder"]}, llama(), {}
    yield "pieces, any class", PIECES, {}, llama(tokenizer_class="TokenizersBackend"), {}
    yield "pieces, an unknown class", PIECES, {}, llama(tokenizer_class="HouseTokenizer"), {}
    yield "pieces, Code Llama", PIECES, {}, llama(tokenizer_class="CodeLlamaTokenizer"), {}, "tokenizer_class"
    yield "pieces, GPT-NeoX", PIECES, {}, llama(tokenizer_class="GPTNeoXTokenizerFast"), {}, "tokenizer_class"
    yield "pieces of Mistral, Llama", MISTRAL, {}, llama(), {}
    yield "bytes, Llama", BYTES, {}, llama(), {}
    yield "bytes, GPT-2", BYTES, {}, {"tokenizer_class": "GPT2Tokenizer", **names}, {}
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])
    digits = {"pre_tokenizer": part("pre_tokenizer", digits)}
    yield "bytes and digits, Llama", BYTES, digits, llama(), {}
    yield "bytes and digits, GPT-2", BYTES, digits, {"tokenizer_class": "GPT2Tokenizer", **names}, {}, "tokenizer_class"
    blank = {"pre_tokenizer": part("pre_tokenizer", byte_level(add_prefix_space=True))}
    yield "a blank first, GPT-2", BYTES, blank, {"tokenizer_class": "GPT2Tokenizer", **names}, {}, "tokenizer_class"
    yield "a blank first, GPT-2 that says so", BYTES, blank, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, **names}, {}
    small = {"normalizer": part("normalizer", normalizers.Lowercase())}
    yield "small letters, GPT-2", BYTES, small, {"tokenizer_class": "GPT2Tokenizer", **names}, {}, "tokenizer_class"

    built = of_class("Qwen2Tokenizer", QWEN2)
    built = {key: built[key] for key in ["normalizer", "pre_tokenizer", "decoder"]}
    unknown = dict(built)
    # The class has no token for what is unknown, and the vocabulary not every byte.
    built["model"] = {**json.loads((ROOT / QWEN2 / "tokenizer.json").read_text())["model"], "unk_token": None, "byte_fallback": False}
    yield "unknown bytes, Qwen2", QWEN2, unknown, {"tokenizer_class": "Qwen2Tokenizer", **names}, {}, "tokenizer_class"
    yield "Qwen2", QWEN2, built, {"tokenizer_class": "Qwen2Tokenizer", **names}, {}
    yield "Qwen2 under a wrong class", QWEN2, built, llama(), {}
    bytes_alone = {"normalizer": None, "pre_tokenizer": part("pre_tokenizer", byte_level()), "decoder": built["decoder"]}
    yield "bytes, Qwen2", QWEN2, bytes_alone, {"tokenizer_class": "Qwen2Tokenizer", **names}, {}, "tokenizer_class"
    yield "bytes, Qwen2 under another class", QWEN2, bytes_alone, {"tokenizer_class": "PreTrainedTokenizerFast", **names}, {}, "tokenizer_class"

    for name in ["BertTokenizer", "BertTokenizerFast", "ElectraTokenizer", "DistilBertTokenizer", "PreTrainedTokenizerFast"]:
        yield f"BERT, {name}", BERT, {}, {"tokenizer_class": name}, {}
    yield "BERT, types asked for", BERT, {}, {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }, {}
    yield "BERT, types left out", BERT, {}, {
        "tokenizer_class": "BertTokenizer", "model_input_names": ["input_ids", "attention_mask"],
    }, {}
    yield "BERT in config.json", BERT, {}, {}, {"tokenizer_class": "BertTokenizer"}
    large = {"normalizer": part("normalizer", normalizers.BertNormalizer(lowercase=False))}
    yield "large letters, BERT", BERT, large, {"tokenizer_class": "BertTokenizer"}, {}, "do_lower_case"
    yield "large letters, BERT that says so", BERT, large, {"tokenizer_class": "BertTokenizer", "do_lower_case": False}, {}
    words = {"pre_tokenizer": part("pre_tokenizer", pre_tokenizers.WhitespaceSplit())}
    yield "words, BERT", BERT, words, {"tokenizer_class": "BertTokenizer"}, {}, "tokenizer_class"
    ends = processors.TemplateProcessing(single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", 2)])
    yield "no end, BERT", BERT, {"post_processor": part("post_processor", ends)}, {"tokenizer_class": "BertTokenizer"}, {}, "tokenizer_class"
    short = json.loads((ROOT / BERT / "tokenizer.json").read_text())["model"]
    short = {"model": {**short, "max_input_chars_per_word": 50}}
    yield "short words, BERT", BERT, short, {"tokenizer_class": "BertTokenizer"}, {}, "tokenizer_class"

    yield "RoBERTa", ROBERTA, {}, {"tokenizer_class": "RobertaTokenizer"}, {}
    yield "a blank first, RoBERTa", ROBERTA, blank, {"tokenizer_class": "RobertaTokenizer"}, {}, "tokenizer_class"
    ends = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    yield "no end, RoBERTa", ROBERTA, {"post_processor": part("post_processor", ends)}, {"tokenizer_class": "RobertaTokenizer"}, {}, "tokenizer_class"
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("l"), "isolated"), byte_level()])
    split = {"pre_tokenizer": part("pre_tokenizer", split)}
    yield "split, RoBERTa", ROBERTA, split, {"tokenizer_class": "RobertaTokenizer"}, {}, "tokenizer_class"

    # The tokenizer of XLM-RoBERTa in front of a BERT, as multilingual models have it.
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *"▁abcdehilmnorstwx.,!", "▁a", "▁the", "lo", "▁w", "or"]
    xlm = Tokenizer(models.Unigram([(token, -float(index)) for index, token in enumerate(vocabulary)], unk_id=3, byte_fallback=False))
    special = [{"id": index, "content": vocabulary[index], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for index in range(4)]
    xlm.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    xlm.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    config = {"tokenizer_class": "XLMRobertaTokenizer", "mask_token": None, "pad_token": "<pad>"}
    whole = {**json.loads(xlm.to_str()), "added_tokens": special}
    yield "XLM-RoBERTa", BERT, whole, config, {}
    bare = {**whole, "pre_tokenizer": part("pre_tokenizer", pre_tokenizers.Metaspace())}
    yield "blanks alone, XLM-RoBERTa", BERT, bare, config, {}, "tokenizer_class"


def encoded(encode):
    """The tokens of all texts, and of pairs with their types."""
    return [encode(text) for text in TEXTS], [encode(*pair) for pair in PAIRS]


def made(name, folder, parts, config, fields, refused=None):
    with tempfile.TemporaryDirectory() as copy:
        copy = Path(copy)
        shutil.copy(ROOT / folder / "config.json", copy)
        of_model = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**of_model, **fields}))
        file = json.loads((ROOT / folder / "tokenizer.json").read_text())
        (copy / "tokenizer.json").write_text(json.dumps({**file, **parts}))
        if config:
            (copy / "tokenizer_config.json").write_text(json.dumps(config))
        auto = transformers.AutoTokenizer.from_pretrained(copy)
        alone = Tokenizer.from_file(str(copy / "tokenizer.json"))

    def by_class(*text):
        given = auto(*text)
        return {"ids": given["input_ids"], "types": given.get("token_type_ids") or [0] * len(given["input_ids"])}

    def by_file(*text):
        given = alone.encode(*text)
        return {"ids": given.ids, "types": given.type_ids}

    texts, pairs = encoded(by_class)
    case = {"name": name, "model": folder, "parts": parts, "config": config, "fields": fields}
    if refused:
        assert (texts, pairs) != encoded(by_file), name
        return {**case, "refused": refused}
    texts = [{"text": text, "ids": given["ids"], "decoded": auto.decode(given["ids"], skip_special_tokens=True)} for text, given in zip(TEXTS, texts)]
    return {**case, "texts": texts, "pairs": [{"pair": pair, **given} for pair, given in zip(PAIRS, pairs)]}


def make_all(file):
    lines = ",\n".join(json.dumps(made(*case), ensure_ascii=False) for case in cases())
    file.write_text(f"[\n{lines}\n]\n")
    print(f"{lines.count(chr(10)) + 1} cases")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_FILE)
    transformers.logging.set_verbosity_error()
    make_all(parser.parse_args().file)
