use std::path::PathBuf;

use s3t_attack::AttackError;
use s3t_core::StageKey;
use s3t_data::DataError;
use s3t_engine::EngineError;

/// Everything that can go wrong in an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file of a task or of canaries that cannot be read.
    #[error("cannot read `{path}`: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A file of a task or of canaries that cannot be used.
    #[error("{file}{}: {problem}", .line.map(|line| format!(" line {line}")).unwrap_or_default())]
    File {
        /// The file.
        file: String,
        /// The line, from 1, where one line is at fault.
        line: Option<usize>,
        /// The problem, and the values that are allowed.
        problem: String,
    },
    /// A system that does not continue texts.
    #[error("the pipeline's task is `{0}`; {1} needs `data.task = \"causal-lm\"`")]
    NotCausal(&'static str, &'static str),
    /// A task of which records have no right class and no tokens that are learnt.
    #[error("the pipeline's task is `{0}`; an attack needs `classification` or `causal-lm`")]
    NotAttackable(&'static str),
    /// A record without a class.
    #[error("record `{0}` has no class, so there is nothing to attack; give every record of `data.test` its label")]
    NoClass(String),
    /// Too few records for an attack.
    #[error(
        "an attack needs at least 2 members, 2 non-members and a record of a population; there are {members} members and {held_out} held-out records: name more, or give more `data.test`"
    )]
    TooFewTargets {
        /// The members.
        members: usize,
        /// Held-out records.
        held_out: usize,
    },
    /// More records than tests of distributions can compare.
    #[error("{members} records would be deleted and attacked, and at most {most} are taken; name fewer")]
    TooManyTargets {
        /// The members.
        members: usize,
        /// The most that are taken.
        most: usize,
    },
    /// A comparison of methods in which nothing is left.
    #[error(
        "all of the {records} records would be forgotten, and methods are compared on what is left; lower `compare.forget`"
    )]
    AllForgotten {
        /// The records.
        records: usize,
    },
    /// A deletion after which nothing answers.
    #[error(
        "after the deletion no shard would answer, so there is nothing to attack; set `attack.repair = true`, or use more slices, sequences or shards"
    )]
    NothingLeft,
    /// An attack without a reference model.
    #[error(
        "no stage of the store is without the attacked records, so attacks have no reference; set `attack.references = 2` or more, or use more shards"
    )]
    NoReferences,
    /// A stage that the plan of a copy does not have.
    #[error(
        "stage {stage} is not in the plan of a copy of the store; the pipeline's prior or sequences differ from the store's"
    )]
    OtherPlan {
        /// The stage.
        stage: StageKey,
    },
    /// A task that methods are not compared on.
    #[error("the pipeline's task is `{0}`; methods are compared on `classification`")]
    OnlyClasses(&'static str),
    /// A PEFT method that the compared methods cannot change, or an aggregator that they cannot answer with.
    #[error("the pipeline is not one that methods are compared on: {0}")]
    Unsupported(&'static str),
    /// A plugin that cannot be read.
    #[error("{0}")]
    Plugin(String),
    /// A model whose numbers are not finite any more.
    #[error("the model diverged while it forgot; lower `rate` of the method")]
    Diverged,
    /// Work that was stopped.
    #[error("stopped; nothing is kept")]
    Stopped,
    /// A folder that cannot be written to.
    #[error("cannot write in `{path}`: {cause}")]
    Write {
        /// The folder.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// Data that cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A system that cannot answer, or a text that its model cannot take.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Figures from which no measure can be computed.
    #[error(transparent)]
    Attack(#[from] AttackError),
}
