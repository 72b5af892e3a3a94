//! Names of records, subjects, shards and slices.
//!
//! One rule holds for the ids of records and subjects wherever they are read, in data, in lists, in options and in pipeline files:
//! what ends a line and a byte order mark at the start of a file are taken off, and nothing else is. So `a` and `a ` are two ids
//! everywhere; that they are not in one data set is seen to by [`spelling`](crate::spelling). [`text_of_file`] and
//! [`lines_of_list`] are the rule.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::CoreError;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps an id.
            ///
            /// # Errors
            ///
            /// [`CoreError::InvalidId`] if it is empty, longer than 256 bytes or holds control characters.
            pub fn new(id: impl Into<String>) -> Result<Self, CoreError> {
                let id = id.into();
                let reason = if id.is_empty() {
                    "it is empty"
                } else if id.len() > 256 {
                    "it is longer than 256 bytes"
                } else if id.chars().any(char::is_control) {
                    "it holds a control character"
                } else {
                    return Ok(Self(id));
                };
                Err(CoreError::InvalidId { kind: $kind, id, reason })
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Overwrites the id, which is about to be dropped.
            #[cfg(feature = "records")]
            pub(crate) fn wipe(&mut self) {
                zeroize::Zeroize::zeroize(&mut self.0);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = CoreError;

            fn try_from(id: String) -> Result<Self, CoreError> {
                Self::new(id)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id! {
    /// The stable name of one record, given by the user or derived from its place in the source.
    RecordId, "record"
}

text_id! {
    /// The person, or other owner, that a record belongs to.
    SubjectId, "subject"
}

/// The text of a file without the byte order mark at its start.
pub fn text_of_file(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The ids of a list with one a line, each with its line from 1, without what ends the lines. Lines with nothing in them are passed
/// over; blanks are not nothing. A byte order mark at the start is taken off.
pub fn lines_of_list(text: &str) -> impl Iterator<Item = (u64, &str)> {
    // No id holds a control character, so either character ends a line wherever it stands.
    let mut line = 1;
    text_of_file(text).split_inclusive(['\n', '\r']).filter_map(move |part| {
        let at = line;
        let id = part.trim_end_matches(['\n', '\r']);
        line += u64::from(part.ends_with('\n'));
        (!id.is_empty()).then_some((at, id))
    })
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The number as an index.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// A shard, counted from 0: one disjoint part of the data, with an ensemble member of its own.
    ShardId
}

number_id! {
    /// A slice of a shard, counted from 0.
    SliceId
}

/// The place of a record: its shard, and its slice in that shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SliceAddress {
    /// The shard.
    pub shard: ShardId,
    /// The slice of that shard.
    pub slice: SliceId,
}

impl SliceAddress {
    /// The slice `slice` of the shard `shard`.
    pub const fn new(shard: u32, slice: u32) -> Self {
        Self { shard: ShardId(shard), slice: SliceId(slice) }
    }
}

impl fmt::Display for SliceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} slice {}", self.shard, self.slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_ids_are_refused_with_a_reason() {
        for (id, reason) in [("", "empty"), ("a\nb", "control"), (&"x".repeat(257) as &str, "256")] {
            let message = RecordId::new(id).unwrap_err().to_string();
            assert!(message.contains(reason), "{message}");
        }
        assert_eq!(SubjectId::new("zoë").unwrap().as_str(), "zoë");
    }

    #[test]
    fn only_line_ends_and_the_mark_of_the_file_are_taken_off() {
        let lines = |text| lines_of_list(text).collect::<Vec<_>>();
        assert_eq!(lines("\u{feff}a\r\nb \r\n\r\n c\n"), [(1, "a"), (2, "b "), (4, " c")]);
        assert_eq!(lines("a\n \n\u{feff}b\n\u{a0}c"), [(1, "a"), (2, " "), (3, "\u{feff}b"), (4, "\u{a0}c")]);
        assert_eq!(lines("a\rb\r"), [(1, "a"), (1, "b")]);
        assert_eq!(lines("\u{feff}\u{feff}a"), [(1, "\u{feff}a")]);
        assert_eq!(lines("").len() + lines("\u{feff}\n").len(), 0);
        assert_eq!(text_of_file("\u{feff}a\u{feff}"), "a\u{feff}");
    }
}
