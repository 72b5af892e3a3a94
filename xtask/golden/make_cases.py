"""Makes the cases that `crates/s3t-cli/tests/all/golden.rs` asks the program about: files as people have them, each with what Python
gives for it or what a refusal has to name.

    venv/bin/python xtask/golden/make_cases.py [FOLDER]

FOLDER is `crates/s3t-cli/tests/golden` if it is not given. `bases/NAME` is a tiny random model; `NAME` holds the files that a case
puts over its base, and `case.json`: the base, the arguments beside `--model`, and `logits` or `refused`, parts of the message.
Made with the packages of requirements.txt.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import peft
import sweep
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "crates/s3t-cli/tests/golden"
FAMILIES = {family.name: family for family in sweep.FAMILIES}
TWO = [{"text": "the film was good"}, {"text": "a slow story and we saw it twice"}]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"], "task_type": "SEQ_CLS"}
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
         "special_tokens_map.json", "added_tokens.json", "adapter_config.json", "adapter", "questions.jsonl"}


def numbers(rows):
    return [[float(f"{number:.7g}") for number in row] for row in rows]


class Cases:
    def __init__(self, out):
        self.out = out
        shutil.rmtree(out, ignore_errors=True)
        self.bases = {}

    def base(self, name, family, model=None, tokenizer=None, **config):
        """A model of a family, with 2 layers."""
        folder = self.out / "bases" / name
        folder.mkdir(parents=True)
        own = FAMILIES[family]
        torch.manual_seed(len(self.bases))
        made = (model or own.model)(own.config(**{**own.base, "num_hidden_layers": 2, **config}))
        sweep.noise(made, seed=len(self.bases)).save_pretrained(folder)
        (tokenizer or sweep.tokenizer(own)).save(str(folder / "tokenizer.json"))
        self.bases[name] = own
        return name

    def case(self, name, base, questions=TWO, arguments=(), change=None, adapter=None, refused=None, forward=None, limit=None):
        """One case. `change` edits the copied folder; `adapter` is a configuration, or makes one; `forward` gives the logits, as
        Python loads the folder otherwise."""
        family = self.bases[base]
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "model"
            shutil.copytree(self.out / "bases" / base, folder)
            (folder / "questions.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in questions))
            if adapter is not None:
                sweep.make_adapter(family, folder, folder / "adapter", adapter)
                (folder / "adapter/README.md").unlink(missing_ok=True)
                sort_lists(folder / "adapter/adapter_config.json")
            if change:
                change(folder)
            found = {"base": base, "arguments": list(arguments), "adapter": (folder / "adapter").exists()}
            if refused is not None:
                found["refused"] = refused
            elif forward:
                found["logits"] = numbers(forward(folder))
            else:
                found["logits"] = numbers(python(family, folder, questions, found["adapter"], limit))
            self.write(name, folder, found)

    def write(self, name, folder, found):
        target = self.out / name
        target.mkdir()
        origin = self.out / "bases" / found["base"]
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.is_dir() or inside.parts[0] not in FILES:
                continue
            if (origin / inside).exists() and (origin / inside).read_bytes() == path.read_bytes():
                continue
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / inside)
        sweep.write(target / "case.json", found)


def sort_lists(path):
    """The configuration without what differs from run to run: the order of sets, and where the base model was."""
    config = json.loads(path.read_text()) | {"base_model_name_or_path": "base"}
    lists = ("target_modules", "exclude_modules", "feedforward_modules")
    sweep.write(path, {k: sorted(v) if k in lists and isinstance(v, list) else v for k, v in config.items()})


def python(family, folder, questions, adapter, limit):
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    side = (own.truncation or {}).get("direction", "right")
    own.no_truncation(), own.no_padding()
    if limit:
        own.enable_truncation(limit, direction=side)
    model = family.model.from_pretrained(folder, dtype=torch.float32).eval()
    if adapter:
        model = peft.PeftModel.from_pretrained(model, folder / "adapter").eval()
    rows = []
    for question in questions:
        encoded = own.encode(question["text"], question.get("text_pair"))
        inputs = {"input_ids": torch.tensor([encoded.ids]), "attention_mask": torch.ones(1, len(encoded.ids)).long()}
        if family.types:
            inputs["token_type_ids"] = torch.tensor([encoded.type_ids])
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        rows.append((logits[-1] if family.causal else logits).tolist())
    return rows


# Changes of a folder


def edits(file, **changes):
    def change(folder):
        path = folder / file
        if not path.exists():
            path.write_text("{}")
        for name, value in changes.items():
            sweep.edit(path, name, value)
    return change


def weights(edit, file="model.safetensors", dtype=None):
    def change(folder):
        tensors = load_file(folder / file)
        edit(tensors)
        tensors = {name: (tensor.to(dtype) if dtype else tensor).contiguous() for name, tensor in tensors.items()}
        save_file(tensors, folder / file, {"format": "pt"})
    return change


def several(*changes):
    def change(folder):
        for one in changes:
            one(folder)
    return change


def put(tensors, name, function):
    tensors[name] = function(tensors[name])


def rename(tensors, old, new):
    tensors[new] = tensors.pop(old)


def tokenizer(edit):
    def change(folder):
        own = Tokenizer.from_file(str(folder / "tokenizer.json"))
        edit(own)
        own.save(str(folder / "tokenizer.json"))
    return change


def tokenizer_json(edit):
    def change(folder):
        path = folder / "tokenizer.json"
        own = json.loads(path.read_text())
        edit(own)
        path.write_text(json.dumps(own))
    return change


def lora(**more):
    return peft.LoraConfig(**{**LORA, **more})


def patterned():
    """A tokenizer whose pattern other regular expressions read otherwise: word characters, POSIX classes, possessive repeats."""
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "good", "a", "b", "film", "x1", "é", "_", "!", "١", "ab", "²", "ẞ", "-", "k"]
    own = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    pattern = r"[[:alpha:]]++|\b\d\b|[[:punct:]]|\w+?(?=\b)|\s"
    own.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return own


def make_all(out):
    cases = Cases(out)
    case, base = cases.case, cases.base
    tf = transformers
    base("bert", "bert")
    base("roberta", "roberta")
    base("llama", "llama", pad_token_id=None)
    base("llama-causal", "llama-causal", pad_token_id=None)
    base("llama-long", "llama-causal", max_position_embeddings=4096, pad_token_id=None)
    base("bert-masked", "bert", model=tf.BertForMaskedLM)
    base("bert-tokens", "bert", model=tf.BertForTokenClassification)
    base("bert-pattern", "bert", tokenizer=patterned())
    config = "config.json"

    # Fields of config.json
    case("decoder", "bert", change=edits(config, is_decoder=True), refused=["config.json", "`is_decoder` is true", "causal mask"])
    case("not-causal", "llama", change=edits(config, is_causal=False), refused=["`is_causal` is false"])
    case("later-version", "bert", change=edits(config, transformers_version="6.1.0", attention_twist=0.5),
         refused=["`attention_twist`", "6.1.0", "--accept-field"])
    case("later-version-accepted", "bert", change=edits(config, transformers_version="6.1.0", attention_twist=0.5),
         arguments=["--accept-field", "attention_twist"])
    case("unknown-field", "bert", change=edits(config, my_remark="hello"))
    case("auto-map", "bert", change=edits(config, auto_map={"AutoModel": "mine.Model"}), refused=["`auto_map`", "not run"])
    case("quantised", "llama", change=edits(config, quantization_config={"quant_method": "gptq"}), refused=["`quantization_config`"])
    case("two-rope-sections", "llama-causal", change=edits(config, rope_scaling={"type": "linear", "factor": 4.0}),
         refused=["`rope_scaling` and `rope_parameters` disagree"])
    case("old-rope", "llama-causal",
         change=edits(config, rope_parameters=None, rope_theta=50.0, rope_scaling={"type": "linear", "factor": 4.0}))
    case("more-labels", "bert", change=edits(config, id2label={str(i): f"c{i}" for i in range(4)}),
         refused=["`id2label` says 4 outputs", "has 3"])

    # Padding tokens
    pads = [{"text": "the film was good"}, {"text": "the film was good <pad>"}, {"text": "<pad> <pad>"}, {"text": "good <pad> film </s>"}]
    ends = lambda own: setattr(own, "post_processor", sweep.processors.TemplateProcessing(
        single="<s>:0 $A:0 </s>:0", pair="<s>:0 $A:0 </s>:0 $B:1", special_tokens=[("<s>", 1), ("</s>", 2)]))
    case("padding-is-the-end", "llama", pads, change=several(edits(config, pad_token_id=2), tokenizer(ends)))
    case("text-ends-in-padding", "llama", pads, change=edits(config, pad_token_id=3))
    case("padding-in-positions", "roberta", [{"text": "the <pad> film was <pad> good"}, {"text": "good <pad>"}])
    case("padding-before-positions", "roberta", [{"text": "the film was good"}], change=edits(config, pad_token_id=5))

    # Heads of other tasks
    case("head-of-tokens", "bert-tokens", refused=["neither the model nor an adapter has a head"])
    case("head-without-pooler", "bert-tokens", change=edits(config, architectures=None), refused=["`classifier`", "pooler.dense"])
    case("unknown-class", "bert", change=edits(config, architectures=["MyBert"]), refused=["`architectures`", "MyBert"])
    case("adapter-without-pooler", "bert-masked", adapter=lora(), refused=["the adapter has a head", "pooler.dense"])
    case("bias-without-place", "llama", change=weights(lambda t: t.update({"score.bias": torch.ones(3)})),
         refused=["`score.bias`", "no place"])
    case("part-of-a-head", "bert", change=weights(lambda t: t.pop("classifier.bias")), refused=["classifier.weight", "but not `classifier.bias`"])
    case("adapter-of-tokens", "bert", adapter=lora(), change=edits("adapter/adapter_config.json", task_type="TOKEN_CLS"),
         refused=["`task_type`", "TOKEN_CLS", "SEQ_CLS"])
    case("adapter-of-texts-on-classes", "llama", adapter=peft.LoraConfig(r=2, target_modules=["q_proj"]),
         change=edits("adapter/adapter_config.json", task_type="CAUSAL_LM"), refused=["`task_type`", "CAUSAL_LM"])
    case("adapter-of-another-class", "bert", adapter=lora(task_type=None),
         change=edits("adapter/adapter_config.json", auto_mapping={"base_model_class": "BertForQuestionAnswering"}),
         refused=["BertForQuestionAnswering"])

    # Shapes
    query = "bert.encoder.layer.0.attention.self.query"
    case("reshaped", "bert", change=weights(lambda t: put(t, f"{query}.weight", lambda x: x.reshape(8, 32))), refused=[query, "[8, 32]", "[16, 16]"])
    case("transposed", "bert", change=weights(lambda t: put(t, "bert.encoder.layer.0.output.dense.weight", lambda x: x.T)),
         refused=["output.dense.weight", "[24, 16]"])
    case("transposed-head", "bert", change=weights(lambda t: put(t, "classifier.weight", lambda x: x.T)), refused=["classifier"])
    ours = "adapter/adapter_model.safetensors"
    lora_a = f"base_model.model.{query}.lora_A.weight"
    case("transposed-adapter", "bert", adapter=lora(), change=weights(lambda t: put(t, lora_a, lambda x: x.T), ours), refused=[lora_a, "[16, 4]", "[4, 16]"])
    case("transposed-head-of-adapter", "bert", adapter=lora(),
         change=weights(lambda t: put(t, "base_model.model.classifier.weight", lambda x: x.T), ours), refused=["classifier.weight", "[16, 3]"])

    # Numbers
    def spoil(name, value):
        def edit(tensors):
            tensors[name].view(-1)[0] = value
        return edit

    dense = "bert.encoder.layer.1.output.dense.weight"
    case("nan-in-adapter", "bert", adapter=lora(), change=weights(spoil(lora_a.replace("lora_A", "lora_B"), float("nan")), ours),
         refused=["lora_B", "NaN"])
    case("infinite-weight", "bert", change=weights(spoil(dense, 1e6), dtype=torch.float16), refused=[dense, "inf"])
    case("infinite-output", "llama", change=weights(lambda t: put(t, "score.weight", lambda x: torch.full_like(x, 3e38))),
         refused=["record `row-0`", "not finite"])

    # Tokens
    film = [{"text": "the film was bad and slow and not good to watch it was a joy"}]
    left = tokenizer(lambda own: own.enable_truncation(8, direction="left"))
    case("cut-on-the-left", "bert", film, ["--max-tokens", "8"], change=left, limit=8)
    case("cut-on-the-left-by-config", "bert", film, ["--max-tokens", "8"], change=edits("tokenizer_config.json", truncation_side="left"),
         forward=lambda folder: (left(folder), python(FAMILIES["bert"], folder, film, False, 8), several(
             lambda f: shutil.copy(out / "bases/bert/tokenizer.json", f / "tokenizer.json"))(folder))[1])
    case("cut-on-which-side", "bert", film, ["--max-tokens", "8"], change=several(left, edits("tokenizer_config.json", truncation_side="right")),
         refused=["tokenizer_config.json", "`truncation_side`"])
    case("special-tokens-split", "bert", change=edits("tokenizer_config.json", split_special_tokens=True), refused=["`split_special_tokens` is true"])

    def lower(own):
        own["normalizer"] = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}

    case("lower-case", "bert", change=several(tokenizer_json(lower), edits("tokenizer_config.json", do_lower_case=False)),
         refused=["`do_lower_case` is false", "tokenizer.json"])
    case("token-not-special", "bert", change=edits("special_tokens_map.json", cls_token="film"), refused=["special_tokens_map.json", "`cls_token` is `film`"])
    case("other-added-token", "bert", change=edits("tokenizer_config.json", added_tokens_decoder={"2": {"content": "[CLS]", "lstrip": True, "special": True}}),
         refused=["`added_tokens_decoder`", "token 2"])
    case("end-token-not-added", "llama", change=edits("tokenizer_config.json", add_eos_token=True, eos_token="</s>"), refused=["`add_eos_token` is true"])
    more = tokenizer(lambda own: own.add_special_tokens([AddedToken(f"[MORE{i}]", special=True) for i in range(20)]))
    case("one-token-more", "bert", change=more)
    case("text-with-one-token-more", "bert", [{"text": "the [MORE19] film"}], change=more, refused=["[MORE19]", "no embedding"])
    case("patterns", "bert-pattern", [{"text": "good film_x1 b!"}, {"text": "é١ ab² ẞ-k"}, {"text": "a 1 b, x1"}])

    # Lengths
    words = " ".join(sweep.WORDS[index % len(sweep.WORDS)] for index in range(700))
    case("long-text", "llama-long", [{"text": words}])
    case("long-text-within-a-limit", "llama-long", [{"text": words}], ["--max-tokens", "4096"])
    case("text-beyond-the-model", "bert", [{"text": " ".join(["good"] * 60)}], refused=["62 tokens", "at most 48", "--max-tokens"])
    case("prompt-is-not-cut", "llama-long", film, ["--max-tokens", "8"], refused=["prompt", "8 tokens", "not cut"])

    # Pairs and questions
    pairs = [{"text": "the film was good", "text_pair": "we saw it twice"}, {"text": "a slow story", "text_pair": "not old"}]
    for name in ("bert", "roberta", "llama", "llama-causal"):
        case(f"pairs-{name}", name, pairs)
    case("pairs-cut", "bert", pairs, ["--max-tokens", "7"], limit=7)
    case("pair-without-types", "bert", pairs, change=several(edits(config, type_vocab_size=1), weights(lambda t: put(
        t, "bert.embeddings.token_type_embeddings.weight", lambda x: x[:1]))), refused=["type 1", "`type_vocab_size`"])
    case("misspelt-field", "bert", [{"text": "the film was good", "text_pari": "we saw it"}], refused=["line 1", "`text_pari`", "did you mean `text_pair`"])
    case("pair-without-first", "bert", [{"text_pair": "we saw it"}], refused=["`text_pair`", "without `text`"])

    # Tied heads
    tie = edits(config, tie_word_embeddings=True)
    move = weights(lambda t: rename(t, "lm_head.weight", "model.embed_tokens.weight"))
    keep = weights(lambda t: rename(t, "model.embed_tokens.weight", "lm_head.weight"))
    case("tied-without-head", "llama-causal", change=several(tie, move))
    case("tied-with-head-alone", "llama-causal", change=several(tie, keep))
    case("tied-with-both", "llama-causal", change=tie)

    # Adapters
    case("dora-rslora", "bert", adapter=lora(use_dora=True, use_rslora=True))
    case("all-linear", "bert", adapter=lora(target_modules="all-linear"))
    case("all-linear-dora", "bert", adapter=lora(target_modules="all-linear", use_dora=True))
    case("no-layers-named", "bert", adapter=lora(layers_to_transform=[]))
    case("pooler-saved", "bert", adapter=lora(modules_to_save=["classifier", "pooler"]))
    case("ranks", "bert", adapter=lora(rank_pattern={"query": 2, r".*\.1\..*value": 6}))
    case("scales", "llama", adapter=peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS", use_rslora=True,
                                                   alpha_pattern={"v_proj": 3}, rank_pattern={r"layers\.0\..*q_proj": 3}))
    case("regex-targets", "bert", adapter=lora(target_modules=r".*(\.0\..*query|\.1\..*(value|output\.dense))"))
    case("excluded", "bert", adapter=lora(target_modules=["query", "value", "dense"], exclude_modules=["pooler.dense", "value"]))
    case("rank-above-the-layer", "bert", adapter=lora(r=20))
    case("ia3-by-regex", "bert", adapter=peft.IA3Config(target_modules=r".*(key|intermediate\.dense)", feedforward_modules=r".*dense", task_type="SEQ_CLS"))
    case("all-linear-roberta", "roberta", adapter=lora(target_modules="all-linear"))
    case("all-linear-llama", "llama-causal", adapter=peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    bare = lambda t: [rename(t, name, name.replace("model.bert.", "model.")) for name in list(t) if "encoder" in name]
    case("adapter-of-a-bare-model", "bert", adapter=lora(), change=weights(bare, ours), refused=["holds `base_model.model.encoder", "neither in a block"])
    case("saved-module", "bert", adapter=lora(), change=edits("adapter/adapter_config.json", modules_to_save=["LayerNorm"]),
         refused=["`modules_to_save` names `LayerNorm`"])
    case("targets-without-tensors", "bert", adapter=lora(), change=edits("adapter/adapter_config.json", target_modules=["query", "value", "key"]),
         refused=["lacks", "attention.self.key.lora_A.weight", "`target_modules`"])
    case("adapter-in-the-models-folder", "bert", change=edits("adapter_config.json", peft_type="LORA"), refused=["adapter_config.json", "`--adapter`"])
    case("older-added-tokens", "bert", change=edits("added_tokens.json", film=77), refused=["added_tokens.json", "`film` is token 77"])
    case("pissa", "bert", adapter=lora(), change=edits("adapter/adapter_config.json", init_lora_weights="pissa"), refused=["`init_lora_weights`", "pissa"])
    case("adapter-bias", "bert", adapter=lora(bias="all"), refused=["`bias` is \"all\""])
    case("prefix-adapter", "bert", adapter=lora(), change=edits("adapter/adapter_config.json", peft_type="PREFIX_TUNING"),
         refused=["PREFIX_TUNING", "known: IA3, LORA"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    make_all(parser.parse_args().folder)
