"""Makes the golden files: tiny random models written by `transformers`, adapters written by `peft`, and their outputs.

    python -m venv venv && venv/bin/pip install -r xtask/golden/requirements.txt
    venv/bin/python xtask/golden/make.py [FOLDER]
    venv/bin/python xtask/golden/make.py --family plugins/s3t-qwen2/golden.py [FOLDER]

FOLDER is `crates/s3t/tests/golden` if it is not given, and with a family the folder `golden` beside its file. A family's file
defines `make(kit)`, where `kit` is this module: it adds to `kit.FAMILIES` and returns its models. Made with torch 2.15.0,
transformers 5.24.0 and peft 0.21.2.

Each model has a folder of its name with the files of `save_pretrained`, `tokenizer.json` or `preprocessor_config.json`,
and `golden.json`: the inputs, their token ids, the hidden states (what the first layer takes in, then what each layer
gives out, before a final norm), the logits and the pooled outputs. `adapters/NAME` has what peft saves, and the logits
with it. `reference/NAME` has methods that peft lacks, computed here from their definition, under this project's names.
"""

import argparse
import copy
import dataclasses
import importlib.util
import json
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "crates/s3t/tests/golden"
TEXTS = ["good", "the old film was a quiet joy to watch", "Naïve CAFÉ owners loved it!", "we saw it twice"]
CORPUS = [
    "the old film was a quiet joy and we saw it twice",
    "a good story is a joy to watch and to tell",
    "it was not a good film, it was a slow one!",
    "the owner of the cafe loved the film",
    "we watch old films at the cafe, and we talk",
    "nobody saw the story twice, but it was good",
]
PREFIX = 3
TOP_LAYERS = [2, 3]


# Tokenizers


