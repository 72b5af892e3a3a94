//! Messages of a chat.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroize;

use crate::limits::shown;
use crate::registry::unknown;

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The instructions that a chat stands under.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The names of the roles.
    pub const NAMES: [&str; 3] = ["system", "user", "assistant"];

    /// The role of this name.
    ///
    /// # Errors
    ///
    /// The sentence for another name.
    pub fn from_name(name: &str) -> Result<Self, String> {
        match name {
            "system" => Ok(Self::System),
            "user" => Ok(Self::User),
            "assistant" => Ok(Self::Assistant),
            "tool" | "function" | "ipython" => {
                Err(format!("role `{name}` is that of a tool call, which is not supported; roles: {}", roles()))
            }
            other => Err(unknown(&format!("role `{}`", shown(other)), other, &Self::NAMES)),
        }
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

fn roles() -> String {
    Role::NAMES.join(", ")
}

/// A message of a chat: its author and its text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The author.
    pub role: Role,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }

    /// Reads a list of messages, as data sets and requests have them: objects with `role` and `content`. Other fields may be there
    /// with the value null.
    ///
    /// ```
    /// use s3t_core::chat::{Message, Role};
    ///
    /// let list = serde_json::json!([{ "role": "user", "content": "Hello" }]);
    /// assert_eq!(Message::list(&list), Ok(vec![Message::new(Role::User, "Hello")]));
    /// let list = serde_json::json!([{ "role": "user", "content": [{ "type": "image_url" }] }]);
    /// assert!(Message::list(&list).unwrap_err().contains("message 1: `content` is a list of parts"));
    /// ```
    ///
    /// # Errors
    ///
    /// The problem with the first message that cannot be used, in words, without its text.
    pub fn list(value: &Value) -> Result<Vec<Self>, String> {
        let Value::Array(items) = value else {
            return Err("is not a list of messages; write [{\"role\": \"user\", \"content\": \"...\"}, ...]".into());
        };
        if items.is_empty() {
            return Err("is an empty list; a chat has at least one message".into());
        }
        let message = |(index, item): (usize, &Value)| {
            Self::from_json(item).map_err(|problem| format!("message {}: {problem}", index + 1))
        };
        items.iter().enumerate().map(message).collect()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        let Value::Object(fields) = value else {
            return Err("is not an object with `role` and `content`".into());
        };
        let role = match fields.get("role") {
            Some(Value::String(name)) => Role::from_name(name)?,
            Some(_) => return Err(format!("`role` is not a text; roles: {}", roles())),
            None => return Err(format!("has no `role`; roles: {}", roles())),
        };
        for (name, value) in fields {
            match name.as_str() {
                "role" | "content" => {}
                _ if value.is_null() => {}
                "tool_calls" | "tool_call_id" | "function_call" => {
                    return Err(format!("has `{name}`; tool calls are not supported"));
                }
                _ => return Err(unknown(&format!("field `{}`", shown(name)), name, &["role", "content"])),
            }
        }
        match fields.get("content") {
            Some(Value::String(content)) => Ok(Self::new(role, content.clone())),
            Some(Value::Array(_)) => {
                Err("`content` is a list of parts; give one text (other than texts is not supported)".into())
            }
            Some(Value::Null) | None => Err("has no `content`; give a text".into()),
            Some(_) => Err("`content` is not a text".into()),
        }
    }
}

/// The author alone: the text stays out of logs and messages.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} message of {} bytes", self.role.name(), self.content.len())
    }
}

impl Zeroize for Message {
    fn zeroize(&mut self) {
        self.content.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_that_cannot_be_used_are_refused_by_name_and_without_their_text() {
        for (list, problem) in [
            (json!("secret"), "is not a list of messages"),
            (json!([]), "is an empty list"),
            (json!(["secret"]), "message 1: is not an object"),
            (
                json!([{ "role": "user", "content": "a" }, { "content": "secret" }]),
                "message 2: has no `role`; roles: system, user, assistant",
            ),
            (json!([{ "role": 1, "content": "secret" }]), "message 1: `role` is not a text"),
            (json!([{ "role": "usr", "content": "secret" }]), "message 1: unknown role `usr`"),
            (json!([{ "role": "tool", "content": "secret" }]), "message 1: role `tool` is that of a tool call"),
            (json!([{ "role": "user" }]), "message 1: has no `content`"),
            (json!([{ "role": "user", "content": null }]), "message 1: has no `content`"),
            (json!([{ "role": "user", "content": 7 }]), "message 1: `content` is not a text"),
            (
                json!([{ "role": "user", "content": [{ "type": "text", "text": "secret" }] }]),
                "`content` is a list of parts",
            ),
            (
                json!([{ "role": "assistant", "content": "secret", "tool_calls": [] }]),
                "has `tool_calls`; tool calls are not supported",
            ),
            (json!([{ "role": "user", "content": "secret", "name": "x" }]), "unknown field `name`"),
        ] {
            let message = Message::list(&list).unwrap_err();
            assert!(message.contains(problem) && !message.contains("secret"), "{message}");
        }
        let nulls = json!([{ "role": "assistant", "content": "yes", "tool_calls": null }]);
        assert_eq!(Message::list(&nulls), Ok(vec![Message::new(Role::Assistant, "yes")]));
        assert!(!format!("{:?}", Message::new(Role::User, "secret")).contains("secret"));
    }
}
