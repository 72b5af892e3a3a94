//! The settings of an audit by attack: the section `[attack]` of a pipeline.

use s3t_engine::{EngineError, Pipeline};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings of an audit by attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttackSettings {
    /// The largest number of records that are deleted from the copy and attacked.
    pub members: usize,
    /// The largest number of held-out records that they are told from.
    pub non_members: usize,
    /// The largest number of further held-out records: the population that RMIA compares with.
    pub population: usize,
    /// Reference systems that are trained on random halves of the data, an even number: each record is in one of every two. With 0 the
    /// references are the store's own stages that never saw the record.
    pub references: usize,
    /// `true` repairs the copy after the deletion, and trains the oracle whole.
    pub repair: bool,
    /// The confidence of intervals, between 0 and 1.
    pub confidence: f64,
    /// Changes which records are drawn.
    pub seed: u64,
}

impl Default for AttackSettings {
    fn default() -> Self {
        Self {
            members: 500,
            non_members: 1000,
            population: 250,
            references: 0,
            repair: false,
            confidence: 0.95,
            seed: 0,
        }
    }
}

impl AttackSettings {
    /// The most records that an attack takes: tests of distributions look at every pair.
    pub const MOST_MEMBERS: usize = 20_000;

    /// The settings of a pipeline, checked.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] for the first key that cannot be used.
    pub fn of(pipeline: &Pipeline) -> Result<Self, EngineError> {
        let settings: Self = pipeline.settings_of("attack")?;
        match settings.problem() {
            Some((key, problem)) => Err(pipeline.refuse_setting("attack", key, &problem)),
            None => Ok(settings),
        }
    }

    /// The first field that cannot be used, with the problem in words that go on after its name.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let sizes = [("members", self.members), ("non_members", self.non_members), ("population", self.population)];
        if let Some((key, value)) = sizes.into_iter().find(|(_, value)| *value < 2) {
            return Some((key, format!("is {value}; use at least 2")));
        }
        if self.members > Self::MOST_MEMBERS {
            return Some(("members", format!("is {}; use at most {}", self.members, Self::MOST_MEMBERS)));
        }
        if !self.references.is_multiple_of(2) {
            let problem = format!("is {}; use an even number, as each record is in one of every two", self.references);
            return Some(("references", problem));
        }
        let is_share = self.confidence > 0.0 && self.confidence < 1.0;
        (!is_share).then(|| ("confidence", format!("is {}; use a number between 0 and 1", self.confidence)))
    }
}
