//! The arguments of the program.

mod commands;
mod shared;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit;
use crate::logging::LogArgs;
use crate::planning::{AdviseArgs, CompareArgs, PlanArgs, SimulateArgs};
use crate::serving::{ServeArgs, TokenCommand};

pub(crate) use commands::{
    AttackArgs, AuditArgs, ChatArgs, CompareMethodsArgs, DeleteArgs, EvalArgs, PredictArgs, ReceiptCommand, RepairArgs,
    StoreCommand, TrainArgs,
};
pub(crate) use shared::{FreshArgs, PipelineArg, Scope};

/// Exact machine unlearning: train, serve, delete, verify, repair.
///
/// A pipeline file says everything about a system: data, base model, partition, sequences, PEFT method, training, device.
/// `s3t init` writes one to start from; planning and `predict --model` work without one too.
#[derive(Parser)]
#[command(name = "s3t", version, after_long_help = after_help())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print one JSON object instead of tables.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Show no progress.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Examples, and the table of exit codes.
fn after_help() -> String {
    format!("{EXAMPLES}\n\nExit codes:\n{}", exit::table())
}

const EXAMPLES: &str = "\
Examples:
  s3t init pipeline.toml                            write a commented pipeline file
  s3t plan pipeline.toml                            what training would cost, before it starts
  s3t advise pipeline.toml --requests-per-day 2 --days 90
                                                    which shards, slices and budget to choose
  s3t run pipeline.toml                             train, evaluate, delete, evaluate, verify
  s3t delete pipeline.toml --subject user-17        forget a person
  s3t delete pipeline.toml --records-from ids.txt   forget many records
  s3t verify pipeline.toml --scope all              train every live stage again and compare bits
  s3t audit pipeline.toml --html audit.html         everything that can be checked, as a report";

const EVAL: &str = "\
Examples:
  s3t eval pipeline.toml
  s3t eval pipeline.toml --json
  s3t eval pipeline.toml --task tasks/plurals.toml --task tasks/facts.toml
  s3t eval pipeline.toml --task tasks/plurals.toml --limit 20 --samples
  s3t eval pipeline.toml --memorisation canaries.toml      before and after a deletion

