//! An executor: the place where stages are trained. The guide docs/guide/writing-an-executor.md writes one step by step.

use s3t_executor::{Executor, ExecutorError, Session, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Trains nothing yet.
///
/// # Proof note
///
/// *Before*: a job holds everything that a stage is trained from. *After*: a stage has the bits that the trainer gives in this
/// process, or is not trained. *Why*: state here who checks that a result belongs to its job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewPlugin {}

#[typetag::serde(name = "new-plugin")]
impl Executor for NewPlugin {
    /// First step: return a session that trains. Until then the law says that no stage is trained.
    fn start(&self, _site: Site) -> Result<Box<dyn Session>, ExecutorError> {
        Err(ExecutorError::StartFailed {
            place: "new-plugin".into(),
            problem: "the executor is not written yet; return a session from `start`".into(),
        })
    }
}

s3t_executor::plugin!(Executor, "new-plugin", NewPlugin);
