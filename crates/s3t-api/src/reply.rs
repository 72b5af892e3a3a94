//! The common side of all answers.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ErrorKind;

/// An answer: a JSON object. A request may be answered and still have failed, as a verification that found a difference has.
pub trait Reply: Serialize + DeserializeOwned + JsonSchema {
    /// The kind of failure that the answer tells of.
    fn failure(&self) -> Option<ErrorKind> {
        None
    }
}

macro_rules! plain_answers {
    ($($answer:ty),* $(,)?) => {$(impl $crate::Reply for $answer {})*};
}
pub(crate) use plain_answers;

/// The failure of an answer that says whether everything holds.
pub(crate) fn unless(passed: bool) -> Option<ErrorKind> {
    (!passed).then_some(ErrorKind::DoesNotHold)
}
