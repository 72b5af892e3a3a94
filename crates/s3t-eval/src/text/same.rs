//! Exact match.

/// Differences between an answer and a target that exact match does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Lower and upper case.
    pub case: bool,
    /// ASCII punctuation.
    pub punctuation: bool,
    /// ASCII digits.
    pub digits: bool,
}

/// True if an answer is the target, as `exact_match` of lm-evaluation-harness (and of Hugging Face `evaluate`) compares them.
///
/// ```
/// use s3t_eval::text::{Ignored, exact_match};
///
/// assert!(!exact_match("Three", "three.", Ignored::default()));
/// assert!(exact_match("Three", "three.", Ignored { case: true, punctuation: true, digits: false }));
/// ```
pub fn exact_match(target: &str, answer: &str, ignored: Ignored) -> bool {
    let kept = |text: &str| -> String {
        let text = if ignored.case { text.to_lowercase() } else { text.to_owned() };
        let drops =
            |c: char| (ignored.punctuation && c.is_ascii_punctuation()) || (ignored.digits && c.is_ascii_digit());
        text.chars().filter(|character| !drops(*character)).collect()
    };
    kept(target) == kept(answer)
}
