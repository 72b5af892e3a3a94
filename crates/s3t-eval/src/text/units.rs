//! The units by which perplexities are taken.

/// The bytes of a text in UTF-8.
pub fn bytes(text: &str) -> usize {
    text.len()
}

/// The words of a text as lm-evaluation-harness counts them: the pieces between runs of blanks, the empty ones at its ends included.
///
/// ```
/// use s3t_eval::text::words;
///
/// assert_eq!((words("a b"), words(" a  b\n"), words("")), (2, 4, 1));
/// ```
pub fn words(text: &str) -> usize {
    let (mut pieces, mut blank) = (1, false);
    for character in text.chars() {
        let is_blank = is_python_space(character);
        pieces += usize::from(is_blank && !blank);
        blank = is_blank;
    }
    pieces
}

/// The characters that `\s` matches in Python: Unicode's blanks, and the four separators of ASCII.
fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}
