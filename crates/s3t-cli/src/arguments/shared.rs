//! Arguments that several commands have.

use std::path::PathBuf;

use clap::Args;
use s3t::api::Start;
use s3t::engine::VerifyScope;
use serde::de::DeserializeOwned;
use serde::de::value::{Error, StrDeserializer};

/// Reads a value by its name in pipeline files.
pub(super) fn named<T: DeserializeOwned>(name: &str) -> Result<T, Error> {
    T::deserialize(StrDeserializer::new(name))
}

#[derive(Args, Clone, Copy)]
pub(crate) struct FreshArgs {
    /// Delete the store first and start again from the source of the data.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// With --fresh: go on although the store has accepted deletions or has exports that are still there. Deleted records that are still in the
    /// source come back, and the new store does not know of the exports.
    #[arg(long, requires = "fresh")]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct PipelineArg {
    /// The pipeline file.
    pub(crate) pipeline: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Scope {
    /// The stages that answer now.
    Serving,
    /// All stages.
    All,
    /// None: lineages and files only.
    Lineages,
}

impl From<FreshArgs> for Start {
    fn from(args: FreshArgs) -> Self {
        match (args.fresh, args.yes) {
            (false, _) => Self::Continue,
            (true, false) => Self::Fresh,
            (true, true) => Self::FreshDespiteDeletions,
        }
    }
}

impl From<Scope> for VerifyScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Serving => Self::Serving,
            Scope::All => Self::All,
            Scope::Lineages => Self::Lineages,
        }
    }
}
