//! Every bad input that a user can give has a message that says what is wrong, where, and what to do.
//!
//! The table in docs/bad-inputs.md is made from these cases: `UPDATE_DOCS=1 cargo test -p s3t-cli --test bad_inputs`.

#[path = "bad_inputs/attacks.rs"]
mod attacks;
#[path = "bad_inputs/chats.rs"]
mod chats;
#[path = "bad_inputs/engines.rs"]
mod engines;
#[path = "bad_inputs/executors.rs"]
mod executors;
#[path = "bad_inputs/ids.rs"]
mod ids;
#[path = "bad_inputs/limits.rs"]
mod limits;
#[path = "bad_inputs/models.rs"]
mod models;
#[path = "bad_inputs/pictures.rs"]
mod pictures;
#[path = "bad_inputs/server.rs"]
mod server;
#[path = "bad_inputs/tasks.rs"]
mod tasks;
#[path = "all/workspace/mod.rs"]
#[allow(dead_code, reason = "this program uses a part of it")]
mod workspace;

use workspace::{Workspace, repository};

struct Case {
    part: &'static str,
    situation: &'static str,
    spoil: fn(&Workspace),
    args: &'static [&'static str],
    code: i32,
    message: &'static str,
}

const PLAN: &[&str] = &["plan", "pipeline.toml"];
const TRAIN: &[&str] = &["train", "pipeline.toml"];

/// A case that shows in `plan`, which reads pipeline, data and model and writes nothing.
const fn planned(part: &'static str, situation: &'static str, spoil: fn(&Workspace), message: &'static str) -> Case {
    Case { part, situation, spoil, args: PLAN, code: 2, message }
}

fn csv(w: &Workspace) {
    w.edit(
        "pipeline.toml",
        "type = \"jsonl\"\nfile = \"train.jsonl\"\nid = \"id\"\nsubject = \"subject\"\nfeatures = \"x\"",
        CSV,
    );
    w.write("train.csv", "name,label,a,b\nr1,class-0,1.0,2.0\nr2,class-1,3.0,4.0\n");
}

const CSV: &str = "type = \"csv\"\nfile = \"train.csv\"\nid = \"name\"\nfeatures = [\"a\", \"b\"]";

fn idx(w: &Workspace, images: &[u8], labels: &[u8]) {
    let idx = "type = \"idx\"\nimages = \"images.idx\"\nlabels = \"labels.idx\"";
    w.edit(
        "pipeline.toml",
        "type = \"jsonl\"\nfile = \"train.jsonl\"\nid = \"id\"\nsubject = \"subject\"\nfeatures = \"x\"",
        idx,
    );
    w.write("images.idx", images);
    w.write("labels.idx", labels);
}

fn folder(w: &Workspace, manifest: &str) {
    let source = "type = \"image-folder\"\nroot = \"images\"\nmanifest = \"list.csv\"\nchannels = 1";
    w.edit(
        "pipeline.toml",
        "type = \"jsonl\"\nfile = \"train.jsonl\"\nid = \"id\"\nsubject = \"subject\"\nfeatures = \"x\"",
        source,
    );
    std::fs::create_dir(w.path("images")).unwrap();
    w.write("images/broken.png", "not a picture");
    w.write("list.csv", manifest);
}

#[cfg(unix)]
fn link(target: &std::path::Path, link: &std::path::Path) {
    std::os::unix::fs::symlink(target, link).unwrap();
}

/// A lock's file, locked.
fn held(path: &std::path::Path) -> std::fs::File {
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
    file.lock().unwrap();
    file
}

fn line(w: &Workspace, number: usize, text: &str) {
    let whole = std::fs::read_to_string(w.path("train.jsonl")).unwrap();
    let mut lines: Vec<&str> = whole.lines().collect();
    lines[number - 1] = text;
    w.write("train.jsonl", lines.join("\n"));
}

fn trained(w: &Workspace) {
    assert_eq!(w.run(TRAIN).code, 0);
}

const IMAGES: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];

fn all_cases() -> impl Iterator<Item = Case> {
    let cases = cases()
        .into_iter()
        .chain(executors::cases())
        .chain(engines::cases())
        .chain(ids::cases())
        .chain(pictures::cases());
    let cases = cases.chain(models::cases()).chain(chats::cases());
    cases.chain(server::cases()).chain(tasks::cases()).chain(attacks::cases())
}