def word_piece():
    # Its vocabulary is put together by hand: the trainer's differs from run to run.
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    counts = Counter(re.findall(r"\w+|[!,]", " ".join(CORPUS)))
    characters = sorted(set("".join(counts)))
    inner = [f"##{piece}" for piece in [*characters, "ed", "er"] if piece.isalpha()]
    words = sorted(counts, key=lambda word: (-counts[word], word))
    tokens = list(dict.fromkeys([*special, *characters, *inner, *words]))[:80]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def byte_level(special, vocab_size, alphabet=(), **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=list(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS + TEXTS, trainer)
    return tokenizer


def roberta_tokenizer():
    mask = AddedToken("<mask>", lstrip=True, special=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = byte_level(["<s>", "<pad>", "</s>", "<unk>", mask], 300, alphabet)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


BEGIN_OF_TEXT = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", 1)])


def llama_byte_level():
    """As Llama 3 has it, with an alphabet of the bytes that occur so that logits stay short."""
    tokenizer = byte_level(["<unk>", "<s>", "</s>"], 80, unk_token="<unk>")
    tokenizer.post_processor = BEGIN_OF_TEXT
    return tokenizer


def llama_byte_fallback():
    """As Llama 2 has it: pieces of words, and a token for every byte of what no piece covers."""
    special = ["<unk>", "<s>", "</s>"]
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=70, special_tokens=special, show_progress=False)
    words.train_from_iterator(CORPUS, trainer)
    pieces = sorted(words.get_vocab(), key=words.token_to_id)
    tokens = special + [f"<0x{byte:02X}>" for byte in range(256)] + pieces[len(special):]
    merges = [tuple(merge) for merge in json.loads(words.to_str())["model"]["merges"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = BEGIN_OF_TEXT
    return tokenizer


# Models


@dataclass
class Family:
    """What differs between model types: names of modules inside a layer."""

    layers_pattern: str
    query_value: list
    linears: list
    up: str
    ia3: dict
    attention: str
    attention_output: str
    feed_forward_output: str
    # Whether a token sees those before it only.
    causal: bool = False
    # Modules of the head that peft does not save by itself.
    head: tuple = ()


BERT = Family(
    layers_pattern="layer",
    query_value=["query", "value"],
    linears=["query", "key", "value", "output.dense", "intermediate.dense"],
    up="intermediate.dense",
    ia3={},
    attention="attention.self",
    attention_output="attention.output.dense",
    feed_forward_output="output.dense",
)
VIT = Family(
    layers_pattern="layers",
    query_value=["q_proj", "v_proj"],
    linears=["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"],
    up="fc1",
    ia3={"target_modules": ["k_proj", "v_proj", "fc2"], "feedforward_modules": ["fc2"]},
    attention="attention",
    attention_output="attention.o_proj",
    feed_forward_output="mlp.fc2",
)
LLAMA = Family(
    layers_pattern="layers",
    query_value=["q_proj", "v_proj"],
    linears=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    up="up_proj",
    ia3={},
    attention="self_attn",
    attention_output="self_attn.o_proj",
    feed_forward_output="mlp.down_proj",
    causal=True,
)
# Of the same modules, with targets for IA3 where peft knows none.
LLAMA_LIKE = dataclasses.replace(
    LLAMA, ia3={"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
)
FAMILIES = {"bert": BERT, "roberta": BERT, "vit": VIT, "llama": LLAMA}


SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 24}


def new_model(seed, model_class, arguments=None, sizes=SIZES, **config):
    """A random model none of whose parameters is zero or one."""
    torch.manual_seed(seed)
    sizes = dict(sizes)
    if model_class.config_class is not transformers.ViTConfig:
        sizes["max_position_embeddings"] = 40
    config = model_class.config_class(**{**sizes, **config})
    config._attn_implementation = "eager"
    model = model_class(config, **(arguments or {})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.requires_grad_(False)


def layers(model):
    base = model.base_model
    for encoder in ("encoder", "transformer"):
        base = getattr(base, encoder, base)
    return base.layer if hasattr(base, "layer") else base.layers


def family(model):
    return FAMILIES[model.config.model_type]


def is_causal_lm(model):
    return type(model).__name__.endswith("ForCausalLM")


def text_inputs(tokenizer, pad):
    """The token ids of each text, each text alone, and all of them as one batch, padded on the right."""
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    longest = max(map(len, ids))
    assert longest + PREFIX < 38, "longer than the model's positions"
    alone = [{"input_ids": torch.tensor([row]), "attention_mask": torch.ones(1, len(row))} for row in ids]
    fill = [longest - len(row) for row in ids]
    batch = {
        "input_ids": torch.tensor([row + [pad] * more for row, more in zip(ids, fill)]),
        "attention_mask": torch.tensor([[1.0] * len(row) + [0.0] * more for row, more in zip(ids, fill)]),
    }
    return ids, alone, batch


def images(model, mean, std):
    """The bytes of two images, rows from the top and channels interleaved, each image alone, and both as one batch."""
    size, channels = model.config.image_size, model.config.num_channels
    pixels = torch.randint(0, 256, (2, size, size, channels))
    values = ((pixels / 255 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)
    return pixels.flatten(1).tolist(), [{"pixel_values": image[None]} for image in values], {"pixel_values": values}


def run(model, inputs):
    """The model's output, what its first layer takes in, and what each layer gives out."""
    states = []
    hooks = [layers(model)[0].register_forward_pre_hook(lambda _layer, inputs: states.append(inputs[0]))]
    for layer in layers(model):
        hooks.append(layer.register_forward_hook(lambda _layer, _inputs, output: states.append(output)))
    output = model(**inputs)
    for hook in hooks:
        hook.remove()
    return output, states


def golden(model, alone, batch):
    """Hidden states, logits and pooled outputs of a batch, which must be those of each record alone."""

    def same(in_batch, by_itself):
        torch.testing.assert_close(in_batch, by_itself, atol=1e-5, rtol=0)
        return numbers(in_batch)

    together, states = run(model, batch)
    result = {"hidden": [], "logits": [], "pooled": []}
    for index, inputs in enumerate(alone):
        single, own_states = run(model, inputs)
        own = slice(0, own_states[0].shape[1])
        result["hidden"].append([same(state[index, own], other[0]) for state, other in zip(states, own_states)])
        if "logits" in single:
            logits = together.logits[index, own] if is_causal_lm(model) else together.logits[index]
            result["logits"].append(same(logits, single.logits[0]))
        if model.config.model_type == "bert" and "pooler_output" in single:
            result["pooled"].append(same(together.pooler_output[index], single.pooler_output[0]))
    return {key: value or None for key, value in result.items()}


def save_image_settings(folder, model, mean, std):
    settings = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": mean,
        "image_processor_type": "ViTImageProcessor",
        "image_std": std,
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": model.config.image_size, "width": model.config.image_size},
    }
    write_json(folder / "preprocessor_config.json", settings, indent=2)


def make_text(folder, model, tokenizer, dtype=torch.float32, cut=None, **save):
    """Writes a text model rounded to `dtype`, a tokenizer that cuts and pads to `cut`, and the outputs without that."""
    pad = model.config.pad_token_id or 0
    ids, alone, batch = text_inputs(tokenizer, pad)
    model.to(dtype).save_pretrained(folder, **save)
    model.float()
    if cut:
        tokenizer.enable_truncation(max_length=cut)
        tokenizer.enable_padding(length=cut, pad_id=pad, pad_token=tokenizer.id_to_token(pad))
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "golden.json", {"inputs": TEXTS, "ids": ids, **golden(model, alone, batch)})
    return alone


def make_vision(folder, model, mean, std):
    pixels, alone, batch = images(model, mean, std)
    model.save_pretrained(folder)
    save_image_settings(folder, model, mean, std)
    write_json(folder / "golden.json", {"pixels": pixels, **golden(model, alone, batch)})
    return alone


# Adapters by peft


def peft_configs(model):
    """The configurations by name."""
    names = family(model)
    head = {"modules_to_save": ["classifier"]} if model.config.model_type == "vit" else {}
    if model.config.model_type != "vit":
        head["task_type"] = "CAUSAL_LM" if is_causal_lm(model) else "SEQ_CLS"
    if names.head and not is_causal_lm(model):
        head["modules_to_save"] = list(names.head)
    top = {"layers_to_transform": TOP_LAYERS}
    pattern = {"layers_pattern": names.layers_pattern}
    small = {"r": 4, "lora_alpha": 8, **head}
    configs = {
        "lora": peft.LoraConfig(target_modules=names.query_value, **top, **small),
        "lora-all": peft.LoraConfig(r=2, lora_alpha=3, target_modules=names.linears, lora_dropout=0.1, **head),
        "rslora": peft.LoraConfig(
            target_modules=names.query_value, use_rslora=True, layers_to_transform=[1, 2, 3], **pattern, **small
        ),
        "dora": peft.LoraConfig(
            target_modules=[*names.query_value, names.up], use_dora=True, **top, **pattern, **small
        ),
        "ia3": peft.IA3Config(**names.ia3, **head),
    }
    if names.head and not is_causal_lm(model):
        configs["lora-part-of-head"] = peft.LoraConfig(
            target_modules=names.query_value, **top, **(small | {"modules_to_save": None})
        )
    # ViT takes no keys and values from outside; those of the other first families show how they are refused.
    if model.config.model_type in ("bert", "roberta", "llama"):
        configs["prefix"] = peft.PrefixTuningConfig(num_virtual_tokens=PREFIX, prefix_projection=False, **head)
    return configs


def make_adapter(folder, seed, base, config, records):
    torch.manual_seed(seed)
    model = peft.get_peft_model(copy.deepcopy(base), config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    # peft writes sets in an order that differs from run to run.
    path = folder / "adapter_config.json"
    saved = json.loads(path.read_text())
    write_json(path, {k: sorted(v) if k.endswith("_modules") and v else v for k, v in saved.items()}, indent=2)
    forward = with_prefix(model) if isinstance(config, peft.PrefixTuningConfig) else model
    write_logits(folder, forward, records, differs_from=base)


def with_prefix(model):
    """What peft does for prefix tuning. It would refuse the classifiers itself, because it passes keys and values on as
    `past_key_values`, which transformers calls `cache` now. The tokens' positions go on behind the prefix: transformers
    takes its length from the cache."""

    def forward(input_ids, attention_mask):
        mask = None
        if model.config.model_type != "llama":
            mask = torch.zeros(1, 1, input_ids.shape[1], PREFIX + input_ids.shape[1])
        output = model.base_model(input_ids=input_ids, attention_mask=mask, cache=model.get_prompt(1))
        if is_causal_lm(model.base_model):
            peft_output = model(input_ids=input_ids, attention_mask=attention_mask)
            torch.testing.assert_close(output.logits, peft_output.logits)
        return output

    return forward


def write_old_names(source, target):
    """A ViT adapter under the names that the modules have in transformers 4 and in the model's own file."""
    renames = [
        ("vit.layers", "vit.encoder.layer"), ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"), ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
    ]
    target.mkdir(parents=True)
    tensors = load_file(source / "adapter_model.safetensors")
    for new, old in renames:
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "adapter_config.json").read_text())
    modules = {new.split(".")[-1]: old.removeprefix("attention.attention.") for new, old in renames[1:]}
    modules["o_proj"] = "output.dense"
    config["target_modules"] = sorted({modules[name] for name in config["target_modules"]})
    write_json(target / "adapter_config.json", config, indent=2)
    shutil.copy(source / "golden.json", target / "golden.json")


# Reference adapters


class Prompted(nn.Module):
    """A layer that sees learnt tokens before its own, and gives out its own only."""

    def __init__(self, layer, tokens, rotary, window):
        super().__init__()
        self.layer, self.tokens, self.rotary, self.window = layer, tokens, rotary, window

    def forward(self, hidden, *_arguments, **_more):
        extended = torch.cat([self.tokens[None], hidden], 1)
        more = {}
        if self.rotary is not None:
            length = extended.shape[1]
            positions = self.rotary(extended, torch.arange(length)[None])
            hidden_keys = torch.zeros(length, length).masked_fill(hides(length, length, self.window), float("-inf"))
            more = {"attention_mask": hidden_keys[None, None], "position_embeddings": positions}
        return self.layer(extended, **more)[:, len(self.tokens):]


def hides(queries, keys, window):
    """The keys that queries may not see: those behind them, and those before their window if there is one."""
    behind = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries + 1)
    return behind if window is None else behind | torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries - window)


