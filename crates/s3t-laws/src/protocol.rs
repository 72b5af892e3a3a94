use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Content, Description, Record};

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;

/// The longest line that is read, in bytes.
pub const MAX_LINE: u64 = 64 << 20;

/// A request to a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// The first request of a process.
    Hello {
        /// [`VERSION`].
        protocol: u32,
        /// The folder that the system may write to.
        folder: String,
        /// The seed of everything random.
        seed: u64,
        /// `true` if an earlier process wrote to the folder.
        resume: bool,
    },
    /// Train on records.
    Train {
        /// The records.
        records: Vec<Record>,
    },
    /// Forget records.
    Forget {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Finish what was put off.
    Settle,
    /// Answer questions.
    Answer {
        /// The questions.
        questions: Vec<Content>,
    },
    /// Give the state that answers depend on.
    Dump,
    /// End.
    Stop,
}

impl Request {
    /// The value of `op`.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Train { .. } => "train",
            Self::Forget { .. } => "forget",
            Self::Settle => "settle",
            Self::Answer { .. } => "answer",
            Self::Dump => "dump",
            Self::Stop => "stop",
        }
    }
}

/// A request with the number that its response repeats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Numbered {
    /// The number.
    pub id: u64,
    /// The request.
    #[serde(flatten)]
    pub request: Request,
}

/// The fields that every response has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The number of the request.
    pub id: u64,
    /// `true` if the request was done.
    pub ok: bool,
    /// The kind of a refusal.
    #[serde(default)]
    pub kind: Option<String>,
    /// The reason of a refusal, for people.
    #[serde(default)]
    pub error: Option<String>,
}

/// The response to `hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Greeting {
    /// [`VERSION`].
    pub protocol: u32,
    /// The name and the promises of the system.
    #[serde(flatten)]
    pub description: Description,
}

/// The response to `answer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerList {
    /// A list of numbers for each question.
    pub answers: Vec<Vec<f64>>,
}

/// The response to `dump`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateDump {
    /// The state.
    pub state: Value,
}
