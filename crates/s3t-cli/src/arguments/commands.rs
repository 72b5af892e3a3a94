//! The arguments and subcommands of single commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use s3t::models::{Precision, WeightFormat};

use super::shared::{FreshArgs, PipelineArg, Scope, named};

#[derive(Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArg,
    #[command(flatten)]
    pub(crate) fresh: FreshArgs,
    /// Train in the background, in a process that no terminal ends.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Show what a training in the background says, until it ends; its exit code is this command's.
    #[arg(long, conflicts_with_all = ["detach", "fresh"])]
    pub(crate) attach: bool,
    /// Be the process in the background, with this folder.
    #[arg(long, hide = true, conflicts_with_all = ["detach", "attach"])]
    pub(crate) owner: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Show the content of a receipt, unchecked.
    #[command(after_help = "Examples:\n  s3t receipt show ticket-812.json")]
    Show {
        /// The receipt.
        receipt: PathBuf,
    },
    /// Check a receipt with nothing but the public key of the store.
    #[command(after_help = "\
Examples:
  s3t receipt verify ticket-812.json --key store/ledger/key.pub
  s3t receipt verify ticket-812.json --key s3t/0f3c...+1a2b3c4d+AQ... --record r1

Exit code 5 if anything does not hold.")]
    Verify {
        /// The receipt.
        receipt: PathBuf,
        /// The store's public key: the line itself, or a file that holds it.
        #[arg(long)]
        key: String,
        /// A record that the request should name.
        #[arg(long)]
        record: Vec<String>,
        /// A subject that the request should name.
        #[arg(long)]
        subject: Vec<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Find every inconsistency between catalogue, files, keys and ledger. Trains nothing.
    #[command(after_help = "\
Examples:
  s3t store check pipeline.toml
  s3t store check pipeline.toml --repair      repair what needs no guess

Exit code 5 if anything is wrong.")]
    Check {
        #[command(flatten)]
        pipeline: PipelineArg,
        /// Repair what needs no guess.
        #[arg(long)]
        repair: bool,
    },
    /// Take an export off the list of those that hold deleted stages: after it was removed by other means.
    #[command(after_help = "Examples:\n  s3t store forget-export pipeline.toml exports/first")]
    ForgetExport {
        #[command(flatten)]
        pipeline: PipelineArg,
        /// The export's folder, or that of one of its adapters.
        folder: PathBuf,
    },
}

#[derive(Args)]
pub(crate) struct ChatArgs {
    /// The pipeline file.
    pub(crate) pipeline: PathBuf,
    /// The instructions that stand before the first message.
    #[arg(long)]
    pub(crate) system: Option<String>,
    /// The most tokens of a message of the model.
    #[arg(long, default_value_t = 256)]
    pub(crate) max_new_tokens: usize,
    /// Divides the scores before a token is drawn; with 0 the likeliest token is taken.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Draw from so many of the likeliest tokens; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Draw from the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// Draw from tokens with at least this share of the likeliest token's probability.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) min_p: f32,
    /// Makes tokens that the conversation has less likely, above 1.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) repetition_penalty: f32,
    /// The seed of the first turn; each turn has the next one.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// A text before which a message ends; may be given several times.
    #[arg(long)]
    pub(crate) stop: Vec<String>,
}

#[derive(Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArg,
    /// A task of texts: a file that says what is asked and how answers are judged; may be given several times.
    #[arg(long)]
    pub(crate) task: Vec<PathBuf>,
    /// The largest number of questions of a task, the first of its data.
    #[arg(long, requires = "task")]
    pub(crate) limit: Option<usize>,
    /// Show the answer to every question of a task.
    #[arg(long, requires = "task")]
    pub(crate) samples: bool,
    /// Measure memorisation instead: a file with canaries, whose exposure is taken, and with records that a prefix may bring back.
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    pub(crate) memorisation: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct PredictArgs {
    /// The pipeline file.
    #[arg(required_unless_present = "model", conflicts_with = "model")]
    pub(crate) pipeline: Option<PathBuf>,
    /// A bare model: a folder with `config.json` and `model.safetensors`.
    #[arg(long)]
    pub(crate) model: Option<PathBuf>,
    /// A PEFT adapter of the bare model: a folder with `adapter_config.json` and `adapter_model.safetensors`.
    #[arg(long, requires = "model")]
    pub(crate) adapter: Option<PathBuf>,
    /// Questions: a file with one JSON object a line.
    #[arg(long)]
    pub(crate) input: Option<PathBuf>,
    /// Picture files to answer for: PNG, JPEG, WebP, GIF, BMP or TIFF.
    #[arg(long, num_args = 1..)]
    pub(crate) image: Vec<PathBuf>,
    /// Answer for at most this many records.
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// The most tokens that a system of causal language modelling adds.
    #[arg(long, default_value_t = 64)]
    pub(crate) max_new_tokens: usize,
    /// The most tokens of a text that a bare model is given: longer texts are cut, and the answer says how many. Without it
    /// the model takes what it has positions for, and longer texts are refused.
    #[arg(long, requires = "model")]
    pub(crate) max_tokens: Option<usize>,
    /// A field of a bare model's or its adapter's files that is passed over although it is refused or unknown; may be given
    /// several times.
    #[arg(long, requires = "model")]
    pub(crate) accept_field: Vec<String>,
    /// The form of a bare model's frozen weights: full, int8, nf4. As `model.weights` of the pipeline whose exports answer.
    #[arg(long, requires = "model", value_name = "FORM", default_value = "full", value_parser = named::<WeightFormat>)]
    pub(crate) weights: WeightFormat,
    /// The precision of products with a bare model's frozen weights: f32, bf16. As `serving.precision` of the pipeline whose exports answer.
    #[arg(long, requires = "model", default_value = "f32", value_parser = named::<Precision>)]
    pub(crate) precision: Precision,
    /// The device of a bare model: flex, ndarray, cuda, vulkan, wgpu.
    #[arg(long, requires = "model", default_value = "flex")]
    pub(crate) device: String,
}

