//! The oracle: the same recipe on the same records without the deleted ones.

use std::collections::BTreeSet;

use s3t_core::StageKey;
use s3t_engine::{EngineError, System};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::signals::Signals;
use crate::EvalError;

/// The comparison of a system after a deletion with one that was made and trained without the deleted records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OracleEvidence {
    /// Stages that may serve after the deletion, each trained again without the deleted records.
    pub stages: u64,
    /// Answers that were compared, over members, non-members and population.
    pub answers: u64,
    /// `true` if every stage has the same bits in both systems.
    pub stages_equal: bool,
    /// `true` if every answer has the same bits from both systems.
    pub answers_equal: bool,
    /// The first difference, in words.
    pub difference: Option<String>,
}

impl OracleEvidence {
    /// `true` if nothing differs.
    pub fn equal(&self) -> bool {
        self.stages_equal && self.answers_equal
    }

    /// Compares the stages that may serve in a system with those of its oracle, and the answers of both.
    pub(crate) fn compare(
        after: (&System, &Signals),
        oracle: (&System, &Signals),
        records: usize,
    ) -> Result<Self, EvalError> {
        let mut difference = None;
        let stages = live(after.0)?;
        for key in &stages {
            let mine = after.0.store().stage(key).map_err(EngineError::from)?.1;
            let found = match oracle.0.store().stage(key) {
                Ok((_, its)) => mine.first_difference(&its).map(|difference| difference.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(found) = found {
                difference = Some(format!("stage {key}: {found}"));
                break;
            }
        }
        let stages_equal = difference.is_none();
        let answers_equal = after.1.bits == oracle.1.bits;
        if difference.is_none() && !answers_equal {
            let at = after.1.bits.iter().zip(&oracle.1.bits).position(|(one, other)| one != other);
            difference = Some(format!("answer {}", at.map_or_else(|| "lengths".to_owned(), |at| at.to_string())));
        }
        Ok(Self { stages: stages.len() as u64, answers: records as u64, stages_equal, answers_equal, difference })
    }
}

/// The stages that may serve.
pub(crate) fn live(system: &System) -> Result<BTreeSet<StageKey>, EvalError> {
    let snapshot = system.snapshot()?;
    Ok(snapshot.stages().iter().filter(|key| snapshot.is_live(key)).copied().collect())
}