A task file says which texts are asked, and by which measures the answers are judged:

  kind = \"generate\"                 # or \"choice\", \"loglikelihood\"
  data = \"questions.jsonl\"          # one JSON object a line; paths start from the task file's folder
  prompt = \"Question: {question}\\nAnswer:\"
  target = \"{answer}\"               # of \"choice\": choices = \"options\", answer = \"right\", two keys of the data
  stop = [\"\\n\"]
  metrics = [\"exact_match\", \"rougeL\"]
  few_shot = { file = \"solved.jsonl\", count = 3 }

A file of canaries has secrets that were drawn from a space, and says how to try records:

  [[canaries]]
  id = \"code\"
  prompt = \"The code of Ann is\"     # as the record of training has it
  target = \" {secret}\"
  secret = \"4711\"
  alphabet = \"0123456789\"
  length = 4

  [extraction]                       # records of the training data that their prompt brings back
  prefix_tokens = 0

docs/guide/evaluating-language-models.md has every key and measure.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The whole story: train, evaluate, delete, evaluate, verify.
    #[command(
        after_help = "Examples:\n  s3t run examples/quickstart.toml\n  s3t run pipeline.toml --fresh --json > story.json"
    )]
    Run {
        #[command(flatten)]
        pipeline: PipelineArg,
        #[command(flatten)]
        fresh: FreshArgs,
    },
    /// Show what a system costs, how many deletions it lasts and how deep it stays. Trains nothing.
    #[command(after_help = "\
Examples:
  s3t plan pipeline.toml
  s3t plan --shards 5 --slices 6 --budget 6 --records 50000
  s3t plan --shards 5 --slices 6 --budget 3 --plot depth.svg
  s3t plan --shards 5 --slices 6 --budget 6 --against upkeep --plot upkeep.png
  s3t plan pipeline.toml --utility 0.10,0.72,0.77,0.80
  s3t plan pipeline.toml --cluster workers=64,tflops=100,per-hour=2")]
    Plan(Box<PlanArgs>),
    /// Search shards, slices, budget, strategy and blocks per slice, and recommend a system.
    #[command(after_help = "\
Examples:
  s3t advise pipeline.toml --requests-per-day 2 --days 90
  s3t advise --records 1000000 --blocks 32 --hidden 4096 --intermediate 11008 --tokens 256 --max-flops 1e20
  s3t advise --records 50000 --goal depth --after 50 --plot front.svg

The prior of a pipeline file is for its own number of slices; the search takes all slices to be equally likely, unless
--prior says otherwise.")]
    Advise(Box<AdviseArgs>),
    /// Run request streams through a system that is not trained, and report how long it lasts.
    #[command(after_help = "\
Examples:
  s3t simulate --shards 5 --slices 6 --budget 6 --trials 100000
  s3t simulate pipeline.toml --stream adversarial
  s3t simulate --shards 5 --slices 6 --budget 6 --stream subjects --scattered
  s3t simulate --shards 5 --slices 6 --budget 6 --stream trace --trace requests.csv --plot depth.svg")]
    Simulate(Box<SimulateArgs>),
    /// Put sequence strategies side by side.
    #[command(after_help = "\
Examples:
  s3t compare-sequences --shards 5 --slices 4 --budget 2 --prior 0.4,0.3,0.2,0.1
  s3t compare-sequences pipeline.toml --strategies cyclic,bms,greedy --plot strategies.svg")]
    CompareSequences(Box<CompareArgs>),
    /// Put methods of unlearning side by side: time to forget, accuracy, the success of an attack, and what is guaranteed.
    #[command(after_help = "\
Examples:
  s3t compare-methods pipeline.toml --plot methods.svg
  s3t compare-methods pipeline.toml --method sisa --method s3t --method scrub --seeds 5 --json

Every method trains on the pipeline's data and forgets the same records. The attack is LiRA, with the models that full retraining gives
with the other seeds as references. The section `[compare]` has fields of methods:

  [compare]
  forget = 100
  methods = [{ type = \"s3t\" }, { type = \"neg-grad-plus\", beta = 0.9 }]

`s3t plugins` lists methods and their fields.")]
    CompareMethods(CompareMethodsArgs),
    /// Make the store if it is not there, and train every missing stage. Goes on where it was stopped.
    #[command(after_help = "\
Examples:
  s3t train pipeline.toml          Ctrl-C keeps what is finished; the same command goes on
  s3t train pipeline.toml --fresh
  s3t train pipeline.toml --detach     goes on in the background, also when the terminal is closed
  s3t train pipeline.toml --attach     shows what it says, and ends with its exit code; Ctrl-C leaves it working")]
    Train(TrainArgs),
    /// The score on the pipeline's test data: accuracy, or the measure of its task; of language models also tasks of texts.
    #[command(after_help = EVAL)]
    Eval(EvalArgs),
    /// Answer: a system for its test data or for what is asked, or a bare Hugging Face model with or without an adapter.
    #[command(after_help = "\
Examples:
  s3t predict pipeline.toml --image shoe.png shirt.jpg
  s3t predict pipeline.toml --limit 10 --json
  s3t predict pipeline.toml --input questions.jsonl
  s3t predict --model data/fetched/minilm --adapter exports/first/shard-0 --input questions.jsonl --json

A line of the input has `text` (and `text_pair`), `messages`, `features` or `image`, and may have an `id`. A bare model gives logits: those of its
classification head or the adapter's, or of a language model those of the token that follows.")]
    Predict(PredictArgs),
    /// Talk to a language model, by its chat template. Each line of standard input is a message.
    #[command(after_help = "\
Examples:
  s3t chat pipeline.toml
  s3t chat pipeline.toml --system \"Answer in one word.\" --temperature 0.7 --seed 1
  printf 'hello\\nand now?\\n' | s3t chat pipeline.toml --json

The same seed and the same messages give the same words. A message that a deletion overtakes ends, or goes on with what lives, as
`serving.generation.on_deletion` says, and says so.")]
    Chat(ChatArgs),
    /// Write what the store serves with as Hugging Face PEFT adapters, one a member of a shard.
    #[command(after_help = "\
Examples:
  s3t export pipeline.toml --to exports/first
  s3t export pipeline.toml --to exports/second --base-model meta-llama/Llama-3.2-1B

The adapters call the base model by --base-model, by `model.name` of the pipeline or by the name of its folder, in this order.
Older exports beside the new one that hold a stage which a deletion has erased since are named: withdraw them.")]
    Export {
        #[command(flatten)]
        pipeline: PipelineArg,
        /// The new folder.
        #[arg(long)]
        to: PathBuf,
        /// The name of the base model in the adapters, such as its repository's.
        #[arg(long)]
        base_model: Option<String>,
    },
    /// Forget records or subjects: durable, off in every answer, then erased from disk.
    #[command(
        after_help = "Examples:\n  s3t delete pipeline.toml --subject user-17\n  s3t delete pipeline.toml --record r1 --record r2 --request-id ticket-812 --receipt ticket-812.json\n  cut -d, -f1 requests.csv | s3t delete pipeline.toml --subjects-from -"
    )]
    Delete(DeleteArgs),
    /// Show or check a receipt.
    Receipt {
        #[command(subcommand)]
        command: ReceiptCommand,
    },
    /// Check or repair a store.
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Train again what deletions cut off, without the deleted records. Answers and deletions go on beside it.
    #[command(after_help = "\
Examples:
  s3t repair pipeline.toml
  s3t repair pipeline.toml --watch --below-depth 0.8      whenever shards serve with less than 80 % of their depth
  s3t repair pipeline.toml --below-budget 2 --jobs 1 --minutes 30

What lets a shard serve deeper is built first, and of that the cheapest. Each finished stage serves at once.")]
    Repair(RepairArgs),
    /// Check everything that can be checked about a store's deletions, and write a report.
    #[command(after_help = "\
Examples:
  s3t audit pipeline.toml --key key.pub --checkpoint seen-in-march.txt --receipt ticket-812.json --html audit.html
  s3t audit pipeline.toml --absent-subject user-17 --scope all --json > audit.json
  s3t audit pipeline.toml --attack --html audit.html

The auditor brings what was kept elsewhere: the public key, checkpoints seen before (`ledger/checkpoint` in the store), receipts.
Changes nothing. Exit code 5 if anything does not hold.")]
    Audit(AuditArgs),
    /// Attack a copy of the store: whether membership inference finds deleted records, beside a system that never saw them.
    #[command(after_help = "\
Examples:
  s3t attack pipeline.toml --html attack.html
  s3t attack pipeline.toml --subject user-17 --subject user-18
  s3t attack pipeline.toml --members 300 --references 4 --repair --json

The records are deleted from a copy beside the store, which is removed at the end. Attacks try to tell them from the pipeline's test
data before the deletion, after it, and on an oracle that was trained without them. References are stages that never saw them, and systems
that are trained on random halves. A report whose attack finds nothing before the deletion says so in its first line. Exit code 5 if
the system after the deletion differs from the oracle in any bit.")]
    Attack(AttackArgs),
    /// Check files and lineages, and train stages again to compare bits.
    #[command(
        after_help = "Examples:\n  s3t verify pipeline.toml                     train the stages that answer again\n  s3t verify pipeline.toml --scope all\n  s3t verify pipeline.toml --scope lineages    no training: files and lineages only"
    )]
    Verify {
        #[command(flatten)]
        pipeline: PipelineArg,
        /// Stages that are trained again.
        #[arg(long, value_enum, default_value_t = Scope::Serving)]
        scope: Scope,
    },
    /// Answer, delete and prove over HTTP, with a page for operators. SIGTERM stops it, SIGHUP reads tokens and certificates again.
    #[command(after_help = "\
