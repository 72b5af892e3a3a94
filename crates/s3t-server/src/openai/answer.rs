//! Answers.

use s3t_engine::Finished;
use s3t_ledger::{Epoch, ShardServes};
use serde::Serialize;
use utoipa::ToSchema;

use super::scores::{ChatScores, CompletionScores};

/// The deletions and stages that a text knows of and came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Origin {
    /// The deletions that the text's last token knows of.
    epoch: u64,
    /// The deletions that its first token knows of. Less than `epoch` if a deletion came in the middle.
    began: u64,
    /// The last stage of each shard that the last token came from.
    stages: Vec<ShardStage>,
}

/// The stage of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ShardStage {
    shard: u32,
    /// The stage's key; `null` for the base model.
    stage: Option<String>,
}

impl Origin {
    pub(crate) fn new(began: Epoch, epoch: Epoch, stages: &[ShardServes]) -> Self {
        let stage =
            |serves: &ShardServes| ShardStage { shard: serves.shard.0, stage: serves.stage.map(|key| key.to_string()) };
        Self { epoch: epoch.0, began: began.0, stages: stages.iter().map(stage).collect() }
    }

    pub(crate) fn of(finished: &Finished) -> Self {
        Self::new(finished.began, finished.epoch, &finished.stages)
    }

    /// Of several texts the one that knows of the fewest deletions.
    pub(crate) fn oldest<'a>(all: impl Iterator<Item = &'a Self>) -> Option<Self> {
        all.min_by_key(|origin| (origin.began, origin.epoch)).cloned()
    }

    /// The deletions that every token knows of.
    pub(crate) fn began(&self) -> u64 {
        self.began
    }

    /// `SHARD=KEY`, with commas between.
    pub(crate) fn stages_as_text(&self) -> String {
        let text = |of: &ShardStage| format!("{}={}", of.shard, of.stage.as_deref().unwrap_or_default());
        self.stages.iter().map(text).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn shards(&self) -> usize {
        self.stages.len()
    }
}

/// The tokens that an answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[allow(clippy::struct_field_names, reason = "the names are OpenAI's")]
pub(crate) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl Usage {
    pub(crate) fn add(&mut self, finished: &Finished) {
        self.prompt_tokens += finished.prompt_tokens;
        self.completion_tokens += finished.new_tokens;
        self.total_tokens += finished.prompt_tokens + finished.new_tokens;
    }
}

/// The fields that an answer and each chunk of a stream begin with.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Head {
    /// An id of the answer.
    pub(crate) id: String,
    /// The kind of the object.
    pub(crate) object: &'static str,
    /// The time in seconds since 1970.
    pub(crate) created: i64,
    /// The model's name.
    pub(crate) model: String,
}

/// Texts, or a chunk of a stream of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Completion {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
    /// Of several texts that of the one that knows of the fewest deletions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s3t: Option<Origin>,
}

/// A text, or a part of one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionChoice {
    /// The place of its prompt.
    pub(crate) index: usize,
    pub(crate) text: String,
    pub(crate) logprobs: Option<CompletionScores>,
    /// `stop`, `length` or `deletion`; `null` while it goes on.
    pub(crate) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s3t: Option<Origin>,
}

/// A message, or a chunk of a stream of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatAnswer {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) choices: Vec<ChatChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s3t: Option<Origin>,
}

/// A message, or a part of one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    pub(crate) index: usize,
    /// The whole message, where it is not a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<Delta>,
    /// A part of the message, in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<Delta>,
    pub(crate) logprobs: Option<ChatScores>,
    /// `stop`, `length` or `deletion`; `null` while it goes on.
    pub(crate) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s3t: Option<Origin>,
}

/// A message or a part of one.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
}

/// The end of a part of a text, in either interface.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) index: usize,
    pub(crate) text: String,
    pub(crate) scores: Option<Vec<super::scores::Score>>,
    /// The characters before it.
    pub(crate) offset: usize,
    pub(crate) finish_reason: Option<&'static str>,
    pub(crate) origin: Option<Origin>,
}

/// The models of the server: the one that it has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Models {
    pub(crate) object: &'static str,
    pub(crate) data: Vec<Model>,
}

/// The model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Model {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    /// The time at which the server started, in seconds since 1970.
    pub(crate) created: i64,
    pub(crate) owned_by: &'static str,
    /// The deletions that it knows of, and the stages that answer.
    pub(crate) s3t: Origin,
}