def window_of(model, layer):
    """The window of a layer's attention."""
    attention = layer.get_submodule(family(model).attention)
    return getattr(attention, "sliding_window", getattr(model.config, "sliding_window", None))


def prefixed_attention(module, query, key, value, _mask, scaling, sliding_window=None, **_more):
    """Attention that sees the module's `prefix`, keys and values, before those of the tokens."""
    if hasattr(module, "prefix"):
        keys, values = module.prefix
        key, value = torch.cat([keys[None], key], 2), torch.cat([values[None], value], 2)
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).mT * scaling
    if module.is_causal:
        own, all_keys = scores.shape[-2:]
        scores = scores.masked_fill(hides(own, all_keys, sliding_window), float("-inf"))
    mixed = scores.softmax(-1) @ value.repeat_interleave(groups, 1)
    return mixed.transpose(1, 2), None


transformers.AttentionInterface.register("prefixed", prefixed_attention)


def add_bottleneck(model, tensors, placement, size):
    hidden = model.config.hidden_size
    places = {"feed_forward": family(model).feed_forward_output, "attention": family(model).attention_output}
    if placement == "pfeiffer":
        del places["attention"]
    for index in TOP_LAYERS:
        for place, module in places.items():
            down = new_tensor(tensors, index, f"{place}.down.weight", (size, hidden))
            down_bias = new_tensor(tensors, index, f"{place}.down.bias", (size,))
            up = new_tensor(tensors, index, f"{place}.up.weight", (hidden, size))
            up_bias = new_tensor(tensors, index, f"{place}.up.bias", (hidden,))

            def hook(_module, _inputs, y, down=down, down_bias=down_bias, up=up, up_bias=up_bias):
                return y + torch.relu(y @ down.T + down_bias) @ up.T + up_bias

            layers(model)[index].get_submodule(module).register_forward_hook(hook)
    return model


