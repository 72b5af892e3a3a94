//! Records: what is trained on, and what is deleted.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::chat::{Message, Role};
use crate::digest::DigestBuilder;
use crate::{Digest, RecordId, StoreSecret, SubjectId};

/// The content of a record.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum Payload {
    /// An 8-bit image, rows from the top, channels interleaved: `[height, width, channels]`.
    Image {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// 1 for grey, 3 for RGB.
        channels: u8,
        /// `height * width * channels` values.
        pixels: Vec<u8>,
    },
    /// Numbers, used as they are.
    Features(Vec<f32>),
    /// Text, valid UTF-8.
    Text(String),
    /// Two texts that belong together, as a question and a passage.
    TextPair(String, String),
    /// A chat. The chat template of the model makes its text.
    Messages(Vec<Message>),
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Records are personal data: their content stays out of logs and messages.
        f.write_str(&self.describe())
    }
}

impl Payload {
    /// The kind and size of the content, without the content: `28x28x1 image`, `64 features`, `120 bytes of text`.
    pub fn describe(&self) -> String {
        match self {
            Self::Image { width, height, channels, .. } => format!("{width}x{height}x{channels} image"),
            Self::Features(values) => format!("{} features", values.len()),
            Self::Text(text) => format!("{} bytes of text", text.len()),
            Self::TextPair(first, second) => format!("pair of texts of {} and {} bytes", first.len(), second.len()),
            Self::Messages(messages) => {
                let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
                format!("chat of {} messages of {bytes} bytes", messages.len())
            }
        }
    }
}

/// The target of learning from a record; each [`Task`](crate::Task) takes one kind.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// Nothing: a record that is only asked about.
    None,
    /// The index of its class in the pipeline's list of labels.
    Class(u32),
    /// The indices of its classes, ascending and distinct; there may be none.
    Classes(Vec<u32>),
    /// A number.
    Value(f32),
    /// The text that follows the payload's.
    Text(String),
    /// The assistant's messages of the payload, a chat.
    Turns,
}

impl Target {
    /// The class index, if there is exactly one class.
    pub fn class(&self) -> Option<u32> {
        match self {
            Self::Class(class) => Some(*class),
            _ => None,
        }
    }

    /// The kind of the target, without its content.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::None => "no target",
            Self::Class(_) => "one class",
            Self::Classes(_) => "a set of classes",
            Self::Value(_) => "a number",
            Self::Text(_) => "a text",
            Self::Turns => "the assistant's turns",
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.describe())
    }
}

impl Zeroize for Payload {
    fn zeroize(&mut self) {
        match self {
            Self::Image { pixels, .. } => pixels.zeroize(),
            Self::Features(values) => values.zeroize(),
            Self::Text(text) => text.zeroize(),
            Self::TextPair(first, second) => {
                first.zeroize();
                second.zeroize();
            }
            Self::Messages(messages) => messages.zeroize(),
        }
    }
}

impl Zeroize for Target {
    fn zeroize(&mut self) {
        match self {
            Self::None | Self::Turns => {}
            Self::Class(class) => class.zeroize(),
            Self::Classes(classes) => classes.zeroize(),
            Self::Value(value) => value.zeroize(),
            Self::Text(text) => text.zeroize(),
        }
    }
}

/// One training example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its stable name.
    pub id: RecordId,
    /// The subject that the record belongs to, if one is named.
    pub subject: Option<SubjectId>,
    /// The target.
    pub target: Target,
    /// Its row in the source, counted from 0. Used by the `contiguous` partition only.
    pub ordinal: u64,
    /// Its content.
    pub payload: Payload,
}

/// Overwrites a record that is about to be dropped: its content, its target and its names.
impl Zeroize for Record {
    fn zeroize(&mut self) {
        self.id.wipe();
        if let Some(subject) = &mut self.subject {
            subject.wipe();
        }
        self.target.zeroize();
        self.payload.zeroize();
    }
}

impl Record {
    /// The same record without its target, as one that is asked about. A chat that is learnt from is asked about its last answer: it
    /// ends before the assistant's last messages.
    #[must_use]
    pub fn as_question(&self) -> Self {
        let mut question = Self { target: Target::None, ..self.clone() };
        if let (Payload::Messages(messages), Target::Turns) = (&mut question.payload, &self.target) {
            while messages.last().is_some_and(|message| message.role == Role::Assistant) {
                messages.pop();
            }
        }
        question
    }

