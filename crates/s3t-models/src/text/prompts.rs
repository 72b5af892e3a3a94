//! Prompts that no record holds: texts and chats that somebody asks about.

use s3t_core::chat::Message;
use s3t_core::limits::{caught, shown};

use super::{TextEncoder, broken};
use crate::ModelError;

impl TextEncoder {
    /// The tokens of a text that a completion is to follow, with the special tokens that the tokenizer puts around it.
    pub(crate) fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.prompt(text, true)
    }

    /// The tokens of a chat that the model's next message is to follow. The template writes all special tokens.
    pub(crate) fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>, ModelError> {
        self.check_messages(messages).map_err(|problem| ModelError::Prompt { problem })?;
        self.prompt(&self.chat.template()?.render(messages, true)?, false)
    }

    fn prompt(&self, text: &str, special: bool) -> Result<Vec<u32>, ModelError> {
        let refuse = |problem: String| ModelError::Prompt { problem };
        self.limits.check_text(text.len()).map_err(refuse)?;
        let encoded = caught(|| self.parts.encode(text, special)).map_err(|panic| refuse(broken(&panic)))?;
        let encoding = encoded
            .map_err(|error| refuse(format!("the text cannot be cut into tokens ({})", shown(&error.to_string()))))?;
        let ids = encoding.get_ids().to_vec();
        let most = self.max_tokens - 1;
        if ids.is_empty() || ids.len() > most {
            let count = ids.len();
            return Err(refuse(format!("it has {count} tokens; prompts have 1 to {most}, so that a response follows")));
        }
        self.check_embedded(&ids).map_err(refuse)?;
        Ok(ids)
    }

    /// Checks that the model has an embedding for each token.
    pub(super) fn check_embedded(&self, ids: &[u32]) -> Result<(), String> {
        let Some(id) = ids.iter().find(|id| **id as usize >= self.room.vocabulary) else { return Ok(()) };
        let token = self.parts.id_to_token(*id).unwrap_or_default();
        Err(format!(
            "the text has the token `{token}` (number {id}), but the model has embeddings for 0 to {} alone",
            self.room.vocabulary - 1
        ))
    }
}