def add_prefix(model, tensors, length):
    config = model.config
    kv_heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = (kv_heads, length, head_dim)
    config._attn_implementation = "prefixed"
    for index in TOP_LAYERS:
        pair = [new_tensor(tensors, index, f"prefix.{name}", shape) for name in ("keys", "values")]
        layers(model)[index].get_submodule(family(model).attention).prefix = pair
    if not family(model).causal:
        return model
    # The tokens' rotary positions go on behind the prefix, which is not rotated itself.
    return lambda input_ids, attention_mask: model(
        input_ids=input_ids, position_ids=length + torch.arange(input_ids.shape[1])[None]
    )


def add_prompt(model, tensors, length):
    rotary = getattr(model.base_model, "rotary_emb", None)
    for index in TOP_LAYERS:
        tokens = new_tensor(tensors, index, "prompt.tokens", (length, model.config.hidden_size))
        layers(model)[index] = Prompted(layers(model)[index], tokens, rotary, window_of(model, layers(model)[index]))
    return model


def new_tensor(tensors, layer, name, shape):
    return tensors.setdefault(f"blocks.{layer}.{name}", 0.5 * torch.randn(shape))


REFERENCES = {
    "bottleneck-houlsby": ({"type": "bottleneck", "size": 3, "placement": "houlsby"}, add_bottleneck),
    "bottleneck-pfeiffer": ({"type": "bottleneck", "size": 3, "placement": "pfeiffer"}, add_bottleneck),
    "prefix": ({"type": "prefix", "length": PREFIX}, add_prefix),
    "prompt": ({"type": "prompt", "length": 3}, add_prompt),
}


def make_reference(folder, seed, base, method, add, records):
    torch.manual_seed(seed)
    tensors = {}
    settings = {key: value for key, value in method.items() if key != "type"}
    forward = add(copy.deepcopy(base), tensors, **settings)
    folder.mkdir(parents=True)
    write_json(folder / "method.json", method, indent=2)
    save_file(tensors, folder / "tensors.safetensors")
    write_logits(folder, forward, records, differs_from=base)


