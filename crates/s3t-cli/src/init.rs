//! `s3t init`: the pipeline file that it writes.

use std::io::Write as _;
use std::path::Path;

use crate::exit::{self, Failure, Outcome};
use crate::output::Output;

/// Writes the commented pipeline file.
pub(crate) fn init(file: &Path, output: &Output) -> Outcome {
    let failed =
        |error: std::io::Error| Failure::new(exit::FAILED, format!("cannot write `{}`: {error}", file.display()));
    let mut opened = match std::fs::OpenOptions::new().write(true).create_new(true).open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let message = format!("`{}` exists already; give another name", file.display());
            return Err(Failure::new(exit::REFUSED, message));
        }
        opened => opened.map_err(failed)?,
    };
    opened.write_all(TEMPLATE.as_bytes()).map_err(failed)?;
    output.say(format!("wrote {}; fill in the paths, then: s3t plan {0}", file.display()));
    Ok(0)
}

/// A commented pipeline file.
const TEMPLATE: &str = r#"# A pipeline: everything that an unlearning system is made from.
# Relative paths start from the folder of this file. `s3t plugins` lists the values of every `type` with their fields.

seed = 0                       # changes every random choice
device = "flex"                # flex (CPU), ndarray, cuda, cuda:1, vulkan, wgpu

[model]                        # a public base model in Hugging Face layout; frozen, never the subject of a deletion
path = "model"
# max_tokens = 64              # of a model of texts: longer ones are cut, longer prompts refused
# weights = "int8"             # frozen layers in 8-bit integers, or in 4 bits ("nf4"): less memory, another model

[data]                         # class names are declared, never collected from the records
# task = "classification"      # classification, multi-label, regression, causal-lm; the last two take no labels
labels = ["cat", "dog"]

# [data.duplicates]            # copies of a record that its deletion takes along
# exact = true                 # equal content; texts by their words
# text_similarity = 0.8        # the least share of three-word runs in common
# image_distance = 4           # the most different bits of 64 in a perceptual hash

[data.train]                   # types: idx, image-folder, csv, jsonl. Texts: { type = "jsonl", file = "train.jsonl", text = "text" };
                               # instructions: template = "{question}\n" and label = "answer" with task causal-lm
type = "image-folder"
root = "images"
manifest = "train.csv"         # columns: file, label, and optionally id and subject; pictures are resized by the model's own
                               # processor

[data.test]                    # held-out records, not subject to deletion
type = "image-folder"
root = "images"
manifest = "test.csv"

[partition]                    # where a record goes depends on its subject and a secret, on no other record
type = "keyed-hash"
shards = 2                     # ensemble members
slices = 3                     # parts of a shard, each with its own group of transformer blocks

[sequences]                    # the orders in which a shard's slices are trained
type = "cyclic"
budget = 3                     # sequences for each shard: more of them survive more deletions; try `s3t plan`
# prior = [0.5, 0.3, 0.2]      # how likely a deletion is to hit each slice of a shard; or a CSV file with the columns
                               # `subject` and `probability`; or left out: all alike

[peft]
type = "lora"
rank = 8
alpha = 16.0
targets = ["query", "value"]

[training]
epochs = 3                     # passes over a stage's records
batch_size = 32
learning_rate = 2e-3
warmup = 0.1                   # share of the steps
decay = "linear"               # constant, linear, cosine
weight_decay = 0.01

[serving]
members = { type = "all-live", slack = 0 }   # which live sequences of a shard answer: all-live, covering, or deepest for the lowest cost
aggregator = { type = "depth-weighted" }     # or mean-logits, trimmed-mean, stage-routed; for classes mean-probabilities, majority-vote
dead_shard = "leave-out"       # what a shard without a live sequence does: leave-out, base
# precision = "bf16"             # answers with products in bfloat16 where training has single precision; changes no stage

[executor]                     # where stages are trained; changes no bit
type = "local"                 # local: here; processes: in child processes; network, slurm, ray, kubernetes, ssh: on other machines; see `s3t plugins`

[resources]
jobs = 0                       # stages side by side; 0: one a core
activation_memory_mb = 512     # memory for outputs of frozen blocks
activation_disk_mb = 4096      # disk for those that do not fit, while a process runs
gradient_checkpointing = false # true: the graph of one block at a time in memory, for up to a third more time

[store]                        # records, stages and the secret; keep it where only the service can read it
path = "store"
# wait_seconds = 2             # how long a command waits for another process that has the store in hand
secret = "random"              # random, or from-seed: the same partition and figures for everybody, for public data only

[run]                          # what `s3t run` does after training
delete_subjects = []
delete_records = []
baseline = true                # also fine-tune all blocks on all data, for comparison
verify = "serving"             # serving, all, lineages
"#;
