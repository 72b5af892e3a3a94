//! `attack`: an audit by attack, in a copy of the store.

use std::path::{Path, PathBuf};

use s3t_core::{RecordId, SubjectId};
use s3t_engine::{Pipeline, System};
use s3t_eval::attack::{AttackObserver, AttackSettings, MembershipAudit, Named};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reply::{Reply, unless};
use crate::{ApiError, ErrorKind};

/// The request to attack a system. What is not given is as the pipeline's section `[attack]` says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AttackRequest {
    /// The pipeline file. If its store is not there, a copy is made from the data and trained.
    pub pipeline: PathBuf,
    /// Records that are deleted from the copy and attacked; drawn if neither records nor subjects are named.
    #[serde(default)]
    pub records: Vec<String>,
    /// Subjects that are deleted from the copy and attacked.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// In place of `attack.members`.
    #[serde(default)]
    pub members: Option<usize>,
    /// In place of `attack.non_members`.
    #[serde(default)]
    pub non_members: Option<usize>,
    /// In place of `attack.population`.
    #[serde(default)]
    pub population: Option<usize>,
    /// In place of `attack.references`.
    #[serde(default)]
    pub references: Option<usize>,
    /// `true` repairs the copy after the deletion, whatever `attack.repair` says.
    #[serde(default)]
    pub repair: bool,
    /// In place of `attack.confidence`.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// In place of `attack.seed`.
    #[serde(default)]
    pub seed: Option<u64>,
}

/// The answer to `attack`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttackAnswer {
    /// The audit by attack.
    pub attack: MembershipAudit,
}

impl Reply for AttackAnswer {
    fn failure(&self) -> Option<ErrorKind> {
        unless(self.attack.passed())
    }
}

impl AttackRequest {
    fn settings(&self, pipeline: &Pipeline) -> Result<AttackSettings, ApiError> {
        let given = AttackSettings::of(pipeline)?;
        let settings = AttackSettings {
            members: self.members.unwrap_or(given.members),
            non_members: self.non_members.unwrap_or(given.non_members),
            population: self.population.unwrap_or(given.population),
            references: self.references.unwrap_or(given.references),
            repair: self.repair || given.repair,
            confidence: self.confidence.unwrap_or(given.confidence),
            seed: self.seed.unwrap_or(given.seed),
        };
        match settings.problem() {
            Some((field, problem)) => Err(ApiError::field(field, problem)),
            None => Ok(settings),
        }
    }
}

/// Attacks a copy of a system. The store, if there is one, is not changed.
///
/// # Errors
///
/// [`ErrorKind::Refused`] for a pipeline or a request that cannot be used; [`ErrorKind::Store`] if the store cannot be read or belongs to
/// another arithmetic; [`ErrorKind::Interrupted`] if the observer stops it. A system whose answers differ from the oracle's is no error: see
/// [`Reply::failure`].
pub fn attack(request: &AttackRequest, observer: &dyn AttackObserver) -> Result<AttackAnswer, ApiError> {
    let pipeline = Pipeline::read(&request.pipeline)?;
    let settings = request.settings(&pipeline)?;
    let named = Named {
        records: request.records.iter().map(RecordId::new).collect::<Result<_, _>>()?,
        subjects: request.subjects.iter().map(SubjectId::new).collect::<Result<_, _>>()?,
    };
    let live = if pipeline.store.exists() { Some(System::open_read_only(pipeline)?) } else { None };
    let attack = run(&request.pipeline, live.as_ref(), &named, &settings, observer)?;
    Ok(AttackAnswer { attack })
}

/// Attacks a copy of an open system by the settings of its pipeline.
pub(crate) fn attack_in(
    file: &Path,
    system: &System,
    observer: &dyn AttackObserver,
) -> Result<MembershipAudit, ApiError> {
    let settings = AttackSettings::of(system.pipeline())?;
    run(file, Some(system), &Named::default(), &settings, observer)
}

fn run(
    file: &Path,
    live: Option<&System>,
    named: &Named,
    settings: &AttackSettings,
    observer: &dyn AttackObserver,
) -> Result<MembershipAudit, ApiError> {
    Ok(s3t_eval::attack::attack(&|| Pipeline::read(file), live, named, settings, observer)?)
}
