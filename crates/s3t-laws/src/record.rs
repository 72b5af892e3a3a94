//! Records and questions, as the tester sees them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The fields of a record without its names, or a question.
pub type Content = Map<String, Value>;

/// A record: its names, and a content that the tester does not read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The name by which the record is forgotten.
    pub id: String,
    /// The person or thing that the record is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Every other field.
    #[serde(flatten)]
    pub content: Content,
}