# Files


def numbers(tensor):
    """A flat list with 7 significant digits."""
    return [float(f"{number:.7g}") for number in tensor.detach().flatten().tolist()]


def write_json(path, value, indent=None):
    separators = None if indent else (",", ":")
    path.write_text(json.dumps(value, indent=indent, separators=separators, ensure_ascii=False) + "\n")


def write_logits(folder, forward, records, differs_from):
    logits = [forward(**record).logits[0] for record in records]
    for changed, record in zip(logits, records):
        assert (changed - differs_from(**record).logits[0]).abs().max() > 1e-3, f"{folder} has no effect"
    write_json(folder / "golden.json", {"logits": [numbers(row) for row in logits]})


class Folder:
    """A folder of golden files, with a folder for each model."""

    def __init__(self, out):
        self.out = out

    def fresh(self, name):
        shutil.rmtree(self.out / name, ignore_errors=True)
        (self.out / name).mkdir(parents=True)
        return self.out / name

    def text(self, name, seed, model_class, tokenizer, config, arguments=None, **save):
        model = new_model(seed, model_class, arguments, vocab_size=tokenizer.get_vocab_size(), **config)
        return name, model, make_text(self.fresh(name), model, tokenizer, **save)

    def vision(self, name, seed, mean, std, model_class, config):
        model = new_model(seed, model_class, **config)
        return name, model, make_vision(self.fresh(name), model, mean, std)

    def adapt(self, adapted):
        """Adapters by peft and by definition for each model."""
        for index, (name, model, records) in enumerate(adapted):
            seed = 100 * (index + 1)
            for offset, (method, config) in enumerate(peft_configs(model).items()):
                make_adapter(self.out / name / "adapters" / method, seed + offset, model, config, records)
            for offset, (method, (settings, add)) in enumerate(REFERENCES.items()):
                folder = self.out / name / "reference" / method
                make_reference(folder, seed + 50 + offset, model, settings, add, records)


def make_all(out):
    folder = Folder(out)
    text, vision = folder.text, folder.vision
    tf = transformers
    classes = {"num_labels": 3}
    grey = {"num_channels": 1, "image_size": 6, "patch_size": 2, "qkv_bias": False}
    colour = {"image_size": 28, "patch_size": 14, "hidden_act": "gelu_pytorch_tanh"}
    roberta = {"type_vocab_size": 1, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    grouped = {"num_key_value_heads": 2}
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 16}
    rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    tied = {"tie_word_embeddings": True, "rope_parameters": rope, "num_key_value_heads": 4, "head_dim": 8}
    tied |= {"attention_bias": True, "mlp_bias": True}

    adapted = [
        text("bert-classifier", 1, tf.BertForSequenceClassification, word_piece(), classes),
        text("roberta-classifier", 2, tf.RobertaForSequenceClassification, roberta_tokenizer(), classes | roberta),
        vision("vit-classifier", 3, [0.5], [0.5], tf.ViTForImageClassification, classes | grey),
        text("llama-classifier", 4, tf.LlamaForSequenceClassification, llama_byte_fallback(),
             classes | grouped | {"pad_token_id": 2}),
        text("llama-causal", 5, tf.LlamaForCausalLM, llama_byte_level(), grouped),
    ]
    text("bert-model", 6, tf.BertModel, word_piece(), {"hidden_act": "gelu_new", "intermediate_size": 40}, cut=6)
    text("bert-sharded-bf16", 7, tf.BertForSequenceClassification, word_piece(),
         {"num_labels": 2, "hidden_act": "relu"}, dtype=torch.bfloat16, max_shard_size="6KB")
    text("roberta-model-f16", 8, tf.RobertaModel, roberta_tokenizer(), roberta, {"add_pooling_layer": False},
         dtype=torch.float16)
    vision("vit-model", 9, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], tf.ViTModel, colour)
    text("llama-causal-tied", 10, tf.LlamaForCausalLM, llama_byte_level(), tied)

    folder.adapt(adapted)
    vit = out / "vit-classifier/adapters"
    for method in ("lora", "lora-all"):
        write_old_names(vit / method, vit / f"{method}-old-names")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--family", type=Path, metavar="FILE")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    options = parser.parse_args()
    if options.family:
        spec = importlib.util.spec_from_file_location("family", options.family)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        made = Folder(options.folder or options.family.parent / "golden")
        made.adapt(module.make(sys.modules[__name__], made))
    else:
        make_all(options.folder or DEFAULT_FOLDER)