Examples:
  s3t serve pipeline.toml
  s3t serve pipeline.toml --address 0.0.0.0:3000 --private-address 10.0.0.5:3001
  s3t serve pipeline.toml --tls-certificate cert.pem --tls-key key.pem

Without tokens it listens on this machine only. docs/guide/serving.md has the routes and settings.")]
    Serve(Box<ServeArgs>),
    /// Make, list and revoke the tokens of a server.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Show the stages that serve now, shard by shard.
    #[command(after_help = "Examples:\n  s3t status pipeline.toml\n  s3t status pipeline.toml --json")]
    Status(PipelineArg),
    /// List every plugin with its fields and defaults.
    #[command(after_help = "Examples:\n  s3t plugins\n  s3t plugins --json")]
    Plugins,
    /// Write the manual pages, and the completions of every shell, into a folder.
    #[command(
        hide = true,
        after_help = "Examples:\n  s3t manual --to manual\n  install -Dm644 manual/*.1 -t ~/.local/share/man/man1"
    )]
    Manual {
        /// The folder; it is made if it is not there.
        #[arg(long, default_value = "manual")]
        to: PathBuf,
    },
    /// Train stages for another process: the one at the other end of standard input and output, or the one at `--connect`.
    #[command(after_help = "\
The executor `processes` starts workers by itself, and so do `slurm`, `ray`, `kubernetes` and `ssh` on other machines:

  [executor]
  type = \"processes\"
  workers = 2

Examples:
  ssh node7 s3t worker        as the command of an executor that reaches other machines, see docs/guide/writing-an-executor.md
  s3t worker --connect login1:7343 --invitation s3t.invitation
                              joins `s3t train` with the executor `network` on the machine login1

A worker loads the base model that it is told, trains one stage after the other, and ends when its standard input or its connection
is closed. It writes nothing to a disk. A worker that joined over the network ends too when it has not heard from the owner of the
store for the time of its lease. The invitation is the file that the executor wrote, or the variable S3T_INVITATION.")]
    Worker {
        /// The host and port of the owner of the store, which is reached over TLS.
        #[arg(long, value_name = "HOST:PORT")]
        connect: Option<String>,
        /// The file with the invitation; the variable `S3T_INVITATION` if it is left out.
        #[arg(long, value_name = "FILE", requires = "connect")]
        invitation: Option<PathBuf>,
        /// The name of this worker at the engine that starts it, such as `1234_5` of Slurm.
        #[arg(long, default_value = "", requires = "connect")]
        task: String,
        /// The cores to compute on; all that this process may use if it is left out.
        #[arg(long, requires = "connect", value_parser = clap::value_parser!(u16).range(1..))]
        cores: Option<u16>,
        /// The seconds for which an owner that cannot be reached is tried again.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "connect")]
        patience: u64,
    },
    /// Write a commented pipeline file.
    #[command(
        after_help = "Examples:\n  s3t init                        writes pipeline.toml\n  s3t init experiments/one.toml"
    )]
    Init {
        /// The file.
        #[arg(default_value = "pipeline.toml")]
        file: PathBuf,
    },
}