#[rustfmt::skip]
#[expect(clippy::too_many_lines, reason = "one table, one row a line")]
fn cases() -> Vec<Case> {
    vec![
        Case { part: "Pipeline file", situation: "it is not there", spoil: |_| {}, args: &["plan", "nothing.toml"], code: 2,
            message: "cannot read the pipeline file `nothing.toml`: No such file or directory (os error 2); `s3t init` writes one to start from" },
        planned("Pipeline file", "not TOML", |w| w.edit("pipeline.toml", "[model]", "[model"), "pipeline.toml line 4: not valid TOML: "),
        planned("Pipeline file", "unknown section", |w| w.edit("pipeline.toml", "[training]", "[trainning]"),
            "pipeline.toml line 36: unknown key `trainning`; known: seed, device, model, store, data, partition, sequences, peft, training, serving, executor, resources, limits, run, server, attack, compare; did you mean `training`?"),
        planned("Pipeline file", "unknown key", |w| w.edit("pipeline.toml", "epochs = 2", "epoch = 2"),
            "pipeline.toml line 37: `training.epoch`: unknown field `epoch`, expected one of `epochs`, `batch_size`, "),
        planned("Pipeline file", "wrong type", |w| w.edit("pipeline.toml", "epochs = 2", "epochs = \"many\""),
            "pipeline.toml line 37: `training.epochs`: invalid type: string \"many\", expected usize"),
        planned("Pipeline file", "impossible value", |w| w.edit("pipeline.toml", "epochs = 2", "epochs = 0"),
            "pipeline.toml line 37: `training.epochs` is 0; use at least 1"),
        planned("Pipeline file", "negative learning rate", |w| w.edit("pipeline.toml", "0.01", "-0.01"),
            "pipeline.toml line 39: `training.learning_rate` is -0.01; use a number from 1.1754944e-38 to 3.4028235e38"),
        planned("Pipeline file", "missing section", |w| w.edit("pipeline.toml", "[peft]\ntype = \"lora\"\nrank = 2\n", ""),
            "pipeline.toml: the section `[peft]` is missing"),
        planned("Pipeline file", "missing key", |w| w.edit("pipeline.toml", "budget = 2", ""),
            "pipeline.toml line 28: `sequences.budget` is missing"),
        planned("Pipeline file", "unknown precision", |w| w.edit("pipeline.toml", "epochs = 2", "activations = \"fp8\""),
            "pipeline.toml line 37: `training.activations`: unknown variant `fp8`, expected `f32` or `bf16`"),
        planned("Pipeline file", "8-bit weights on another device", |w| w.edit("pipeline.toml", "seed = 1\n\n[model]\n", "seed = 1\ndevice = \"vulkan\"\n\n[model]\nweights = \"int8\"\n"),
            "pipeline.toml line 6: `model.weights` is \"int8\", which is for the device `flex`, and the device is `vulkan`; use \"full\""),
        planned("Pipeline file", "bfloat16 on a device without it", |w| { w.edit("pipeline.toml", "seed = 1\n", "seed = 1\ndevice = \"ndarray\"\n"); w.edit("pipeline.toml", "epochs = 2", "epochs = 2\nprecision = \"bf16\""); },
            "pipeline.toml line 39: `training.precision` is \"bf16\", which the device `ndarray` does not have; use \"f32\", or the device `flex`"),
        planned("Pipeline file", "bfloat16 answers on a device without it", |w| { w.edit("pipeline.toml", "seed = 1\n", "seed = 1\ndevice = \"wgpu\"\n"); w.append("pipeline.toml", "\n[serving]\nprecision = \"bf16\"\n"); },
            "pipeline.toml line 49: `serving.precision` is \"bf16\", which the device `wgpu` does not have; use \"f32\", or the device `flex`"),
        planned("Pipeline file", "unknown form of weights", |w| w.edit("pipeline.toml", "path = \"model\"", "path = \"model\"\nweights = \"int4\""),
            "pipeline.toml line 6: `model.weights`: unknown variant `int4`, expected one of `full`, `int8`, `nf4`"),
        planned("Pipeline file", "unknown PEFT method", |w| w.edit("pipeline.toml", "\"lora\"", "\"lorra\""),
            "pipeline.toml line 33: unknown peft method `lorra`; known: bottleneck, dora, ia3, lora, prefix, prompt, rslora; did you mean `lora`?"),
        planned("Pipeline file", "unknown field of a plugin", |w| w.edit("pipeline.toml", "rank = 2", "rang = 2"),
            "pipeline.toml line 34: unknown field `rang` of peft method `lora`; known: alpha, dropout, rank, targets; did you mean `rank`?"),
        planned("Pipeline file", "field of the wrong type", |w| w.edit("pipeline.toml", "rank = 2", "rank = 2.5"),
            "pipeline.toml line 34: `rank` is 2.5, but it takes a value of type integer"),
        planned("Pipeline file", "field that is no number", |w| w.edit("pipeline.toml", "rank = 2", "rank = 2\nalpha = nan"),
            "pipeline.toml line 35: `alpha` is null or no finite number, but it takes a value of type number"),
        planned("Pipeline file", "scale beyond single precision", |w| w.edit("pipeline.toml", "rank = 2", "rank = 2\nalpha = 1e39"),
            "pipeline.toml line 35: `peft.alpha` is 1e39; use a number from 1.1754944e-38 to 3.4028235e38"),
        planned("Pipeline file", "rank of 0", |w| w.edit("pipeline.toml", "rank = 2", "rank = 0"),
            "pipeline.toml line 34: `peft.rank` is 0; use at least 1"),
        planned("Pipeline file", "rank above the layer's size", |w| w.edit("pipeline.toml", "rank = 2", "rank = 9"),
            "pipeline.toml line 34: `peft.rank` is 9, more than `query` (8 x 8) can have"),
        planned("Pipeline file", "unknown target", |w| w.edit("pipeline.toml", "rank = 2", "rank = 2\ntargets = [\"quary\"]"),
            "pipeline.toml line 35: `peft.targets` holds an unknown target `quary`; known: query, key, value, output, up, down; did you mean `query`?"),
        planned("Pipeline file", "unknown device", |w| w.edit("pipeline.toml", "seed = 1", "device = \"gpu\""),
            "pipeline.toml line 2: unknown device `gpu`; known: flex, ndarray, cuda, cuda:N, vulkan, vulkan:N, wgpu, wgpu:N"),
        planned("Pipeline file", "unknown source of the secret", |w| w.edit("pipeline.toml", "path = \"store\"", "path = \"store\"\nsecret = \"none\""),
            "unknown variant `none`, expected `random` or `from-seed`"),
        planned("Pipeline file", "no shards", |w| w.edit("pipeline.toml", "shards = 2", "shards = 0"),
            "pipeline.toml line 25: `partition.shards` is 0; it takes 1 to 1000000"),
        planned("Pipeline file", "more slices than blocks", |w| w.edit("pipeline.toml", "slices = 2", "slices = 5"),
            "pipeline.toml line 26: `partition.slices` needs 5 blocks for 5 slices but the base model has 4; use at most 4 slices"),
        planned("Pipeline file", "budget above what the strategy can make", |w| w.edit("pipeline.toml", "budget = 2", "budget = 3"),
            "pipeline.toml line 30: strategy `cyclic` cannot make 3 distinct sequences of 2 slices: there are 2; use a budget of 1 to 2"),
        planned("Pipeline file", "prior of the wrong length", |w| w.edit("pipeline.toml", "budget = 2", "budget = 2\nprior = [0.5]"),
            "pipeline.toml line 31: `sequences.prior` has 1 values for 2 slices; give one for each slice"),
        planned("Pipeline file", "prior that is neither numbers nor a file", |w| w.edit("pipeline.toml", "budget = 2", "budget = 2\nprior = true"),
            "pipeline.toml line 31: `sequences.prior` is true; give one probability for each slice, or the name of a CSV file with the columns `subject` and `probability`"),
        planned("Pipeline file", "prior with an impossible probability", |w| { w.edit("pipeline.toml", "budget = 2", "budget = 2\nprior = \"prior.csv\""); w.write("prior.csv", "subject,probability\nsubject-1,0.5\nsubject-2,1.5\n"); },
            "pipeline.toml line 31: `prior.csv` line 3: `1.5` is not a probability; give 0 to 1"),
        planned("Pipeline file", "prior with a subject twice", |w| { w.edit("pipeline.toml", "budget = 2", "budget = 2\nprior = \"prior.csv\""); w.write("prior.csv", "subject,probability\nsubject-1,0.5\nsubject-1,0.2\n"); },
            "pipeline.toml line 31: `prior.csv` line 3: subject `subject-1` has a probability in line 2 already"),
        planned("Pipeline file", "unknown task", |w| w.edit("pipeline.toml", "[data]\n", "[data]\ntask = \"classify\"\n"),
            "unknown task `classify`; known: classification, multi-label, regression, causal-lm"),
        planned("Pipeline file", "name of several classes that holds a separator", |w| { w.edit("pipeline.toml", "[data]\n", "[data]\ntask = \"multi-label\"\n"); w.edit("pipeline.toml", "\"class-1\"", "\"a|b\""); },
            "has the name `a|b`; records of several classes have a list with | between names"),
        planned("Pipeline file", "impossible measure of copies", |w| w.edit("pipeline.toml", "[data]\n", "[data]\nduplicates = { image_distance = 40 }\n"),
            "`data.duplicates`: `image_distance` is 40; it takes 0 to 15 bits"),
        planned("Pipeline file", "labels for a task without classes", |w| w.edit("pipeline.toml", "[data]\n", "[data]\ntask = \"regression\"\n"),
            "`data.labels` is for classes, which `regression` has not"),
        planned("Pipeline file", "language modelling on a model without a language head", |w| { w.edit("pipeline.toml", "labels = [\"class-0\", \"class-1\", \"class-2\"]", "task = \"causal-lm\""); w.write("train.jsonl", "{\"id\": \"a\", \"subject\": \"b\", \"label\": \"yes\", \"x\": [1]}\n"); },
            "`data.task` is `causal-lm`, but the model has no language head; use a model for causal language modelling"),
        planned("Pipeline file", "aggregator of classes for numbers", |w| { w.edit("pipeline.toml", "labels = [\"class-0\", \"class-1\", \"class-2\"]", "task = \"regression\""); w.edit("pipeline.toml", "[store]", "[serving]\naggregator = { type = \"majority-vote\" }\n\n[store]"); },
            "`serving.aggregator` is for classes; for task `regression` use `mean-logits`"),
        planned("Pipeline file", "no memory for texts that are continued", |w| w.edit("pipeline.toml", "[store]", "[serving.generation]\ncache_mb = 0\n\n[store]"),
            "`serving.generation.cache_mb` is 0; it takes 1 to 1048576"),
        planned("Pipeline file", "unknown treatment of a deletion", |w| w.edit("pipeline.toml", "[store]", "[serving.generation]\non_deletion = \"wait\"\n\n[store]"),
            "unknown variant `wait`, expected `stop` or `continue`"),
        planned("Pipeline file", "tokens for a model of images", |w| w.edit("pipeline.toml", "path = \"model\"", "path = \"model\"\nmax_tokens = 64"),
            "`model/config.json`: `max_tokens` is for models of texts, but this is one of images"),
        planned("Pipeline file", "one label only", |w| w.edit("pipeline.toml", "[\"class-0\", \"class-1\", \"class-2\"]", "[\"class-0\"]"),
            "pipeline.toml line 8: the list of labels has 1 entries; give at least two class names"),
        planned("Pipeline file", "unknown kind of data", |w| w.edit("pipeline.toml", "\"jsonl\"", "\"json\""),
            "pipeline.toml line 11: `data.train.type`: unknown variant `json`, expected one of `idx`, `image-folder`, `csv`, `jsonl`"),
        planned("Pipeline file", "unknown key of a data source", |w| w.edit("pipeline.toml", "features = \"x\"", "feature = \"x\""),
            "pipeline.toml line 15: `data.train.feature`: unknown field `feature`, expected one of "),
        planned("Pipeline file", "unknown aggregator", |w| w.edit("pipeline.toml", "[store]", "[serving]\naggregator = { type = \"mean\" }\n\n[store]"),
            "pipeline.toml line 42: unknown aggregator `mean`; known: depth-weighted, majority-vote, mean-logits, mean-probabilities, stage-routed, trimmed-mean"),
        planned("Pipeline file", "weight that is no weight", |w| w.edit("pipeline.toml", "[store]", "[serving]\naggregator = { type = \"depth-weighted\", weights = [1.0, 0.0] }\n\n[store]"),
            "pipeline.toml line 42: aggregator `depth-weighted`: `weights` holds 0; a weight is a number above 0, at most 1000000"),
        planned("Pipeline file", "routing without centroids", |w| w.edit("pipeline.toml", "[store]", "[serving]\naggregator = { type = \"stage-routed\" }\n\n[store]"),
            "pipeline.toml line 42: `stage-routed` needs stages that hold the centroids of their records; set `training.centroid = true`, with a new store"),
        planned("Pipeline file", "temperature of 0", |w| w.edit("pipeline.toml", "[store]", "[serving]\naggregator = { type = \"mean-probabilities\", temperature = 0.0 }\n\n[store]"),
            "pipeline.toml line 42: aggregator `mean-probabilities`: `temperature` is 0; use a number from 0.01 to 100"),
        planned("Pipeline file", "temperature that nothing uses", |w| w.edit("pipeline.toml", "[store]", "[serving]\naggregator = { type = \"depth-weighted\", temperature = 2.0 }\n\n[store]"),
            "pipeline.toml line 42: aggregator `depth-weighted`: `temperature` is for `of = \"probabilities\"`; leave it out, or set `of`"),
        planned("Pipeline file", "unknown choice of members", |w| w.edit("pipeline.toml", "[store]", "[serving]\nmembers = { type = \"all\" }\n\n[store]"),
            "pipeline.toml line 42: unknown choice of members `all`; known: all-live, covering, deepest"),
        planned("Pipeline file", "choice of members that is no table", |w| w.edit("pipeline.toml", "[store]", "[serving]\nmembers = \"all-live\"\n\n[store]"),
            "pipeline.toml line 42: `serving.members` is a table, for example { type = \"all-live\" }"),
        planned("Pipeline file", "field of another choice of members", |w| w.edit("pipeline.toml", "[store]", "[serving]\nmembers = { type = \"deepest\", slack = 1 }\n\n[store]"),
            "pipeline.toml line 42: unknown field `slack` of choice of members `deepest`; known: none"),
        planned("Pipeline file", "slack below 0", |w| w.edit("pipeline.toml", "[store]", "[serving]\nmembers = { type = \"all-live\", slack = -1 }\n\n[store]"),
            "pipeline.toml line 42: choice of members `all-live`: invalid value: integer `-1`, expected usize"),
        planned("Pipeline file", "base model without a head", |w| w.edit("pipeline.toml", "[store]", "[serving]\ndead_shard = \"base\"\n\n[store]"),
            "pipeline.toml line 42: `serving.dead_shard` is `base`, but the model has no head of its own with 3 outputs; use `leave-out`"),

        planned("Data", "file is not there", |w| std::fs::remove_file(w.path("train.jsonl")).unwrap(),
            "cannot read `train.jsonl`: No such file or directory (os error 2)"),
        planned("Data", "a target of another task", |w| w.edit("pipeline.toml", "labels = [\"class-0\", \"class-1\", \"class-2\"]", "task = \"regression\""),
            "`train.jsonl` line 1: `label` is \"class-0\", not a finite number"),
        planned("Data", "a key twice", |w| line(w, 3, r#"{"id": "a", "id": "b", "subject": null, "label": "class-1", "x": [1]}"#),
            "`train.jsonl` line 3: is not valid JSON at column "),
        planned("Data", "a pipe in the place of a file", |w| {
            std::fs::remove_file(w.path("train.jsonl")).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(w.path("train.jsonl")).status().unwrap().success());
        }, "`train.jsonl`: is a pipe or a device, which cannot be read again; give a file"),
        planned("Data", "not JSON", |w| line(w, 3, "{\"id\": "), "`train.jsonl` line 3: is not valid JSON at column 7: "),
        planned("Data", "not UTF-8", |w| w.write("train.jsonl", b"\n{\"id\": \"\xff\"}\n"),
            "`train.jsonl` line 2: is not valid UTF-8; save the file as UTF-8"),
        planned("Data", "unknown label", |w| line(w, 2, r#"{"id": "a", "subject": null, "label": "clas-1", "x": [1]}"#),
            "`train.jsonl` line 2: unknown label `clas-1`; known: class-0, class-1, class-2; did you mean `class-1`?"),
        planned("Data", "no label", |w| line(w, 2, r#"{"id": "a", "subject": null, "x": [1]}"#),
            "`train.jsonl` line 2: unknown column `label`; known: id, subject, x"),
        planned("Data", "duplicate id", |w| line(w, 5, r#"{"id": "record-0", "subject": null, "label": 0, "x": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}"#),
            "`train.jsonl` line 5: record id `record-0` is used in line 1 already; ids must be unique"),
        planned("Data", "not a number", |w| line(w, 2, r#"{"id": "a", "subject": null, "label": 0, "x": ["1"]}"#),
            "`train.jsonl` line 2: `x` holds \"1\", not a finite number"),
        planned("Data", "features of different lengths", |w| line(w, 2, r#"{"id": "a", "subject": null, "label": 0, "x": [1]}"#),
            "`train.jsonl` line 2: has 1 features, but the first record has 16"),
        planned("Data", "no records", |w| w.write("train.jsonl", "\n\n"), "`train.jsonl`: has no records; give one JSON object a line"),
        planned("Data", "record that the model cannot take", csv,
            "record `r1` is a 2 features, but the model takes 4x4x1 images, or 16 finite features as channel, row, column"),
        planned("Data", "missing column", |w| { csv(w); w.edit("train.csv", "name,", "nam,"); },
            "`train.csv` line 2: unknown column `name`; known: a, b, label, nam; did you mean `nam`?"),
        planned("Data", "short line in a table", |w| { csv(w); w.edit("train.csv", "r2,class-1,3.0,4.0", "r2,class-1,3.0"); },
            "`train.csv` line 3: has 3 fields, but the header has 4"),
        planned("Data", "number that is not one in a table", |w| { csv(w); w.edit("train.csv", "3.0", "three"); },
            "`train.csv` line 3: `a` is `three`, not a finite number"),
        planned("Data", "not an IDX file", |w| idx(w, b"hello world", b""),
            "`images.idx`: starts with 68656c6c, but this IDX file must start with 00000803 or 00000804"),
        planned("Data", "truncated IDX file", |w| idx(w, &[IMAGES, &[1, 2, 3]].concat(), &[0, 0, 8, 1, 0, 0, 0, 2, 0, 1]),
            "`images.idx`: is truncated: its header [2, 1, 2] asks for 4 bytes, but 3 follow"),
        planned("Data", "IDX files of different lengths", |w| idx(w, &[IMAGES, &[1, 2, 3, 4]].concat(), &[0, 0, 8, 1, 0, 0, 0, 1, 0]),
            "`images.idx`: has 2 images, but `labels.idx` has 1 labels"),
        planned("Data", "IDX label that is no class", |w| idx(w, &[IMAGES, &[1, 2, 3, 4]].concat(), &[0, 0, 8, 1, 0, 0, 0, 2, 0, 9]),
            "`labels.idx`: label 9 of image 1 is not a class; the classes are 0 to 2"),
        planned("Data", "unreadable image", |w| folder(w, "file,label\nbroken.png,class-0\n"),
            "`list.csv` line 2: cannot read the image `images/broken.png`: "),
        planned("Data", "file outside the image folder", |w| folder(w, "file,label\n../model/config.json,class-0\n"),
            "`list.csv` line 2: `../model/config.json` is not a file below the image folder"),

        planned("Model", "no model", |w| std::fs::remove_dir_all(w.path("model")).unwrap(),
            "cannot read `model/config.json`: No such file or directory (os error 2); a model is a folder with `config.json` and `model.safetensors`"),
        planned("Model", "unsupported type", |w| w.edit("model/config.json", "\"vit\"", "\"gpt2\""),
            "`model/config.json`: unknown model type `gpt2`; known: bert, distilbert, llama, mistral, qwen2, roberta, vit"),
        planned("Model", "unsupported activation", |w| w.edit("model/config.json", "\"gelu\"", "\"mish\""),
            "`model/config.json`: `hidden_act` is `mish`; supported: gelu, gelu_new, gelu_pytorch_tanh, relu, silu"),
        planned("Model", "truncated weights", |w| { let f = std::fs::read(w.path("model/model.safetensors")).unwrap(); w.write("model/model.safetensors", &f[..f.len() - 10]); },
            "`model/model.safetensors` is not a valid safetensors file: "),
        planned("Model", "missing tensors", |w| w.edit("model/config.json", "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5"),
            "`model/model.safetensors` lacks 16 of the model's tensors: `encoder.layer.4.attention.attention.query.weight`, "),
        planned("Model", "tensors left over", |w| w.edit("model/config.json", "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3"),
            "`model/model.safetensors` holds 16 tensors that the model described by config.json has no place for: `encoder.layer.3."),
        planned("Model", "tensor of the wrong shape", |w| w.edit("model/config.json", "\"intermediate_size\": 16", "\"intermediate_size\": 12"),
            "`model/model.safetensors`: tensor `encoder.layer.0.intermediate.dense.weight` is [16, 8], but config.json asks for [12, 8]"),

        Case { part: "Store", situation: "made with other settings", spoil: |w| { trained(w); w.edit("pipeline.toml", "epochs = 2", "epochs = 3"); }, args: TRAIN, code: 6,
            message: "the store `store` was made with `training.epochs` = 2, but the pipeline says 3; give another store path, or use --fresh to delete the store and start again" },
        Case { part: "Store", situation: "made with other precision", spoil: |w| { trained(w); w.edit("pipeline.toml", "epochs = 2", "epochs = 2\nactivations = \"bf16\""); }, args: TRAIN, code: 6,
            message: "the store `store` was made with `training.activations` = its default, but the pipeline says \"bf16\"; give another store path" },
        Case { part: "Store", situation: "not there yet", spoil: |_| {}, args: &["eval", "pipeline.toml"], code: 6,
            message: "there is no store at `store`; `s3t train pipeline.toml` makes it" },
        Case { part: "Store", situation: "folder of something else", spoil: |w| std::fs::create_dir(w.path("store")).unwrap(), args: TRAIN, code: 6,
            message: "`store` is not a store: it has no catalogue.db; `s3t train` makes one" },
        Case { part: "Store", situation: "--fresh on a folder of something else", spoil: |w| std::fs::create_dir(w.path("store")).unwrap(), args: &["train", "pipeline.toml", "--fresh"], code: 2,
            message: "`store` is not a store, so --fresh does not delete it" },
        Case { part: "Store", situation: "flipped bit in the catalogue", spoil: |w| { trained(w); let path = w.path("store/catalogue.db"); let mut f = std::fs::read(&path).unwrap();
            let at = f.windows(10).position(|window| window == b"\"settings\"" || window == b"{\"recipe\":").unwrap(); f[at + 3] ^= 1; std::fs::write(path, f).unwrap(); }, args: TRAIN, code: 6,
            message: "`store/catalogue.db` is damaged: its settings" },
        Case { part: "Store", situation: "of a later program", spoil: |w| { trained(w); let path = w.path("store/catalogue.db"); let mut f = std::fs::read(&path).unwrap();
            // The version is a number in the header of an SQLite file.
            f[60..64].copy_from_slice(&9_u32.to_be_bytes()); std::fs::write(path, f).unwrap(); }, args: TRAIN, code: 6,
            message: "the store `store/catalogue.db` has format 11, but this program reads format 4; use the version that made it, or --fresh to delete the store and start again" },
        Case { part: "Store", situation: "of an earlier program, without a catalogue", spoil: |w| { std::fs::create_dir(w.path("store")).unwrap(); w.write("store/manifest.json", "{\"manifest\": {\"format\": 2}}"); }, args: TRAIN, code: 6,
            message: "the store `store` has format 2, but this program reads format 4" },
        Case { part: "Store", situation: "damaged records that a deletion should erase", spoil: |w| { trained(w); for entry in std::fs::read_dir(w.path("store/records")).unwrap() {
            let path = entry.unwrap().path(); let mut f = std::fs::read(&path).unwrap(); f[40] ^= 1; std::fs::write(path, f).unwrap(); } }, args: &["delete", "pipeline.toml", "--record", "record-0"], code: 6,
            message: "deletion 1 stands, but its erasure is not finished: `store/records/" },
        Case { part: "Store", situation: "a link in the place of one of its files", spoil: |w| { trained(w); let key = w.path("store.keys/store.secret"); std::fs::rename(&key, w.path("aside")).unwrap(); link(&w.path("aside"), &key); }, args: TRAIN, code: 6,
            message: "cannot read the key `store.keys/store.secret`: " },
        Case { part: "Store", situation: "--fresh through a link", spoil: |w| { trained(w); std::fs::rename(w.path("store"), w.path("real")).unwrap(); link(std::path::Path::new("real"), &w.path("store")); }, args: &["train", "pipeline.toml", "--fresh"], code: 6,
            message: "`store` is a link to `real`; the store follows no links" },
        Case { part: "Store", situation: "--fresh where a deletion was accepted", spoil: |w| { trained(w); w.json(&["delete", "pipeline.toml", "--record", "record-1"]); }, args: &["train", "pipeline.toml", "--fresh"], code: 2,
            message: "the store `store` has accepted 1 deletion, and --fresh would train again on what the source of the data holds: if the deleted records are still in it, they come back; take them out, then say --yes" },
        Case { part: "Store", situation: "--fresh with somebody's file in the store", spoil: |w| { trained(w); w.write("store/notes.txt", "mine"); }, args: &["train", "pipeline.toml", "--fresh"], code: 2,
            message: "`store/notes.txt` is in a folder of the store, but not the store's; move it away, then run the command again. Nothing was deleted" },
        Case { part: "Store", situation: "somebody's file where a new store's keys are made", spoil: |w| { std::fs::create_dir(w.path(".unfinished-store.keys")).unwrap(); w.write(".unfinished-store.keys/mine", ""); }, args: TRAIN, code: 2,
            message: "`.unfinished-store.keys/mine` is in a folder of the store, but not the store's" },
        Case { part: "Store", situation: "files that another process has in hand", spoil: |w| { trained(w); w.edit("pipeline.toml", "[store]", "[store]\nwait_seconds = 0"); std::mem::forget(held(&w.path("store/erasing.lock"))); }, args: &["delete", "pipeline.toml", "--record", "record-1"], code: 6,
            message: "deletion 1 stands, but its erasure is not finished: the files of the store `store` are being changed by process " },
        Case { part: "Store", situation: "a mark of a deletion that was changed", spoil: |w| { trained(w); rusqlite::Connection::open(w.path("store/catalogue.db")).unwrap().execute("UPDATE records SET dead = 7", []).unwrap(); }, args: &["delete", "pipeline.toml", "--record", "record-1"], code: 6,
            message: "`store/catalogue.db` is damaged: a record is marked by deletion 7, which is not waiting to be erased" },
        Case { part: "Store", situation: "an export that nobody knows", spoil: trained, args: &["store", "forget-export", "pipeline.toml", "nowhere"], code: 3,
            message: "the store knows of no export at `nowhere`; `s3t status` names those it waits for" },
        Case { part: "Store", situation: "an impossible wait", spoil: |w| { trained(w); w.edit("pipeline.toml", "[store]", "[store]\nwait_seconds = -1"); }, args: TRAIN, code: 2,
            message: "`store.wait_seconds` is -1; it takes 0 to 86400" },
        Case { part: "Store", situation: "a grouping of copies that came after the store", spoil: |w| { trained(w); w.edit("pipeline.toml", "[partition]", "[data.duplicates]\nexact = true\n\n[partition]"); }, args: TRAIN, code: 6,
            message: "the store `store` was made with `data.duplicates.exact` = false, but the pipeline says true; give another store path, or use --fresh" },
        Case { part: "Store", situation: "another column of the subjects", spoil: |w| { trained(w); w.edit("pipeline.toml", "subject = \"subject\"\n", ""); }, args: TRAIN, code: 6,
            message: "the store `store` was made with `data.train.subject` = \"subject\", but the pipeline says its default; " },
        Case { part: "Store", situation: "a log among the store's files", spoil: trained, args: &["--log", "info", "--log-file", "store.keys/store.secret", "status", "pipeline.toml"], code: 2,
            message: "the log `store.keys/store.secret` would be in `" },
        Case { part: "Store", situation: "an empty catalogue", spoil: |w| { trained(w); w.write("store/catalogue.db", ""); }, args: TRAIN, code: 6,
            message: "`store/catalogue.db` is damaged: it is empty, or another program's" },
        Case { part: "Store", situation: "an export inside the store", spoil: trained, args: &["export", "pipeline.toml", "--to", "store/mine"], code: 2,
            message: "the export `store/mine` would be inside `store`, where nothing but the store's own files may be; put it beside that folder" },
        Case { part: "Store", situation: "an invalid checkpoint", spoil: |w| { trained(w); w.write("seen.txt", "hello\n"); }, args: &["audit", "pipeline.toml", "--checkpoint", "seen.txt", "--scope", "lineages"], code: 2,
            message: "`seen.txt`: checkpoint: " },
        Case { part: "Store", situation: "more stages side by side than a process can have", spoil: |w| w.edit("pipeline.toml", "[store]", "[resources]\njobs = 1000000000\n\n[store]"), args: TRAIN, code: 2,
            message: "`resources.jobs` is 1000000000; it takes 0, for one a core, to 1024" },
        Case { part: "Store", situation: "unreadable secret", spoil: |w| { trained(w); w.write("store.keys/store.secret", "secret"); }, args: TRAIN, code: 6,
            message: "`store.keys/store.secret` is damaged: it is not 64 hexadecimal digits with their checksum" },
        Case { part: "Store", situation: "keys that are not there", spoil: |w| { trained(w); std::fs::rename(w.path("store.keys"), w.path("elsewhere")).unwrap(); }, args: TRAIN, code: 6,
            message: "cannot read the key `store.keys/store.secret`" },
        Case { part: "Store", situation: "keys of another store", spoil: |w| { trained(w); w.edit("pipeline.toml", "path = \"store\"", "path = \"other\""); trained(w); w.edit("pipeline.toml", "path = \"other\"", "path = \"store\"\nkeys = \"other.keys\""); }, args: TRAIN, code: 6,
            message: "`other.keys` holds the keys of another store than `store`" },
        Case { part: "Store", situation: "keys without their store", spoil: |w| { trained(w); std::fs::rename(w.path("store"), w.path("moved")).unwrap(); }, args: TRAIN, code: 6,
            message: "`store.keys` holds the keys of a store, but there is none at `store`" },

        Case { part: "Command line", situation: "two lists on one standard input", spoil: |_| {}, args: &["delete", "pipeline.toml", "--records-from", "-", "--subjects-from", "-"], code: 2,
            message: "--records-from and --subjects-from cannot both read standard input; give a file to one of them" },
        Case { part: "Command line", situation: "misspelt subject in `run.delete_subjects`", spoil: |w| { trained(w); w.edit("pipeline.toml", "[\"subject-1\"]", "[\"subjet-1\"]"); }, args: &["run", "pipeline.toml"], code: 3,
            message: "unknown subject `subjet-1`; nothing was deleted" },
        Case { part: "Command line", situation: "test records that the model cannot take", spoil: |w| w.write("test.jsonl", "{\"id\": \"t\", \"label\": \"class-0\", \"x\": [1.0]}\n"), args: TRAIN, code: 2,
            message: "record `t` is a 1 features" },
        Case { part: "Command line", situation: "`--fresh` with data that cannot be read", spoil: |w| { trained(w); w.write("train.jsonl", "broken\n"); }, args: &["train", "pipeline.toml", "--fresh"], code: 2,
            message: "`train.jsonl` line 1: is not valid JSON" },
        Case { part: "Command line", situation: "`--fresh` with test records that the model cannot take", spoil: |w| { trained(w); w.write("test.jsonl", "{\"id\": \"t\", \"label\": \"class-0\", \"x\": [1.0]}\n"); }, args: &["run", "pipeline.toml", "--fresh"], code: 2,
            message: "record `t` is a 1 features" },
        Case { part: "Command line", situation: "`--fresh` with a misspelt subject in `run.delete_subjects`", spoil: |w| { trained(w); w.edit("pipeline.toml", "[\"subject-1\"]", "[\"subjet-1\"]"); }, args: &["run", "pipeline.toml", "--fresh"], code: 2,
            message: "`run.delete_subjects` names the subject `subjet-1`, which is not in the training data" },
        Case { part: "Command line", situation: "nothing named to delete", spoil: trained, args: &["delete", "pipeline.toml"], code: 2,
            message: "nothing to delete; give --record, --subject, --records-from or --subjects-from" },
        Case { part: "Command line", situation: "unknown record", spoil: trained, args: &["delete", "pipeline.toml", "--record", "nobody"], code: 3,
            message: "unknown record `nobody`; nothing was deleted" },
        Case { part: "Command line", situation: "unknown subject", spoil: trained, args: &["delete", "pipeline.toml", "--subject", "nobody"], code: 3,
            message: "unknown subject `nobody`; nothing was deleted" },
        Case { part: "Command line", situation: "deleted before", spoil: |w| { trained(w); w.json(&["delete", "pipeline.toml", "--record", "record-0"]); }, args: &["delete", "pipeline.toml", "--record", "record-0"], code: 3,
            message: "unknown record `record-0`; nothing was deleted. What was deleted before leaves no trace to tell it by" },
        Case { part: "Command line", situation: "request id with a control character", spoil: trained, args: &["delete", "pipeline.toml", "--record", "record-0", "--request-id", "a\tb"], code: 2,
            message: "invalid request id \"a\\tb\": use 1 to 256 bytes without control characters, and nothing that names a person" },
        Case { part: "Command line", situation: "file that is no receipt", spoil: |w| w.write("receipt.json", "{}"), args: &["receipt", "show", "receipt.json"], code: 2,
            message: "`receipt.json`: receipt: has no `format`, so it is no receipt" },
        Case { part: "Command line", situation: "text that is no public key", spoil: |w| { trained(w); w.json(&["delete", "pipeline.toml", "--record", "record-0", "--receipt", "receipt.json"]); }, args: &["receipt", "verify", "receipt.json", "--key", "key"], code: 2,
            message: "not a key: malformed verifier key; a verifier key is one line, NAME+HASH+BASE64" },
        Case { part: "Command line", situation: "id with a control character", spoil: trained, args: &["delete", "pipeline.toml", "--record", "a\tb"], code: 2,
            message: "invalid record id \"a\\tb\": it holds a control character; use 1 to 256 bytes without control characters" },
        Case { part: "Command line", situation: "file of ids that is not there", spoil: trained, args: &["delete", "pipeline.toml", "--records-from", "ids.txt"], code: 2,
            message: "cannot read `ids.txt`: No such file or directory (os error 2)" },
        Case { part: "Command line", situation: "no system to plan", spoil: |_| {}, args: &["plan", "--shards", "5"], code: 2,
            message: "give a pipeline file, or --shards and --slices" },
        Case { part: "Command line", situation: "misspelt strategy", spoil: |_| {}, args: &["simulate", "--shards", "5", "--slices", "4", "--strategy", "cycle"], code: 2,
            message: "unknown sequence strategy `cycle`; known: all, auto, bms, conditional, cyclic, greedy, random, single, sorted-cyclic; did you mean `cyclic`?" },
        Case { part: "Command line", situation: "budget above L!", spoil: |_| {}, args: &["simulate", "--shards", "5", "--slices", "3", "--budget", "7"], code: 2,
            message: "strategy `cyclic` cannot make 7 distinct sequences of 3 slices: there are 6; use a budget of 1 to 6" },
        Case { part: "Command line", situation: "prior that sums to more than 1", spoil: |_| {}, args: &["compare-sequences", "--shards", "5", "--slices", "2", "--prior", "0.7,0.7"], code: 2,
            message: "--prior sums to 1.4; probabilities sum to at most 1" },
        Case { part: "Command line", situation: "prior that is not numbers", spoil: |_| {}, args: &["simulate", "--shards", "5", "--slices", "2", "--prior", "high,low"], code: 2,
            message: "--prior: `high` is not a number; write numbers as in 0.4,0.3,0.2" },
        Case { part: "Command line", situation: "a question without content", spoil: |_| {}, args: &["predict", "--model", "model", "--input", "train.jsonl"], code: 2,
            message: "`train.jsonl` line 1: needs exactly one of `text`, `features`, `image`, `messages`" },
        Case { part: "Command line", situation: "a bare model without a question", spoil: |_| {}, args: &["predict", "--model", "model"], code: 2,
            message: "nothing to answer for; give --input FILE.jsonl or --image FILE" },
        Case { part: "Command line", situation: "an adapter that is not there", spoil: |w| w.write("questions.jsonl", "{\"features\": [1]}\n"), args: &["predict", "--model", "model", "--adapter", "nothing", "--input", "questions.jsonl"], code: 1,
            message: "cannot read `nothing/adapter_config.json`: No such file or directory (os error 2); an adapter is a folder with `adapter_config.json` and `adapter_model.safetensors`" },
        Case { part: "Command line", situation: "a bare model without a head of its own", spoil: |w| w.write("questions.jsonl", "{\"features\": [1]}\n"), args: &["predict", "--model", "model", "--input", "questions.jsonl"], code: 2,
            message: "neither the model nor an adapter has a head, so there are no logits; give --adapter with a head" },
        Case { part: "Command line", situation: "an export over an older one", spoil: |w| { trained(w); std::fs::create_dir(w.path("out")).unwrap(); }, args: &["export", "pipeline.toml", "--to", "out"], code: 2,
            message: "`out` exists already; an export goes to a new folder, so that no older one is taken for it" },
        Case { part: "Command line", situation: "picture of an unknown format", spoil: |_| {}, args: &["simulate", "--shards", "5", "--slices", "2", "--plot", "depth.gif"], code: 2,
            message: "--plot is `depth.gif`; the name must end in .svg or .png" },
        Case { part: "Command line", situation: "picture in a folder that is not there", spoil: |_| {}, args: &["compare-methods", "pipeline.toml", "--plot", "away/methods.svg"], code: 2,
            message: "--plot is `away/methods.svg`, and there is no folder `away`; make it first" },
        Case { part: "Command line", situation: "report in a folder that is not there", spoil: |_| {}, args: &["audit", "pipeline.toml", "--html", "away/audit.html"], code: 2,
            message: "`away/audit.html` cannot be written: there is no folder `away`; make it first" },
        Case { part: "Command line", situation: "recorded stream without its columns", spoil: |w| w.write("trace.csv", "who\nann\n"), args: &["simulate", "--shards", "5", "--slices", "2", "--stream", "trace", "--trace", "trace.csv"], code: 2,
            message: "trace.csv:1: the columns are who; a trace has `shard` and `slice`, or `subject`, or `record`" },
        Case { part: "Command line", situation: "no trials", spoil: |_| {}, args: &["simulate", "--shards", "5", "--slices", "2", "--trials", "0"], code: 2,
            message: "--trials is 0; it takes 1 to 10000000" },
        Case { part: "Command line", situation: "more slices than can be planned", spoil: |_| {}, args: &["plan", "--shards", "2", "--slices", "1000000"], code: 2,
            message: "--slices is 1000000; it takes 1 to 4096" },
        Case { part: "Command line", situation: "fewer records than slices", spoil: |_| {}, args: &["plan", "--shards", "5", "--slices", "6", "--records", "20"], code: 2,
            message: "--records is 20; use at least one for each of 30 slices" },
        Case { part: "Command line", situation: "model flags beside a pipeline file", spoil: |_| {}, args: &["plan", "pipeline.toml", "--blocks", "24"], code: 2,
            message: "the argument '[PIPELINE]' cannot be used with '--blocks <BLOCKS>'" },
        Case { part: "Command line", situation: "upkeep over too many requests", spoil: |_| {}, args: &["plan", "--shards", "2", "--slices", "2", "--requests", "20001"], code: 2,
            message: "--requests is 20001; it takes up to 20000" },
        Case { part: "Command line", situation: "limits that nothing meets", spoil: |_| {}, args: &["advise", "--max-flops", "1"], code: 2,
            message: "--max-flops and --max-megabytes are too tight: none of" },
        Case { part: "Command line", situation: "slices with more records than there are", spoil: |_| {}, args: &["advise", "--records", "50"], code: 2,
            message: "--min-slice-records of 100 leaves no slice of 50 records" },
        Case { part: "Command line", situation: "more given shards than slices can be filled for", spoil: |_| {}, args: &["advise", "--shards", "50001"], code: 2,
            message: "--shards is 50001, but 50000 records are enough for 50000 at most, with 1 to a shard" },
        Case { part: "Command line", situation: "given blocks of a slice that the model does not have", spoil: |_| {}, args: &["advise", "--slices", "2", "--blocks-per-slice", "13"], code: 2,
            message: "--blocks-per-slice is 13, but the model has 12 blocks; use at most that" },
        Case { part: "Command line", situation: "a given budget of no sequence", spoil: |_| {}, args: &["advise", "--budget", "0"], code: 2,
            message: "--budget is 0; use at least 1" },
        Case { part: "Command line", situation: "a given budget that no strategy can make", spoil: |_| {}, args: &["advise", "--slices", "3", "--budget", "7"], code: 2,
            message: "cannot make 7 distinct sequences of 3 slices" },
        Case { part: "Command line", situation: "utilities for another number of slices", spoil: |_| {}, args: &["plan", "--shards", "5", "--slices", "2", "--utility", "0.1,0.9"], code: 2,
            message: "--utility has 2 values; give 3, for depth 0 to 2" },
        Case { part: "Command line", situation: "unknown command", spoil: |_| {}, args: &["forget"], code: 2,
            message: "unrecognized subcommand 'forget'" },
    ]
    .into_iter()
    .chain(limits::cases())
    .collect()
}

#[test]
fn every_bad_input_is_refused_with_its_message() {
    let mut wrong = Vec::new();
    for case in all_cases() {
        let workspace = Workspace::new();
        (case.spoil)(&workspace);
        let had_store = workspace.path("store").exists();
        let ran = workspace.run(case.args);
        if ran.code != case.code || !ran.stderr.contains(case.message) {
            wrong.push(format!(
                "{}: {}\n  exit {} for {}, {}",
                case.part, case.situation, ran.code, case.code, ran.stderr
            ));
        }
        if workspace.path("store").exists() != had_store {
            wrong.push(format!("{}: {}: a store was written", case.part, case.situation));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_documented_table_is_this_one() {
    let mut text = String::from(
        "# Bad inputs\n\nWhat is refused, with which message and which exit code. A message may go on after what is shown.\n\
         This page is made from the tests in `crates/s3t-cli/tests/bad_inputs.rs`, which run every line of it.\n",
    );
    let mut part = "";
    for case in all_cases() {
        if case.part != part {
            part = case.part;
            text.push_str(&format!("\n## {part}\n\n| situation | exit | message |\n|---|---|---|\n"));
        }
        text.push_str(&format!(
            "| {} | {} | {} |\n",
            case.situation,
            case.code,
            case.message.trim().replace('|', "\\|")
        ));
    }
    let page = repository().join("docs/bad-inputs.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(page).unwrap(),
        text,
        "run `UPDATE_DOCS=1 cargo test -p s3t-cli --test bad_inputs`"
    );
}

#[test]
fn a_second_process_that_builds_is_refused() {
    let workspace = Workspace::new();
    trained(&workspace);
    let lock = std::fs::File::create(workspace.path("store/building.lock")).unwrap();
    lock.lock().unwrap();
    let ran = workspace.run(TRAIN);
    assert_eq!(ran.code, 6);
    assert!(ran.stderr.contains("another process is building stages in the store `store`: process "), "{}", ran.stderr);
    // Answers and deletions go on beside it.
    assert_eq!(workspace.run(&["predict", "pipeline.toml"]).code, 0);
    assert_eq!(workspace.run(&["delete", "pipeline.toml", "--record", "record-0"]).code, 0);
}

#[test]
fn devices_that_were_not_compiled_in_are_refused() {
    if cfg!(feature = "cuda") {
        return;
    }
    let workspace = Workspace::new();
    workspace.edit("pipeline.toml", "seed = 1", "device = \"cuda\"");
    let ran = workspace.run(PLAN);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("device `cuda` is not compiled in; build with `--features cuda` or use one of: flex"),
        "{}",
        ran.stderr
    );
}
