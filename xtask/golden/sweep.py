"""The field sweep: every field of a model's or adapter's configuration class, beside Python.

    S3T=target/debug/s3t venv/bin/python xtask/golden/sweep.py [--write docs/reproduction/field-sweep.md] [--only NAME]

For each family and each field of its configuration class in `transformers`, and each field of `LoraConfig` and `IA3Config` of
`peft`, a tiny model or adapter is made with another value of the field, its logits are computed in Python, and the program is
asked for the same. It may give the same within 1e-4, or refuse; anything else is a silent difference, of which there must be
none. The fields are taken from the classes, so that a new one of a later version shows up here; beside them stand the names
that code of the library which all models share reads from any configuration.

A value is tried twice: *built*, in a model that Python made with it, and *edited*, in the files of a model that was made without.
Where Python itself refuses a value, or fills weights that are missing with random numbers, only refusing is right.

Needs the packages of requirements.txt. Exits with 1 if there is a silent difference.
"""

import argparse
import copy
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import typing
import warnings
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import peft
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers.activations import ACT2FN

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore")

S3T = os.path.abspath(os.environ.get("S3T", "target/debug/s3t"))
WORDS = "the a film was good bad slow quiet joy story we saw it twice and not old new to watch".split()
TEXTS = ["the film was good", "a slow story and we saw it twice", "the film was good {pad}", "{pad} good film"]
PAIRS = [("the film was good", "we saw it twice")]
SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
LARGEST = 1e-4


@dataclasses.dataclass
class Family:
    """A configuration class with a model class, the sizes of a tiny model, and what its tokenizer is."""

    name: str
    config: type
    model: type
    base: dict
    special: tuple = ()
    single: str = ""
    pair: str = ""
    pad: str = ""
    causal: bool = False
    types: bool = False
    query_value: tuple = ("query", "value")
    up: str = "intermediate.dense"
    blocks: str = "layer"


TEXT = {**SIZES, "max_position_embeddings": 48, "num_labels": 3}
LLAMA = {**TEXT, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
LLAMA_TOKENS = {"special": ("<unk>", "<s>", "</s>", "<pad>"), "single": "<s>:0 $A:0", "pair": "<s>:0 $A:0 $B:1",
                "pad": "<pad>", "query_value": ("q_proj", "v_proj"), "up": "up_proj", "blocks": "layers"}
FAMILIES = [
    Family("bert", transformers.BertConfig, transformers.BertForSequenceClassification, TEXT,
           ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), "[CLS]:0 $A:0 [SEP]:0",
           "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", "[PAD]", types=True),
    Family("roberta", transformers.RobertaConfig, transformers.RobertaForSequenceClassification,
           {**TEXT, "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
           ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), "<s>:0 $A:0 </s>:0", "<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0", "<pad>"),
    Family("llama", transformers.LlamaConfig, transformers.LlamaForSequenceClassification, LLAMA, **LLAMA_TOKENS),
    Family("llama-causal", transformers.LlamaConfig, transformers.LlamaForCausalLM, LLAMA, causal=True, **LLAMA_TOKENS),
    Family("vit", transformers.ViTConfig, transformers.ViTForImageClassification,
           {k: v for k, v in SIZES.items() if k != "vocab_size"} | {"image_size": 8, "patch_size": 4, "num_channels": 3, "num_labels": 3},
           query_value=("q_proj", "v_proj"), up="fc1", blocks="layers"),
]


