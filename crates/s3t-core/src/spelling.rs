//! Spellings of an id that a person cannot tell apart, and ids as messages show them.
//!
//! An id is compared byte for byte wherever something is done with it: when a record is placed, deleted or looked for. Two
//! different ids that look the same would then be two people to the program and one person to everybody else, and a deletion of
//! one would leave the other. So a data set in which two ids have one [`comparison_form`] is refused, and a request for an unknown
//! id names the other spellings that are there.
//!
//! # The comparison form
//!
//! The form of an id is Unicode's NFKC (UAX #15) of the id without the characters that Unicode calls default-ignorable (zero-width
//! spaces and joiners, byte order marks, soft hyphens, variation selectors, marks of direction, fillers, tags) and without
//! interlinear anchors; then every run of blanks (Unicode's `White_Space`, and the blank of Braille) is one space, and those at
//! the start and at the end are gone. Capital and small letters stay different, and so do letters of different scripts that look
//! alike (Latin `a`, Cyrillic `а`): ids made of random letters and digits may differ in no more than that.

mod clash;
mod shown;

use std::borrow::Cow;

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

pub use clash::{Clash, ConfusableIds, Spellings, confusable};
pub use shown::{Visible, beside, side_by_side};

/// Two ids differ only in these.
pub const DIFFERENCES: &str = "blanks, invisible characters or Unicode normal forms";

/// A character that leaves no trace where a text is shown.
pub fn is_invisible(letter: char) -> bool {
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    !letter.is_ascii() && (ignorable.contains(letter) || ('\u{fff9}'..='\u{fffb}').contains(&letter))
}

/// A character that shows as a gap: Unicode's `White_Space`, and the blank of Braille.
fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || letter == '\u{2800}'
}

/// The form in which ids are compared for looking the same; see the module's page. Equal ids have equal forms, and the form of a
/// form is itself. The form is empty if the id shows nothing.
pub fn comparison_form(id: &str) -> Cow<'_, str> {
    if is_plain(id) {
        return Cow::Borrowed(id);
    }
    let mut form = once(id);
    // What Unicode decomposes a character into may hold an ignorable one.
    loop {
        let again = once(&form);
        if again == form {
            return if form == id { Cow::Borrowed(id) } else { Cow::Owned(form) };
        }
        form = again;
    }
}

/// Most ids: visible ASCII with at most single spaces between, which is its own form.
fn is_plain(id: &str) -> bool {
    let mut before = b' ';
    let plain = |byte: u8| {
        let fine = byte.is_ascii_graphic() || (byte == b' ' && before != b' ');
        before = byte;
        fine
    };
    id.bytes().all(plain) && !id.ends_with(' ')
}

fn once(id: &str) -> String {
    let seen: String = id.chars().filter(|letter| !is_invisible(*letter)).collect();
    let normal = ComposingNormalizerBorrowed::new_nfkc().normalize(&seen);
    let mut form = String::with_capacity(normal.len());
    for word in normal.split(is_blank).filter(|word| !word.is_empty()) {
        if !form.is_empty() {
            form.push(' ');
        }
        form.push_str(word);
    }
    form
}

