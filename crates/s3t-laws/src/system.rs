//! The interface of a system under test.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Content, LawsError, Record};

/// The promise of a system about its answers after a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Equal bits in the two worlds, for one seed.
    Bits,
    /// Equal distributions in the two worlds, over seeds.
    Distribution,
}

/// An optional ability of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// [`UnlearningSystem::settle`] does something.
    Settle,
    /// [`UnlearningSystem::dump`] gives a state.
    Dump,
    /// The system can be launched again on the folder of an earlier process.
    Restart,
}

/// Data about forgotten records that a system keeps knowingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// The ids of forgotten records stay on disk, for instance as a list of deletions.
    Names,
}

/// The name of a system and its promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The name, for the report.
    pub name: String,
    /// The promise that the laws hold the system to.
    pub guarantee: Guarantee,
    /// Optional abilities.
    #[serde(default)]
    pub supports: BTreeSet<Capability>,
    /// Data that the system keeps knowingly.
    #[serde(default)]
    pub keeps: BTreeSet<Kept>,
}

impl Description {
    /// A description without optional abilities.
    pub fn new(name: impl Into<String>, guarantee: Guarantee) -> Self {
        Self { name: name.into(), guarantee, supports: BTreeSet::new(), keeps: BTreeSet::new() }
    }

    /// The description with an ability more.
    #[must_use]
    pub fn with(mut self, capability: Capability) -> Self {
        self.supports.insert(capability);
        self
    }
}

/// The folder and the seed that a system is launched with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The folder that the system may write to, and the only one that is searched.
    pub folder: PathBuf,
    /// The seed of everything random.
    pub seed: u64,
    /// `true` if an earlier process of the same system wrote to the folder.
    pub resume: bool,
}

/// The result of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// The deletion counts from now on.
    Done,
    /// The system refused because it does not know an id, and changed nothing.
    Unknown,
}

/// The answers to a list of questions.
#[derive(Debug, Clone, PartialEq)]
pub enum Answers {
    /// A list of finite numbers for each question.
    Given(Vec<Vec<f64>>),
    /// Nothing is left that could answer.
    Unavailable,
}

/// An unlearning system in one process. The laws launch many of them, each on a folder of its own.
pub trait UnlearningSystem {
    /// The name and the promises of the system.
    fn description(&self) -> &Description;

    /// Trains on records; called once in the life of a folder.
    ///
    /// # Errors
    ///
    /// Any [`LawsError`]; an in-process system uses [`LawsError::Refused`].
    fn train(&mut self, records: &[Record]) -> Result<(), LawsError>;

    /// Forgets records. The deletion counts when the function returns.
    ///
    /// # Errors
    ///
    /// As [`UnlearningSystem::train`]. Unknown ids are no error, but [`Forgotten::Unknown`] or ignored.
    fn forget(&mut self, ids: &[String]) -> Result<Forgotten, LawsError>;

    /// Answers questions, in their order.
    ///
    /// # Errors
    ///
    /// As [`UnlearningSystem::train`].
    fn answer(&mut self, questions: &[Content]) -> Result<Answers, LawsError>;

    /// Finishes what was put off; nothing by default.
    ///
    /// # Errors
    ///
    /// As [`UnlearningSystem::train`].
    fn settle(&mut self) -> Result<(), LawsError> {
        Ok(())
    }

    /// The state that answers depend on; `None` by default.
    ///
    /// # Errors
    ///
    /// As [`UnlearningSystem::train`].
    fn dump(&mut self) -> Result<Option<Value>, LawsError> {
        Ok(None)
    }

    /// Ends the system in order; dropping it by default.
    ///
    /// # Errors
    ///
    /// As [`UnlearningSystem::train`].
    fn stop(self: Box<Self>) -> Result<(), LawsError> {
        Ok(())
    }

    /// Ends the system without warning; dropping it by default.
    fn kill(self: Box<Self>) {}
}

/// Launches systems of one kind.
pub trait Launcher {
    /// Launches a system on a folder.
    ///
    /// # Errors
    ///
    /// Any [`LawsError`].
    fn launch(&self, home: &Home) -> Result<Box<dyn UnlearningSystem>, LawsError>;
}