#[derive(Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArg,
    /// A record id; may be given several times.
    #[arg(long)]
    pub(crate) record: Vec<String>,
    /// A subject; may be given several times. All of its records go.
    #[arg(long)]
    pub(crate) subject: Vec<String>,
    /// A file with one record id a line; `-` for standard input.
    #[arg(long)]
    pub(crate) records_from: Option<PathBuf>,
    /// A file with one subject a line; `-` for standard input.
    #[arg(long)]
    pub(crate) subjects_from: Option<PathBuf>,
    /// An id of the request, such as a ticket's: asking again under it does nothing twice. Nothing that names a person.
    #[arg(long)]
    pub(crate) request_id: Option<String>,
    /// The receipt's file: a proof of what was done for whoever has the store's public key.
    #[arg(long)]
    pub(crate) receipt: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct RepairArgs {
    /// The pipeline file.
    pub(crate) pipeline: PathBuf,
    /// Go on for as long as the program runs: whenever a deletion makes a repair due.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Only when shards serve with less than this share of their planned depth, in the mean.
    #[arg(long)]
    pub(crate) below_depth: Option<f64>,
    /// Only when somebody who picks slices could kill a shard with fewer requests than this.
    #[arg(long)]
    pub(crate) below_budget: Option<usize>,
    /// Stages built side by side; otherwise what the pipeline says.
    #[arg(long)]
    pub(crate) jobs: Option<usize>,
    /// The most minutes that one repair takes.
    #[arg(long)]
    pub(crate) minutes: Option<f64>,
}

#[derive(Args)]
pub(crate) struct AuditArgs {
    /// The pipeline file.
    pub(crate) pipeline: PathBuf,
    /// The store's public key as the auditor has it: the line itself, or a file that holds it.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// A checkpoint of the ledger that was seen before; may be given several times.
    #[arg(long)]
    pub(crate) checkpoint: Vec<PathBuf>,
    /// A receipt that was given out; may be given several times.
    #[arg(long)]
    pub(crate) receipt: Vec<PathBuf>,
    /// A record that must not be there.
    #[arg(long)]
    pub(crate) absent_record: Vec<String>,
    /// A subject that must not be there.
    #[arg(long)]
    pub(crate) absent_subject: Vec<String>,
    /// Stages that are trained again.
    #[arg(long, value_enum, default_value_t = Scope::Serving)]
    pub(crate) scope: Scope,
    /// Attack a copy of the store too: whether membership inference finds records that are deleted from it.
    #[arg(long)]
    pub(crate) attack: bool,
    /// The file of the report, as a page to read.
    #[arg(long)]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct AttackArgs {
    /// The pipeline file. Without a store a copy is made from its data and trained.
    pub(crate) pipeline: PathBuf,
    /// A record that is deleted from the copy and attacked; may be given several times. Without names records are drawn.
    #[arg(long)]
    pub(crate) record: Vec<String>,
    /// A subject that is deleted from the copy and attacked; may be given several times.
    #[arg(long)]
    pub(crate) subject: Vec<String>,
    /// The most records that are drawn.
    #[arg(long)]
    pub(crate) members: Option<usize>,
    /// The most held-out records that they are told from.
    #[arg(long)]
    pub(crate) non_members: Option<usize>,
    /// The most further held-out records, the population of RMIA.
    #[arg(long)]
    pub(crate) population: Option<usize>,
    /// Reference systems to train on random halves of the data; an even number.
    #[arg(long)]
    pub(crate) references: Option<usize>,
    /// Repair the copy after the deletion.
    #[arg(long)]
    pub(crate) repair: bool,
    /// The confidence of intervals, between 0 and 1.
    #[arg(long)]
    pub(crate) confidence: Option<f64>,
    /// Changes which records are drawn.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// The file of the report, as a page to read.
    #[arg(long)]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct CompareMethodsArgs {
    /// The pipeline file. Its store has no part in the comparison.
    pub(crate) pipeline: PathBuf,
    /// A method by name, with its defaults; may be given several times. Otherwise those of `[compare]`, or all.
    #[arg(long)]
    pub(crate) method: Vec<String>,
    /// Seeds of training, at least 3.
    #[arg(long)]
    pub(crate) seeds: Option<u64>,
    /// Records to forget.
    #[arg(long)]
    pub(crate) forget: Option<usize>,
    /// The most records to train on.
    #[arg(long)]
    pub(crate) records: Option<usize>,
    /// The most held-out records, which every method answers before and after; a rate at 1 % needs 100.
    #[arg(long)]
    pub(crate) held_out: Option<usize>,
    /// The file of a picture (.svg or .png): the success of the attack against the time to forget.
    #[arg(long)]
    pub(crate) plot: Option<PathBuf>,
}