    /// The keyed digest of everything that training can see of this record, and of its id and subject.
    ///
    /// The ordinal is left out: it says where the record stood among others and never reaches a model.
    pub fn digest(&self, secret: &StoreSecret) -> Digest {
        let mut builder = DigestBuilder::keyed(secret, "record");
        builder.bytes(self.id.as_str().as_bytes());
        match &self.subject {
            Some(subject) => builder.number(1).bytes(subject.as_str().as_bytes()),
            None => builder.number(0),
        };
        match &self.target {
            Target::None => builder.number(0),
            Target::Class(class) => builder.number(1).number(u64::from(*class)),
            Target::Classes(classes) => {
                builder.number(2).number(classes.len() as u64);
                classes.iter().fold(&mut builder, |builder, class| builder.number(u64::from(*class)))
            }
            Target::Value(value) => builder.number(3).bytes(&value.to_le_bytes()),
            Target::Text(text) => builder.number(4).bytes(text.as_bytes()),
            Target::Turns => builder.number(5),
        };
        match &self.payload {
            Payload::Image { width, height, channels, pixels } => builder
                .number(0)
                .number(u64::from(*width))
                .number(u64::from(*height))
                .number(u64::from(*channels))
                .bytes(pixels),
            Payload::Features(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                builder.number(1).bytes(&bytes)
            }
            Payload::Text(text) => builder.number(2).bytes(text.as_bytes()),
            Payload::TextPair(first, second) => builder.number(3).bytes(first.as_bytes()).bytes(second.as_bytes()),
            Payload::Messages(messages) => {
                builder.number(4).number(messages.len() as u64);
                messages.iter().fold(&mut builder, |builder, message| {
                    builder.bytes(message.role.name().as_bytes()).bytes(message.content.as_bytes())
                })
            }
        };
        builder.finish()
    }
}

/// The digest of a slice: over its records' digests in ascending order, so that it depends on the set and not on how it
/// was read.
pub fn slice_digest(secret: &StoreSecret, records: impl IntoIterator<Item = Digest>) -> Digest {
    let mut digests: Vec<Digest> = records.into_iter().collect();
    digests.sort_unstable();
    let mut builder = DigestBuilder::keyed(secret, "slice");
    builder.number(digests.len() as u64);
    for digest in &digests {
        builder.digest(digest);
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, payload: Payload) -> Record {
        Record { id: RecordId::new(id).unwrap(), subject: None, target: Target::Class(0), ordinal: 0, payload }
    }

    #[test]
    fn digest_depends_on_content_and_secret_but_not_on_the_ordinal() {
        let secret = StoreSecret::from_bytes([1; 32]);
        let base = record("a", Payload::Features(vec![1.0, 2.0]));
        let chat = |messages: &[(Role, &str)]| {
            record("a", Payload::Messages(messages.iter().map(|(role, text)| Message::new(*role, *text)).collect()))
        };
        assert_ne!(chat(&[(Role::User, "12")]).digest(&secret), chat(&[(Role::Assistant, "12")]).digest(&secret));
        assert_ne!(
            chat(&[(Role::User, "12")]).digest(&secret),
            chat(&[(Role::User, "1"), (Role::User, "2")]).digest(&secret)
        );
        let digest = base.digest(&secret);
        assert_eq!(Record { ordinal: 9, ..base.clone() }.digest(&secret), digest);
        for other in [
            Record { target: Target::Class(1), ..base.clone() },
            Record { target: Target::Classes(vec![0]), ..base.clone() },
            Record { target: Target::Value(0.0), ..base.clone() },
            Record { target: Target::None, ..base.clone() },
            Record { target: Target::Turns, ..base.clone() },
            Record { subject: Some(SubjectId::new("a").unwrap()), ..base.clone() },
            record("b", base.payload.clone()),
            record("a", Payload::Features(vec![1.0, 2.5])),
            record("a", Payload::Text("12".into())),
            record("a", Payload::TextPair("1".into(), "2".into())),
            record("a", Payload::TextPair("12".into(), String::new())),
            chat(&[(Role::User, "12")]),
            chat(&[(Role::Assistant, "12")]),
            chat(&[(Role::User, "1"), (Role::User, "2")]),
        ] {
            assert_ne!(other.digest(&secret), digest);
        }
        assert_ne!(base.digest(&StoreSecret::from_bytes([2; 32])), digest);
    }

    #[test]
    fn slice_digest_ignores_reading_order() {
        let secret = StoreSecret::from_bytes([1; 32]);
        let digests = ["a", "b", "c"].map(|id| record(id, Payload::Text(String::new())).digest(&secret));
        let forward = slice_digest(&secret, digests);
        assert_eq!(slice_digest(&secret, digests.into_iter().rev()), forward);
        assert_ne!(slice_digest(&secret, digests[..2].iter().copied()), forward);
    }

    #[test]
    fn content_stays_out_of_debug_output() {
        let text = format!("{:?}", record("a", Payload::Text("my secret".into())));
        assert!(!text.contains("secret"), "{text}");
        let mut chat = record("a", Payload::Messages(vec![Message::new(Role::User, "my secret")]));
        let text = format!("{chat:?}");
        assert!(text.contains("chat of 1 messages of 9 bytes") && !text.contains("secret"), "{text}");
        chat.zeroize();
        assert_eq!(chat.payload, Payload::Messages(Vec::new()));
    }
}
