//! The stages that a store serves with, as adapters.
//!
//! # Proof note
//!
//! *Before*: each shard is served by prefixes whose stages hold no deleted record, its members. *After*: an export holds
//! the parameters of these stages and the head of each member's last, and nothing of a dead or deeper stage. *Why*: it is written from
//! the same chain of keys that answers, and block by block, so a tensor of another group has no place in it.
//!
//! An export may be copied out of the store's reach. So each names the deletion epoch it was made in and the keys it holds, and
//! [`superseded`] tells from these which exports hold a stage that is no longer live. Where it was written, the store removes its
//! files with the stages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use s3t_core::digest::DigestBuilder;
use s3t_core::limits::read_text_at_most;
use s3t_core::tensors::StageTensors;
use s3t_core::{BlockRange, Digest, Serving, ShardId, StageKey};
use s3t_engine::{System, serving_chains};
use s3t_ledger::{Epoch, Event};
use s3t_models::open_file;
use s3t_peft::PeftMethod;
use s3t_store::StoreError;
use serde::{Deserialize, Serialize};

use crate::{InterchangeError, write_adapter};

/// The file in an export's folder that names its store, epoch and stages.
pub const MANIFEST: &str = "s3t-export.json";

/// The largest size of it, in bytes.
const MOST_MANIFEST_BYTES: u64 = 64 << 20;

/// The content of an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// The store that the export was made from.
    pub store: Digest,
    /// Deletions that the store had accepted.
    pub epoch: Epoch,
    /// The base model's digest.
    pub base: String,
    /// The class names; none for regression and language models.
    pub labels: Vec<String>,
    /// The number of outputs of each head: what the base model's `num_labels` has to be; 0 without a head.
    #[serde(default)]
    pub outputs: usize,
    /// An adapter for each member of each shard that serves.
    pub shards: Vec<ExportedShard>,
}

/// The exported adapter of a member of a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportedShard {
    /// The shard.
    pub shard: ShardId,
    /// Its adapter's folder, inside the export's.
    pub folder: String,
    /// The sequence and depth of the member.
    pub serving: Serving,
    /// The stages, in the order of training.
    pub stages: Vec<StageKey>,
    /// The blocks that have an adapter.
    pub blocks: BlockRange,
}

/// Writes the stages that the system serves with into a new folder, one adapter a member, and [`MANIFEST`]. The adapters call the base model
/// by the pipeline's name of it, or else by that of its folder: never by a path, which would tell of this machine and mean nothing on
/// another.
///
/// # Errors
///
/// [`InterchangeError::Exists`] if the folder is there; [`s3t_peft::PeftError::NoInterchange`] for a method that PEFT does not
/// know; [`InterchangeError::Engine`] if no shard serves. Nothing is left behind then.
pub fn export(system: &System, directory: &Path) -> Result<Export, InterchangeError> {
    if directory.exists() || directory.is_symlink() {
        return Err(InterchangeError::Exists(directory.into()));
    }
    let pipeline = system.pipeline();
    pipeline.peft.interchange(&system.backbone().block_shape())?;
    let snapshot = system.snapshot()?;
    let chains = serving_chains(&snapshot, &*pipeline.serving.members);
    if chains.is_empty() {
        return Err(s3t_engine::EngineError::NothingServes.into());
    }
    let adapters: Vec<(String, Vec<StageKey>)> =
        chains.iter().map(|(shard, serving, stages)| (folder_of(&chains, *shard, *serving), stages.clone())).collect();
    let new = system.store().begin_export(directory, &adapters).map_err(|error| match error {
        StoreError::Exists(_) => InterchangeError::Exists(directory.into()),
        StoreError::MissingStage(_) => InterchangeError::Overtaken,
        other => other.into(),
    })?;
    let export = match write_shards(system, &*pipeline.peft, snapshot.epoch(), &chains, &new.path()) {
        Ok(export) => export,
        Err(error) => {
            new.abandon();
            // A deletion takes the stages and what was written of them from under its hands.
            return Err(if new.is_hit()? { InterchangeError::Overtaken } else { error });
        }
    };
    // An export that a deletion has hit while it was written is not handed out.
    if !new.finish()? {
        return Err(InterchangeError::Overtaken);
    }
    let stages = DigestBuilder::new("exported").json(&export.shards).finish();
    system.store().note(Event::Exported { epoch: export.epoch, stages })?;
    Ok(export)
}

/// The name of a base model's folder.
fn name_of(model: &Path) -> String {
    let absolute = std::path::absolute(model).unwrap_or_else(|_| model.to_path_buf());
    absolute.file_name().map_or_else(|| "base".into(), |name| name.to_string_lossy().into_owned())
}

