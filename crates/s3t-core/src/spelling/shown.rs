//! Ids as messages show them.

use std::fmt;

use super::{is_blank, is_invisible};

/// An id as a message shows it: invisible characters and blanks that cannot be seen are written as `\u{...}`.
#[derive(Debug, Clone, Copy)]
pub struct Visible<'a>(pub &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trimmed = self.0.trim_matches(' ');
        let start = self.0.len() - self.0.trim_start_matches(' ').len();
        let mut before = 'x';
        for (at, letter) in self.0.char_indices() {
            let outside = at < start || at >= start + trimmed.len() || before == ' ';
            let hidden = if letter == ' ' { outside } else { is_blank(letter) || is_invisible(letter) };
            before = letter;
            if hidden || letter.is_control() {
                write!(f, "{}", letter.escape_unicode())?;
            } else {
                fmt::Write::write_char(f, letter)?;
            }
        }
        Ok(())
    }
}

/// Two different ids as a message shows them side by side: where they differ, every character that is not visible ASCII is
/// written as `\u{...}`.
pub fn side_by_side(one: &str, other: &str) -> (String, String) {
    let same = |(one, other): &(char, char)| one == other;
    let before = one.chars().zip(other.chars()).take_while(same).count();
    let left = one.chars().count().min(other.chars().count()) - before;
    let after = one.chars().rev().zip(other.chars().rev()).take(left).take_while(same).count();
    let shown = |id: &str| {
        let letters: Vec<char> = id.chars().collect();
        let text = |letters: &[char]| letters.iter().collect::<String>();
        let (start, end) = (&letters[..before], &letters[letters.len() - after..]);
        let middle = &letters[before..letters.len() - after];
        let middle = middle.iter().map(|letter| match letter {
            letter if letter.is_ascii_graphic() => letter.to_string(),
            letter => letter.escape_unicode().to_string(),
        });
        format!("{}{}{}", Visible(&text(start)), middle.collect::<String>(), Visible(&text(end)))
    };
    (shown(one), shown(other))
}

/// Other spellings of an id, as a message lists them beside it: the id, and the list.
pub fn beside(id: &str, others: &[String]) -> (String, String) {
    let pairs: Vec<(String, String)> = others.iter().map(|other| side_by_side(id, other)).collect();
    let list: Vec<String> = pairs.iter().map(|(_, other)| format!("`{other}`")).collect();
    (pairs.first().map_or_else(|| Visible(id).to_string(), |(id, _)| id.clone()), list.join(", "))
}
