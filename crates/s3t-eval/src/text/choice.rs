//! Multiple choice by likelihood.

/// The unit by whose number a choice's log-likelihood is divided before choices are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lengths {
    /// No division: the likeliest text.
    Whole,
    /// Unicode characters of the choice.
    Characters,
    /// Bytes of the choice in UTF-8.
    Bytes,
}

/// A choice: its text, and the natural logarithm of its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice<'a> {
    /// The text, as lengths are counted on it.
    pub text: &'a str,
    /// The natural logarithm of its probability behind the question.
    pub log_probability: f64,
}

/// The position of the chosen text, as lm-evaluation-harness chooses (`acc`, `acc_norm`, `acc_bytes`): the largest log-likelihood for
/// each unit of length, and of equal ones the first. An empty text has a length of 0, so that its quotient is minus infinity. `None`
/// without any choice.
///
/// ```
/// use s3t_eval::text::{Choice, Lengths, chosen};
///
/// let choices = [Choice { text: "no", log_probability: -3.0 }, Choice { text: "perhaps", log_probability: -4.0 }];
/// assert_eq!(chosen(&choices, Lengths::Whole), Some(0));
/// assert_eq!(chosen(&choices, Lengths::Characters), Some(1));
/// ```
pub fn chosen(choices: &[Choice<'_>], lengths: Lengths) -> Option<usize> {
    let score = |choice: &Choice<'_>| match lengths {
        Lengths::Whole => choice.log_probability,
        Lengths::Characters => choice.log_probability / choice.text.chars().count() as f64,
        Lengths::Bytes => choice.log_probability / choice.text.len() as f64,
    };
    let mut best: Option<(usize, f64)> = None;
    for (at, score) in choices.iter().map(score).enumerate() {
        if best.is_none_or(|(_, largest)| score > largest) {
            best = Some((at, score));
        }
    }
    best.map(|(at, _)| at)
}