/// The folder of a member's adapter, inside the export's: it is called by its shard, and where that has several members by its sequence too.
fn folder_of(chains: &[(ShardId, Serving, Vec<StageKey>)], shard: ShardId, serving: Serving) -> String {
    match chains.iter().filter(|(of, ..)| *of == shard).count() {
        0 | 1 => format!("shard-{shard}"),
        _ => format!("shard-{shard}-sequence-{}", serving.sequence),
    }
}

fn write_shards(
    system: &System,
    method: &dyn PeftMethod,
    epoch: Epoch,
    chains: &[(ShardId, Serving, Vec<StageKey>)],
    directory: &Path,
) -> Result<Export, InterchangeError> {
    let pipeline = system.pipeline();
    let base_model = pipeline.model_name.clone().unwrap_or_else(|| name_of(&pipeline.model));
    let mut shards = Vec::new();
    for (shard, serving, stages) in chains {
        let mut of_stages = Vec::with_capacity(stages.len());
        let mut blocks = BlockRange { start: 0, end: 0 };
        for key in stages {
            let (lineage, of_stage) = system.store().stage(key)?;
            of_stages.push(of_stage);
            let end = lineage.groups.first().map_or(0, |group| group.end);
            blocks = BlockRange { start: lineage.trained().start, end };
        }
        let folder = folder_of(chains, *shard, *serving);
        write_adapter(
            &directory.join(&folder),
            system.training_backbone(),
            method,
            blocks,
            &StageTensors::of_chain(of_stages).map_err(s3t_engine::EngineError::from)?,
            pipeline.task,
            &base_model,
        )?;
        shards.push(ExportedShard { shard: *shard, folder, serving: *serving, stages: stages.clone(), blocks });
    }
    let export = Export {
        store: system.store().id(),
        epoch,
        base: system.backbone().digest().to_string(),
        labels: pipeline.labels.names().to_vec(),
        outputs: pipeline.task.outputs(),
        shards,
    };
    let path = directory.join(MANIFEST);
    let written = serde_json::to_string_pretty(&export).map_err(std::io::Error::from);
    written
        .and_then(|text| std::fs::write(&path, text + "\n"))
        .map_err(|cause| InterchangeError::Write { path, cause })?;
    Ok(export)
}

/// Older exports that deletions have superseded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Superseded {
    /// Exports that hold stages which the store no longer has. Their copies must be withdrawn.
    pub exports: Vec<SupersededExport>,
    /// Descriptions that cannot be read: their exports may hold dead stages.
    pub unreadable: Vec<PathBuf>,
}

/// An export that holds stages which the store no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupersededExport {
    /// The folder.
    pub folder: PathBuf,
    /// The number of its stages that are gone from the store.
    pub gone: usize,
}

/// Looks at the exports of the system's store beside a new one: in its parent folder and the subfolders of that.
///
/// # Errors
///
/// As [`superseded`].
pub fn superseded_beside(system: &System, export: &Path) -> Result<Superseded, InterchangeError> {
    let absolute = std::path::absolute(export).ok();
    match absolute.as_deref().and_then(Path::parent) {
        Some(folder) => superseded(system, folder),
        None => Ok(Superseded::default()),
    }
}

/// Looks at the exports of the system's store in the subfolders of `directory` and in itself.
///
/// # Errors
///
/// [`InterchangeError::Read`] if the folder cannot be listed.
pub fn superseded(system: &System, directory: &Path) -> Result<Superseded, InterchangeError> {
    let read = |cause| InterchangeError::Read { path: directory.into(), cause };
    let mut folders = vec![directory.to_path_buf()];
    for entry in std::fs::read_dir(directory).map_err(read)? {
        folders.push(entry.map_err(read)?.path());
    }
    folders.sort();
    let mut found = Superseded::default();
    let snapshot = system.snapshot()?;
    for folder in folders {
        let path = folder.join(MANIFEST);
        let text = match open_file(&path).and_then(|file| read_text_at_most(file, MOST_MANIFEST_BYTES)) {
            Ok(text) => text,
            Err(error) => {
                let absent = [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory].contains(&error.kind());
                found.unreadable.extend((!absent).then_some(path));
                continue;
            }
        };
        let Ok(export) = serde_json::from_str::<Export>(&text) else {
            found.unreadable.push(path);
            continue;
        };
        if export.store != system.store().id() {
            continue;
        }
        let stages: BTreeSet<&StageKey> = export.shards.iter().flat_map(|shard| &shard.stages).collect();
        let gone = stages.into_iter().filter(|key| !snapshot.has_stage(key)).count();
        if gone > 0 {
            found.exports.push(SupersededExport { folder, gone });
        }
    }
    Ok(found)
}
