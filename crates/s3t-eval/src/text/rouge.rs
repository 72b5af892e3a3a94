//! ROUGE-L: the longest common subsequence of words (Lin 2004).

/// Precision, recall and their harmonic mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rouge {
    /// The common words as a share of the answer's.
    pub precision: f64,
    /// The common words as a share of the target's.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f_measure: f64,
}

/// ROUGE-L of an answer against a target, as `rouge_score` 0.1.2 gives it without a stemmer: texts in lower case, cut into words of
/// the letters `a` to `z` and digits; 0 where either has no word.
///
/// ```
/// use s3t_eval::text::rouge_l;
///
/// let rouge = rouge_l("The quick brown fox", "the brown dog, quick!");
/// assert_eq!((rouge.precision, rouge.recall), (0.5, 0.5));
/// ```
pub fn rouge_l(target: &str, answer: &str) -> Rouge {
    let (target, answer) = (words(target), words(answer));
    if target.is_empty() || answer.is_empty() {
        return Rouge { precision: 0.0, recall: 0.0, f_measure: 0.0 };
    }
    let common = longest_common_subsequence(&target, &answer) as f64;
    let (precision, recall) = (common / answer.len() as f64, common / target.len() as f64);
    let both = precision + recall;
    let f_measure = if both > 0.0 { 2.0 * precision * recall / both } else { 0.0 };
    Rouge { precision, recall, f_measure }
}

/// The words of a text: runs of ASCII letters and digits, after the text was put in lower case.
fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let is_word = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    lower.split(|character| !is_word(character)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn longest_common_subsequence(one: &[String], other: &[String]) -> usize {
    let mut before = vec![0; other.len() + 1];
    for word in one {
        let mut row = vec![0; other.len() + 1];
        for (at, theirs) in other.iter().enumerate() {
            row[at + 1] = if word == theirs { before[at] + 1 } else { row[at].max(before[at + 1]) };
        }
        before = row;
    }
    before.last().copied().unwrap_or(0)
}