def families_of_plugins():
    """The families that the file `golden.py` of a plugin or an example adds, by its function `sweep`."""
    root = Path(__file__).resolve().parents[2]
    for path in sorted([*root.glob("plugins/*/golden.py"), *root.glob("examples/*/golden.py")]):
        spec = importlib.util.spec_from_file_location("family", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if hasattr(module, "sweep"):
            FAMILIES.extend(module.sweep(sys.modules[__name__]))


families_of_plugins()


# Models and what they give


def noise(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def tokenizer(family):
    vocab = {token: index for index, token in enumerate([*family.special, *WORDS])}
    made = Tokenizer(models.WordLevel(vocab, unk_token=next(s for s in family.special if "unk" in s.lower())))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(list(family.special))
    special = [(s, vocab[s]) for s in family.special if s in family.pair]
    made.post_processor = processors.TemplateProcessing(single=family.single, pair=family.pair, special_tokens=special)
    return made


def save_inputs(family, folder):
    if family.special:
        tokenizer(family).save(str(folder / "tokenizer.json"))
        rows = [{"text": text.format(pad=family.pad)} for text in TEXTS]
        rows += [{"text": first, "text_pair": second} for first, second in PAIRS]
    else:
        config = json.loads((folder / "config.json").read_text())
        side, channels = config.get("image_size", 8), config.get("num_channels", 3)
        side = side if isinstance(side, int) else side[0]
        write(folder / "preprocessor_config.json", {
            "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": side, "width": side},
            "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
            "image_mean": [0.5] * channels, "image_std": [0.5] * channels})
        generator = torch.Generator().manual_seed(3)
        rows = [{"features": torch.randn(channels * side * side, generator=generator).tolist()} for _ in range(2)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def inputs(family, folder, rows):
    if not family.special:
        config = json.loads((folder / "config.json").read_text())
        side = config.get("image_size", 8)
        side = side if isinstance(side, int) else side[0]
        return [{"pixel_values": torch.tensor(row["features"]).reshape(1, -1, side, side)} for row in rows]
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = []
    for row in rows:
        encoded = made.encode(row["text"], row.get("text_pair"))
        own = {"input_ids": torch.tensor([encoded.ids]), "attention_mask": torch.ones(1, len(encoded.ids)).long()}
        if family.types:
            own["token_type_ids"] = torch.tensor([encoded.type_ids])
        found.append(own)
    return found


def forward(family, model, folder, rows):
    with torch.no_grad():
        found = []
        for own in inputs(family, folder, rows):
            output = model(**own)
            logits = output.logits if hasattr(output, "logits") else output[0]
            found.append((logits[0, -1] if family.causal else logits[0]).tolist())
    return found


class Unusable(Exception):
    """Python refuses, or would fill in random numbers."""


def python_of_model(family, folder, rows):
    config = transformers.AutoConfig.from_pretrained(folder)
    model, info = family.model.from_pretrained(folder, config=config, dtype=torch.float32, output_loading_info=True)
    random = [key for key in info["missing_keys"]] + [str(key) for key in info.get("mismatched_keys", [])]
    if random:
        raise Unusable(f"random numbers for {sorted(random)[0]}")
    return forward(family, model.eval(), folder, rows)


def python_of_adapter(family, folder, adapter, rows):
    base = family.model.from_pretrained(folder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, adapter).eval()
    return forward(family, model, folder, rows)


def ask(folder, adapter=None):
    command = [S3T, "predict", "--model", str(folder), "--input", str(folder / "questions.jsonl"), "--json"]
    command += ["--adapter", str(adapter)] if adapter else []
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode == 0:
        return [answer["logits"] for answer in json.loads(ran.stdout)["predictions"]], None
    message = (ran.stderr or ran.stdout).strip().splitlines()[-1]
    if ran.returncode not in (1, 2, 3):
        message = f"CRASH {ran.returncode}: {message}"
    for place in (adapter, folder):
        message = message.replace(f"{place}/", "")
    return None, message.removeprefix("error: ")


def write(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def edit(path, name, value):
    config = json.loads(path.read_text())
    config[name] = value
    write(path, config)


# Values of fields, from their types and defaults


def plain(value):
    """A value as JSON has it; `None` if it has none."""
    return json.loads(json.dumps(value, default=lambda other: sorted(other) if isinstance(other, set) else str(other)))


def types_of(config_class):
    """The types of a class's fields, whose annotations may be text."""
    names = {"torch": torch, **vars(typing)}
    for base in reversed(config_class.__mro__):
        names |= vars(sys.modules[base.__module__])
    return typing.get_type_hints(config_class, localns=names)


def alternatives(annotation, value):
    """Values of a type other than this one."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return [literal for literal in arguments if literal != value]
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        found = [other for argument in arguments for other in alternatives(argument, value)]
        return found + ([None] if type(None) in arguments and value is not None else [])
    if annotation is bool:
        return [not value] if isinstance(value, bool) else [True, False]
    if annotation is int and isinstance(value, float):
        return []
    if annotation is int and not isinstance(value, bool):
        number = value if isinstance(value, int) else 2
        return [other for other in dict.fromkeys([number * 2, number // 2, number + 1, 1]) if other != value and other >= 0]
    if annotation is float:
        return [0.25, 0.5]
    if annotation is str:
        return ["other"]
    if annotation is list or origin is list:
        return [[1], []]
    if annotation is dict or origin is dict:
        return [{}]
    return []


ROPE = [
    {"rope_type": "default", "rope_theta": 50.0}, {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    {"type": "linear", "factor": 2.0}, {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 8, "rope_theta": 50.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 50.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 50.0},
    {"rope_type": "longrope", "factor": 4.0, "short_factor": [1.0, 1.0], "long_factor": [2.0, 3.0],
     "original_max_position_embeddings": 16, "rope_theta": 50.0},
    {"rope_type": "proportional", "factor": 2.0, "rope_theta": 50.0},
    {"rope_type": "linear", "factor": 4.0, "partial_rotary_factor": 0.5, "rope_theta": 50.0},
    {"rope_type": "default", "type": "linear", "factor": 2.0, "rope_theta": 50.0}, {},
]
# Values with a meaning, where a type says too little. (The fields themselves come from the classes.)
MODEL_VALUES = {
    "hidden_act": [name for name in sorted(ACT2FN) if name != "gelu"],
    "activation": [name for name in sorted(ACT2FN) if name != "gelu"],
    "use_sliding_window": [True, False], "max_window_layers": [0, 2], "dim": [32, 8], "hidden_dim": [32, 12],
    "n_layers": [1, 4], "n_heads": [2, 8, 1],
    "pooler_act": ["relu", "gelu"],
    "architectures": [["BertForTokenClassification"], ["LlamaForTokenClassification"], ["ViTForMaskedImageModeling"], ["MyModel"], None],
    "transformers_version": ["4.40.0", "6.0.0"],
    "dtype": ["float16", "bfloat16", "float32"],
    "torch_dtype": ["float16"],
    "id2label": [{"0": "x", "1": "y", "2": "z"}, {"0": "x", "1": "y"}, {"0": "a", "1": "b", "2": "c", "3": "d"}],
    "label2id": [{"x": 0, "y": 1, "z": 2}],
    "num_labels": [1, 2, 5],
    "problem_type": ["regression", "single_label_classification", "multi_label_classification"],
    "rope_parameters": ROPE, "rope_scaling": ROPE,
    "rope_theta": [50.0, 500000.0], "original_max_position_embeddings": [8],
    "partial_rotary_factor": [0.5, 1.0],
    "per_layer_config": [{"0": {"num_attention_heads": 2}}, {"1": {"hidden_act": "relu"}}],
    "layer_types": [["sliding_attention"] * 3, ["full_attention"] * 3], "sliding_window": [2], "attention_chunk_size": [2],
    "is_causal": [True, False, None], "head_dim": [2, 8], "image_size": [12, [8, 8], [8, 12]], "patch_size": [2, [4, 4], 3],
    "pad_token_id": [0, 1, 2, 5, None], "eos_token_id": [3, [2, 3], None], "num_key_value_heads": [1, 4, None],
    "quantization_config": [{"quant_method": "bitsandbytes", "load_in_8bit": True}], "auto_map": [{"AutoModel": "my.MyModel"}],
    "transformers_weights": ["other.safetensors"], "text_config": [{"hidden_size": 8}], "decoder": [{"hidden_size": 8}],
    "generator": [{"hidden_size": 8}], "text_encoder": [{"hidden_size": 8}], "fusion_config": [{"patch_embeddings": True}],
    "embedding_size": [8], "position_embedding_type": ["relative_key", "absolute"], "pruned_heads": [{"0": [1]}],
    "attn_implementation": ["eager", "sdpa"], "name_or_path": ["somebody/something"], "experts_implementation": ["eager"],
    "tie_last_hidden_states": [True, False], "layer_norm_eps": [1e-3, 0.1], "rms_norm_eps": [1e-3, 0.1],
    "distributed_config": [{"tp_size": 2}], "kernel_config": [{}], "_attn_implementation": ["eager"],
    "classifier_dropout": [0.25], "attention_dropout": [0.25], "intermediate_size": [32, 12], "hidden_size": [32, 8], "num_attention_heads": [2, 8, 1], "vocab_size": [41, 80],
    "num_hidden_layers": [1, 4], "max_position_embeddings": [40, 64], "type_vocab_size": [1, 2, 4], "num_channels": [1, 4],
}


def shared_names():
    """Names that code of the library which all models share reads from a configuration, whatever its class."""
    root = Path(transformers.__file__).parent
    files = [root / name for name in ("configuration_utils.py", "masking_utils.py", "modeling_layers.py", "modeling_rope_utils.py",
                                      "modeling_utils.py", "cache_utils.py")]
    files += [path for family in {family.config.__module__.split(".")[-2] for family in FAMILIES} for path in (root / "models" / family).glob("modeling_*.py")]
    names = {"text_config", "decoder", "generator", "text_encoder", "rope_scaling", "quantization_config", "auto_map",
             "position_embedding_type", "pruned_heads", "is_encoder_decoder"}
    for path in files:
        text = path.read_text()
        names |= set(re.findall(r"(?:getattr|hasattr)\((?:\w+\.)*(?:config|decoder_config|text_config), ?[\"'](\w+)[\"']", text))
        names |= set(re.findall(r"kwargs\.(?:pop|get)\(\s*[\"'](\w+)[\"']", text)) if path.name in (
            "configuration_utils.py", "modeling_rope_utils.py") else set()
    # Arguments of methods that read files, not fields of a file.
    arguments = {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token", "proxies", "code_revision",
                 "_from_auto", "_from_pipeline", "_commit_hash", "return_unused_kwargs", "trust_remote_code", "gguf_file",
                 "repo_id", "push_to_hub", "use_auth_token", "user_agent", "base_model_tp_plan", "_configuration_file", "dtype",
                 "_is_quantized", "_attn_implementation_internal", "_experts_implementation_internal"}
    return sorted(names - arguments)


def model_fields(family):
    """Every field with the values to try."""
    known = {field.name: field for field in dataclasses.fields(family.config)}
    hints = types_of(family.config)
    default = family.config(**family.base)
    found = {}
    for name in [*known, *[name for name in shared_names() if name not in known]]:
        value = getattr(default, name, None)
        values = MODEL_VALUES.get(name)
        if values is None:
            values = alternatives(hints.get(name, str), value) if name in known else [True, 2]
        found[name] = [other for other in values if plain(other) != plain(value) or name not in known]
    return found


def adapter_values(family):
    query, value = family.query_value
    return {
        "peft_type": ["IA3", "LORA", "ADALORA"], "task_type": [task.value for task in peft.TaskType] + [None],
        "auto_mapping": [{"base_model_class": "BertForTokenClassification", "parent_library": "transformers.models"}],
        "target_modules": [[query], [query, value, family.up], f".*{query}|.*{value}", rf".*\.[01]\..*{value}", "all-linear",
                           ["dense"], [f"{family.blocks}.1.attention.self.query"], [query, "classifier"]],
        "exclude_modules": [[value], f".*{value}", rf".*\.0\..*"],
        "feedforward_modules": [[], [family.query_value[1]], f".*{value}"],
        "r": [1, 8, 40], "lora_alpha": [1, 32], "lora_dropout": [0.3], "bias": ["all", "lora_only"],
        "modules_to_save": [None, ["classifier"], ["score"], ["classifier", "pooler"], ["LayerNorm"]],
        "init_lora_weights": [False, "gaussian", "orthogonal", "pissa", "pissa_niter_2", "olora", "eva", "corda", "loftq", "mica", "lora_ga"],
        "layers_to_transform": [[], [1], 0, [0, 2], [7]],
        "layers_pattern": ["other", [family.blocks], family.blocks],
        "rank_pattern": [{query: 2}, {rf".*\.1\..*{value}": 6}, {"nothing": 3}],
        "alpha_pattern": [{query: 2}, {rf".*\.1\..*{value}": 30}],
        "trainable_token_indices": [[1, 2]], "target_parameters": [["weight"]], "layer_replication": [[[0, 2], [1, 3]]],
        "megatron_config": [{"a": 1}], "loftq_config": [{"loftq_bits": 8}], "eva_config": [{"rho": 1.5}], "corda_config": [{}],
        "lora_ga_config": [{}], "velora_config": [{"num_groups": 2}], "alora_invocation_tokens": [[5], []],
        "monteclora_config": [{}], "runtime_config": [{"ephemeral_gpu_offload": True}],
        "use_bdlora": [{"nblocks": 2, "match_strict": False, "target_modules_bd_a": [query]}], "arrow_config": [{"top_k": 1}],
        "kasa_config": [{}], "peft_version": ["0.10.0", "1.0.0"], "base_model_name_or_path": ["somebody/something"],
        "qalora_group_size": [8], "revision": ["main"],
    }


def adapter_fields(family, config_class):
    hints = types_of(config_class)
    values, found = adapter_values(family), {}
    default = config_class()
    for field in dataclasses.fields(config_class):
        value = getattr(default, field.name)
        found[field.name] = values.get(field.name) or alternatives(hints[field.name], value) or [True]
    return found


# The sweep


@dataclasses.dataclass
class Result:
    table: str
    field: str
    value: object
    way: str
    python: str
    verdict: str
    detail: str


VERDICTS = ["equal", "refused by name", "refused", "both refuse", "accepted, Python refuses", "SILENT"]


def judge(table, field, value, way, expected, problem, found, message):
    """One of `VERDICTS`."""
    detail = message or ""
    if message and message.startswith("CRASH"):
        verdict = "SILENT"
    elif expected is None:
        if found is None:
            verdict = "both refuse"
        elif problem.startswith("random numbers"):
            verdict = "SILENT"
        else:
            verdict = "accepted, Python refuses"
    elif found is None:
        verdict = "refused by name" if field in message else "refused"
    else:
        apart = [abs(x - y) if y is not None else float("inf") for a, b in zip(expected, found, strict=True) for x, y in zip(a, b, strict=True)]
        same = all(len(a) == len(b) for a, b in zip(expected, found))
        largest = max(apart, default=0.0)
        verdict, detail = ("equal" if same and largest <= LARGEST else "SILENT"), f"{largest:.1e}"
    return Result(table, field, value, way, problem or "", verdict, detail)


def attempt(function, *arguments):
    try:
        found = function(*arguments)
        if not all(torch.isfinite(torch.tensor(row)).all() for row in found):
            return None, "not finite"
        return found, ""
    except Unusable as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001
        return None, f"{type(error).__name__}: {error}"[:120]


def build(family, folder, **config):
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(1)
    noise(family.model(family.config(**{**family.base, **config}))).save_pretrained(folder)
    return save_inputs(family, folder)


def sweep_models(results, only):
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as root:
            plain_folder, folder = Path(root) / "plain", Path(root) / "model"
            build(family, plain_folder)
            for field, values in [("nothing", [None]), *model_fields(family).items()]:
                if only and only not in (field, family.name):
                    continue
                for value in values:
                    for way in ("built", "edited"):
                        if field == "nothing" and way == "edited":
                            continue
                        try:
                            if way == "built":
                                rows = build(family, folder, **({} if field == "nothing" else {field: value}))
                            else:
                                shutil.rmtree(folder, ignore_errors=True)
                                shutil.copytree(plain_folder, folder)
                                rows = save_inputs(family, folder)
                        except Exception:  # noqa: BLE001
                            continue  # Python does not build it; the edited files are still tried.
                        if field != "nothing":
                            edit(folder / "config.json", field, plain(value))
                        if not family.special:
                            try:
                                rows = save_inputs(family, folder) if way == "built" else rows
                            except Exception:  # noqa: BLE001
                                pass
                        expected, problem = attempt(python_of_model, family, folder, rows)
                        found, message = ask(folder)
                        name = f"{family.name}: {family.config.__name__}"
                        results.append(judge(name, field, plain(value), way, expected, problem, found, message))
                        show(results[-1])


def make_adapter(family, base_folder, folder, config):
    shutil.rmtree(folder, ignore_errors=True)
    base = family.model.from_pretrained(base_folder, dtype=torch.float32)
    torch.manual_seed(2)
    model = noise(peft.get_peft_model(base, copy.deepcopy(config)), seed=5)
    model.save_pretrained(folder)


def sweep_adapters(results, only):
    for family in FAMILIES:
        query, value_module = family.query_value
        task = {"task_type": "CAUSAL_LM" if family.causal else "SEQ_CLS"} if family.special else {"modules_to_save": ["classifier"]}
        bases = {
            peft.LoraConfig: {"r": 4, "lora_alpha": 8, "target_modules": [query, value_module], **task},
            peft.IA3Config: {"target_modules": [query, value_module, family.up], "feedforward_modules": [family.up], **task},
        }
        combined = [{"use_dora": True, "use_rslora": True}, {"use_rslora": True, "rank_pattern": {query: 2}},
                    {"use_dora": True, "rank_pattern": {query: 2}, "alpha_pattern": {value_module: 20}},
                    {"layers_to_transform": [1], "layers_pattern": family.blocks},
                    {"target_modules": "all-linear", "use_dora": True},
                    {"target_modules": [query, value_module, family.up], "exclude_modules": [query], "rank_pattern": {family.up: 3}}]
        with tempfile.TemporaryDirectory() as root:
            base_folder, plain_folder, folder = Path(root) / "base", Path(root) / "plain", Path(root) / "adapter"
            rows = build(family, base_folder)
            for config_class, base in bases.items():
                make_adapter(family, base_folder, plain_folder, config_class(**copy.deepcopy(base)))
                tried = [(name, {name: value}) for name, values in adapter_fields(family, config_class).items() for value in values]
                if config_class is peft.LoraConfig:
                    tried += [(" + ".join(several), several) for several in combined]
                for name, changes in [("nothing", {}), *tried]:
                    if only and only not in (name, family.name, config_class.__name__):
                        continue
                    for way in ("built", "edited"):
                        if way == "built":
                            try:
                                make_adapter(family, base_folder, folder, config_class(**copy.deepcopy({**base, **changes})))
                            except Exception:  # noqa: BLE001
                                continue
                        else:
                            shutil.rmtree(folder, ignore_errors=True)
                            shutil.copytree(plain_folder, folder)
                            for field, value in changes.items():
                                edit(folder / "adapter_config.json", field, plain(value))
                        expected, problem = attempt(python_of_adapter, family, base_folder, folder, rows)
                        found, message = ask(base_folder, folder)
                        table = f"{family.name}: {config_class.__name__}"
                        value = plain(changes.get(name, changes))
                        results.append(judge(table, name, value, way, expected, problem, found, message))
                        show(results[-1])


def show(result):
    if result.verdict in ("SILENT", "accepted, Python refuses") or os.environ.get("VERBOSE"):
        value = json.dumps(result.value)[:70]
        print(f"{result.verdict}: {result.table} `{result.field}` {value} {result.way}; {result.python} {result.detail}"[:300], flush=True)


# The page


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def page(results):
    lines = [
        "# Field sweep", "",
        "Every field of the configuration classes beside Python: made by `xtask/golden/sweep.py` (`cargo xtask golden --sweep`)",
        f"with transformers {transformers.__version__}, peft {peft.__version__} and torch {torch.__version__.split('+')[0]}.", "",
        "A tiny model or adapter with each value gives the logits of Python within 1e-4 (*equal*), or is refused; anything else is a",
        "silent difference. *Both refuse*: Python refuses too, or would fill in random numbers. *Python refuses*: a value that Python",
        "itself does not take, and that changes nothing here.", "",
        "| class | fields | values | equal | refused | both refuse | Python refuses | silent differences |", "|---|---|---|---|---|---|---|---|",
    ]
    by_table = defaultdict(list)
    for result in results:
        by_table[result.table].append(result)
    for table, own in by_table.items():
        count = lambda *verdicts: sum(result.verdict in verdicts for result in own)
        lines.append(f"| {table} | {len({result.field for result in own})} | {len(own)} | {count('equal')} | "
                     f"{count('refused', 'refused by name')} | {count('both refuse')} | {count('accepted, Python refuses')} | {count('SILENT')} |")
    silent = sum(result.verdict == "SILENT" for result in results)
    lines += ["", f"Silent differences: {silent}."]
    for table, own in by_table.items():
        lines += ["", f"## {table}", "", "| field | values | result |", "|---|---|---|"]
        by_field = defaultdict(lambda: defaultdict(list))
        for result in own:
            by_field[result.field][result.verdict].append(result)
        for field, verdicts in by_field.items():
            for verdict, several in verdicts.items():
                values = list(dict.fromkeys(f"`{json.dumps(result.value)[:60]}`" for result in several))
                shown = ", ".join(values[:6]) + (f" and {len(values) - 6} more" if len(values) > 6 else "")
                text = "Python refuses" if verdict == "accepted, Python refuses" else verdict
                if verdict.startswith("refused"):
                    text = f"refused: {several[0].detail[:140]}"
                lines.append(f"| `{field}` | {cell(shown)} | {cell(text)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only", help="one field, family or class")
    parser.add_argument("--part", choices=["models", "adapters"])
    arguments = parser.parse_args()
    results = []
    if arguments.part != "adapters":
        sweep_models(results, arguments.only)
    if arguments.part != "models":
        sweep_adapters(results, arguments.only)
    counts = {verdict: sum(result.verdict == verdict for result in results) for verdict in VERDICTS}
    print(", ".join(f"{verdict}: {count}" for verdict, count in counts.items()))
    if arguments.write:
        arguments.write.write_text(page(results))
    sys.exit(counts["SILENT"] > 0 or not counts["equal"])


if __name__ == "__main__":
    main()
