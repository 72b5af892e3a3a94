//! Chats as tokens: the model's template makes the text, and what the assistant said in it is learnt.

use std::ops::Range;

use s3t_core::Record;
use s3t_core::chat::{Message, Role};
use s3t_core::limits::{caught, shown};

use super::{TextEncoder, broken};
use crate::ModelError;

/// The largest number of messages of a chat: the text is made anew for each of the assistant's.
const MAX_MESSAGES: usize = 1024;

impl TextEncoder {
    /// The tokens of a chat that the model's next message is to follow.
    pub(super) fn asked_chat(&self, record: &Record, messages: &[Message]) -> Result<Vec<u32>, ModelError> {
        let refuse = |problem: String| ModelError::Chat { record: record.id.to_string(), problem };
        self.check_messages(messages).map_err(refuse)?;
        let text = self.chat.template()?.render(messages, true)?;
        let ids = self.offsets(&text).map_err(refuse)?.into_iter().map(|(id, _)| id).collect();
        Ok(ids)
    }

    /// The tokens of a chat, and the ranges of them that are learnt: those that overlap what the template writes of the assistant's
    /// messages behind the prompt for them.
    pub(super) fn learnt_chat(
        &self,
        record: &Record,
        messages: &[Message],
    ) -> Result<(Vec<u32>, Vec<Range<usize>>), ModelError> {
        let refuse = |problem: String| ModelError::Chat { record: record.id.to_string(), problem };
        self.check_messages(messages).map_err(refuse)?;
        let (text, turns) = self.turns(record, messages)?;
        let tokens = self.offsets(&text).map_err(refuse)?;
        let mut learnt: Vec<Range<usize>> = Vec::new();
        for turn in turns {
            let overlaps = |(_, of_token): &(u32, Range<usize>)| of_token.end > turn.start && of_token.start < turn.end;
            // The first token follows nothing, so that nothing predicts it.
            for index in (1..tokens.len()).filter(|index| overlaps(&tokens[*index])) {
                match learnt.last_mut() {
                    Some(last) if last.end == index => last.end += 1,
                    // A token that lies in two turns is learnt once.
                    Some(last) if last.end > index => {}
                    _ => learnt.push(index..index + 1),
                }
            }
        }
        if learnt.is_empty() {
            return Err(refuse("the template writes no token of the assistant's messages".into()));
        }
        Ok((tokens.into_iter().map(|(id, _)| id).collect(), learnt))
    }

    /// The text of a chat, and the parts of it that the assistant said.
    fn turns(&self, record: &Record, messages: &[Message]) -> Result<(String, Vec<Range<usize>>), ModelError> {
        let refuse = |problem: String| ModelError::Chat { record: record.id.to_string(), problem };
        let assistant: Vec<usize> =
            (0..messages.len()).filter(|index| messages[*index].role == Role::Assistant).collect();
        match assistant.first() {
            None => return Err(refuse("it has no message of the assistant, so that nothing is learnt of it".into())),
            Some(0) => return Err(refuse("it begins with the assistant, who has nothing to answer".into())),
            Some(_) => {}
        }
        let template = self.chat.template()?;
        let mut prefixes = vec![(messages.len(), false)];
        prefixes.extend(assistant.iter().flat_map(|index| [(*index, true), (index + 1, false)]));
        let mut ends = Vec::new();
        let text = template.prefixes(messages, &prefixes, |whole, prefix| {
            if !whole.starts_with(prefix) {
                return false;
            }
            ends.push(prefix.len());
            true
        });
        let text = text?.map_err(|(count, prompt)| {
            let prompt = if prompt { " with the prompt for the answer" } else { "" };
            refuse(format!(
                "the template writes the first {count} messages{prompt} otherwise when more follow, so that what is learnt of a \
                 turn would not be what the model is asked; give chats of one turn, or a template whose text only grows"
            ))
        })?;
        let turns = ends.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
        Ok((text, turns))
    }

    /// The tokens of a text that has its special tokens, each with its bytes in the text.
    fn offsets(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, String> {
        self.limits.check_text(text.len())?;
        let encoded = caught(|| self.parts.encode(text, false)).map_err(|panic| broken(&panic))?;
        let encoding =
            encoded.map_err(|error| format!("its text cannot be cut into tokens ({})", shown(&error.to_string())))?;
        let offsets = encoding.get_offsets().iter().map(|(start, end)| *start..*end);
        Ok(encoding.get_ids().iter().copied().zip(offsets).collect())
    }

    /// Checks the number and the length of a chat's messages.
    pub(super) fn check_messages(&self, messages: &[Message]) -> Result<(), String> {
        if messages.len() > MAX_MESSAGES {
            return Err(format!("it has {} messages; a chat has at most {MAX_MESSAGES}", messages.len()));
        }
        self.limits.check_text(messages.iter().map(|message| message.content.len()).sum())
    }
}