/// The spellings that an id is likely to have elsewhere: Unicode's four normal forms, without and with a blank or an invisible
/// character at an end. For places that can check a spelling but cannot list the spellings that there are.
pub fn likely_spellings(id: &str) -> Vec<String> {
    let form = comparison_form(id).into_owned();
    let seen: String = id.chars().filter(|letter| !is_invisible(*letter)).collect();
    let mut found = vec![form.clone(), seen.clone(), id.trim().to_owned(), seen.trim().to_owned()];
    for text in [&form, &seen.trim().to_owned(), &id.trim().to_owned()] {
        found.push(ComposingNormalizerBorrowed::new_nfc().normalize(text).into_owned());
        found.push(DecomposingNormalizerBorrowed::new_nfd().normalize(text).into_owned());
        found.push(DecomposingNormalizerBorrowed::new_nfkd().normalize(text).into_owned());
    }
    for blank in [' ', '\u{a0}', '\u{200b}', '\u{feff}'] {
        found.push(format!("{form}{blank}"));
        found.push(format!("{blank}{form}"));
    }
    found.sort_unstable();
    found.dedup();
    found.retain(|spelling| spelling != id && !spelling.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_that_look_the_same_have_one_form() {
        let same = [
            "user-17",
            " user-17",
            "user-17 ",
            "user-17\u{200b}",
            "\u{feff}user-17",
            "user-17\u{a0}",
            "us\u{ad}er-17",
            "user-17\u{fe0f}",
            "\u{202e}user-17\u{202c}",
            "u\u{2060}ser-17\u{3000}",
            "\u{2800}user-17",
            "ｕser-17",
            "user-1\u{e0041}7",
            "user-17\u{3164}",
        ];
        for id in same {
            assert_eq!(comparison_form(id), "user-17", "{id:?}");
        }
        assert_eq!(comparison_form("Jos\u{e9}"), comparison_form("Jose\u{301}"));
        assert_eq!(comparison_form("Jos\u{e9}"), comparison_form("Jose\u{34f}\u{301}"));
        assert_eq!(comparison_form("\u{ac00}"), comparison_form("\u{1100}\u{1161}"));
        assert_eq!(comparison_form("\u{212b}"), comparison_form("A\u{30a}"));
        assert_eq!(comparison_form("Ann  Lee"), comparison_form("Ann\u{2003}Lee"));
        assert_eq!(comparison_form("q\u{323}\u{307}"), comparison_form("q\u{307}\u{323}"));
        for (one, other) in [("user-17", "User-17"), ("user-17", "user-1"), ("AnnLee", "Ann Lee"), ("a", "\u{430}")] {
            assert_ne!(comparison_form(one), comparison_form(other));
        }
        for nothing in [" ", "\u{200b}", "\u{a0}\u{feff} \u{2800}"] {
            assert_eq!(comparison_form(nothing), "");
        }
        assert!(matches!(comparison_form("Ann Lee 7"), Cow::Borrowed(_)));
        assert!(matches!(comparison_form("zoë"), Cow::Borrowed(_)));
    }

    #[test]
    fn ids_are_shown_so_that_they_differ() {
        let shown = |id: &str| Visible(id).to_string();
        assert_eq!(shown("Ann Lee"), "Ann Lee");
        assert_eq!(shown("zoë"), "zoë");
        assert_eq!(shown(" a  b "), "\\u{20}a \\u{20}b\\u{20}");
        assert_eq!(shown("a\u{200b}\u{a0}b"), "a\\u{200b}\\u{a0}b");
        let pair = |one: &str, other: &str| side_by_side(one, other);
        assert_eq!(pair("Jos\u{e9}", "Jose\u{301}"), ("Jos\\u{e9}".into(), "Jose\\u{301}".into()));
        assert_eq!(pair("user-17", "user-17 "), ("user-17".into(), "user-17\\u{20}".into()));
        assert_eq!(pair("aa", "a"), ("aa".into(), "a".into()));
        assert_eq!(pair("김 a", "김\u{a0}a"), ("김\\u{20}a".into(), "김\\u{a0}a".into()));
        let others = ["a ".to_owned(), "a\u{200b}".to_owned()];
        assert_eq!(beside("a", &others), ("a".into(), "`a\\u{20}`, `a\\u{200b}`".into()));
    }

    #[test]
    fn the_second_of_two_spellings_is_refused_and_a_second_use_is_not() {
        let mut seen = Spellings::new("subject");
        assert_eq!(seen.add("user-17", 1).unwrap(), None);
        assert_eq!(seen.add("user-18 ", 2).unwrap(), None);
        assert_eq!(seen.add("user-17", 3).unwrap(), Some(1));
        assert_eq!(seen.add("user-18 ", 4).unwrap(), Some(2));
        let problem = seen.add("user-17\u{200b}", 5).unwrap_err().problem(|line| format!(" in line {line}"));
        assert!(
            problem.starts_with(
                "subject id `user-17\\u{200b}` cannot be told apart from `user-17` in line 1: they differ only in blanks"
            ),
            "{problem}"
        );
        let clash = seen.add("user-18", 6).unwrap_err();
        assert_eq!(clash.earlier, Some(("user-18 ".into(), 2)));
        assert!(
            seen.add("\u{200b}", 7).unwrap_err().problem(ToString::to_string).contains("`\\u{200b}` shows nothing")
        );
    }

    proptest! {
        #[test]
        fn a_form_is_its_own_form(id in "\\PC{0,12}") {
            let form = comparison_form(&id).into_owned();
            prop_assert_eq!(&*comparison_form(&form), &form);
            for spelling in likely_spellings(&id) {
                prop_assert_eq!(&*comparison_form(&spelling), &form, "{:?}", spelling);
            }
        }

        #[test]
        fn different_ids_of_one_form_are_shown_differently(
            one in "[ab \u{e9}\u{301}e\u{200b}\u{a0}]{0,5}", other in "[ab \u{e9}\u{301}e\u{200b}\u{a0}]{0,5}",
        ) {
            if one != other {
                let (shown, beside) = side_by_side(&one, &other);
                prop_assert_ne!(shown, beside);
            }
        }

        #[test]
        fn groups_are_those_of_a_simple_comparison(ids in proptest::collection::vec("[ab \u{200b}]{1,3}", 0..12)) {
            let found = confusable(|each| { ids.iter().for_each(|id| each("record", id)); Ok::<(), ()>(()) }).unwrap();
            for one in &ids {
                for other in &ids {
                    let together = found.iter().any(|group| group.ids.contains(one) && group.ids.contains(other));
                    let same = one != other && comparison_form(one) == comparison_form(other);
                    if one != other {
                        prop_assert_eq!(together, same);
                    }
                }
            }
            let mut seen = Spellings::new("record");
            let refused = ids.iter().any(|id| seen.add(&**id, 0).is_err());
            prop_assert_eq!(refused, !found.is_empty() || ids.iter().any(|id| comparison_form(id).is_empty()));
        }
    }
}
