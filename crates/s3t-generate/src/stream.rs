//! The text of tokens as they come, and the texts before which it ends.

/// Tokens of the prompt that are decoded with the first made token: its text may depend on what stands before it.
const CONTEXT: usize = 5;

/// The replacement character, which stands for a character of which bytes are missing.
const PARTIAL: char = '\u{fffd}';

/// A text that grows by tokens.
///
/// Text is given out as soon as it is whole characters and cannot be the beginning of a text to end before.
#[derive(Debug, Clone)]
pub struct TextStream {
    /// The last tokens of the prompt, and the made tokens.
    ids: Vec<u32>,
    /// The first token that is decoded with the next, and the first whose text was not given out.
    from: usize,
    read: usize,
    /// Whole characters that may be the beginning of a stop text.
    held: String,
    stops: Vec<String>,
}

impl TextStream {
    /// A text behind a prompt, which ends before each of `stops`.
    pub fn new(prompt: &[u32], stops: Vec<String>) -> Self {
        let ids = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        let read = ids.len();
        Self { ids, from: 0, read, held: String::new(), stops }
    }

    /// Adds a token: the text that is given out, and `true` if a stop text was reached, before which it ends.
    pub fn push(&mut self, id: u32, decode: &dyn Fn(&[u32]) -> String) -> (String, bool) {
        self.ids.push(id);
        let text = decode(&self.ids[self.from..]);
        if text.ends_with(PARTIAL) {
            return (String::new(), false);
        }
        self.take(&text, decode);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(end) = found {
            self.held.truncate(end);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.stops.iter().map(|stop| beginning(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The text that was kept back.
    pub fn finish(&mut self, decode: &dyn Fn(&[u32]) -> String) -> String {
        if self.read < self.ids.len() {
            let text = decode(&self.ids[self.from..]);
            self.take(&text, decode);
        }
        let end = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        let mut rest = std::mem::take(&mut self.held);
        rest.truncate(end.unwrap_or(rest.len()));
        rest
    }

    /// Adds what `text`, of the tokens from `from` on, has beyond those that were read.
    fn take(&mut self, text: &str, decode: &dyn Fn(&[u32]) -> String) {
        let before = decode(&self.ids[self.from..self.read]);
        // A token may change the text before it (a decoder that joins words): then nothing of it is given twice.
        let new = text.strip_prefix(before.as_str()).unwrap_or_else(|| {
            let same = text.char_indices().zip(before.chars()).find(|((_, a), b)| a != b);
            let place = same.map_or(before.len().min(text.len()), |((place, _), _)| place);
            text.get(place.max(before.len())..).unwrap_or("")
        });
        self.held.push_str(new);
        self.from = self.read;
        self.read = self.ids.len();
    }
}

/// The bytes at the end of `text` that are the beginning of `stop`, as many as there are.
fn beginning(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len().saturating_sub(1));
    let fits = |length: &usize| stop.is_char_boundary(*length) && text.ends_with(&stop[..*length]);
    (1..=longest).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each token is a byte.
    fn bytes(ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().map(|id| *id as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn made(text: &str, stops: &[&str]) -> (String, bool) {
        let mut stream =
            TextStream::new(b"prompt".map(u32::from).as_slice(), stops.iter().map(|stop| (*stop).into()).collect());
        let mut out = String::new();
        for byte in text.bytes() {
            let (new, ended) = stream.push(u32::from(byte), &bytes);
            out.push_str(&new);
            if ended {
                return (out, true);
            }
        }
        out.push_str(&stream.finish(&bytes));
        (out, false)
    }

    #[test]
    fn a_text_ends_before_the_first_stop() {
        assert_eq!(made("one two three", &["two", "three"]), ("one ".into(), true));
        assert_eq!(made("one twenty", &["two"]), ("one twenty".into(), false));
        assert_eq!(made("a\n\n\nb", &["\n\n"]), ("a".into(), true));
        assert_eq!(made("so tw", &["two"]), ("so tw".into(), false), "what was kept back comes at the end");
    }

    proptest! {
        #[test]
        fn whatever_the_characters_the_pieces_are_the_text(text in "[aä€😀b]{0,24}", stop in "[aä€b]{1,3}") {
            let expected = text.find(&stop).map_or((text.clone(), false), |end| (text[..end].to_owned(), true));
            prop_assert_eq!(made(&text, &[&stop]), expected);
            prop_assert_eq!(made(&text, &[]), (text, false));
        }
    }
}
