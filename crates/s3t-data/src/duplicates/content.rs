//! The content of a record, as copies have it in common.

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};
use s3t_core::digest::DigestBuilder;
use s3t_core::spelling::is_invisible;
use s3t_core::{Digest, Payload, Record, Target};

/// The digest of what exact copies have in common. A text that is learnt after another is content as well as the first: one
/// question with two answers is two contents.
pub(super) fn content(record: &Record) -> Digest {
    let mut builder = DigestBuilder::new("content");
    match &record.payload {
        Payload::Text(text) => {
            builder.number(0);
            by_words(&mut builder, std::iter::once(text.as_str()).chain(target_text(record)));
        }
        Payload::TextPair(first, second) => {
            builder.number(5);
            by_words(&mut builder, [first.as_str(), second.as_str()].into_iter().chain(target_text(record)));
        }
        // Who says a thing is a part of it.
        Payload::Messages(messages) => {
            builder.number(6);
            by_words(&mut builder, messages.iter().flat_map(|message| [message.role.name(), message.content.as_str()]));
        }
        payload => {
            as_it_stands(payload, &mut builder);
            if let Some(text) = target_text(record) {
                builder.bytes(text.as_bytes());
            }
        }
    }
    builder.finish()
}

/// Adds texts by their words.
fn by_words<'a>(builder: &mut DigestBuilder, texts: impl IntoIterator<Item = &'a str>) {
    for text in texts {
        let words = words(text);
        builder.number(words.len() as u64);
        for word in &words {
            builder.bytes(word.as_bytes());
        }
    }
}

/// Adds content that is not normalised.
fn as_it_stands(payload: &Payload, builder: &mut DigestBuilder) {
    match payload {
        Payload::Text(text) => builder.number(3).bytes(text.as_bytes()),
        Payload::TextPair(first, second) => builder.number(4).bytes(first.as_bytes()).bytes(second.as_bytes()),
        Payload::Messages(messages) => messages.iter().fold(builder.number(7), |builder, message| {
            builder.bytes(message.role.name().as_bytes()).bytes(message.content.as_bytes())
        }),
        Payload::Image { width, height, channels, pixels } => {
            builder.number(1).number((*width).into()).number((*height).into()).number((*channels).into()).bytes(pixels)
        }
        Payload::Features(values) => {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
            builder.number(2).bytes(&bytes)
        }
    };
}

pub(super) fn target_text(record: &Record) -> Option<&str> {
    match &record.target {
        Target::Text(text) => Some(text),
        _ => None,
    }
}

/// The words of a text: runs of letters, marks and digits, in lower case and in Unicode's NFC. A symbol that is no punctuation, such
/// as an emoji, is a word by itself. A text without a word is compared as it stands: then the whole of it is the word, which no
/// other text has, as no word holds a zero byte before it.
pub(super) fn words(text: &str) -> Vec<String> {
    let normal = ComposingNormalizerBorrowed::new_nfc().normalize(text);
    let category = CodePointMapData::<GeneralCategory>::new();
    let (mut words, mut word) = (Vec::new(), String::new());
    for letter in normal.chars() {
        let of_word = letter.is_alphanumeric() || GeneralCategoryGroup::Mark.contains(category.get(letter));
        // Joiners and selectors are no part of a word, and do not end one; a zero-width space does.
        if is_invisible(letter) && letter != '\u{200b}' {
            continue;
        }
        if of_word {
            word.push(letter);
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word).to_lowercase());
        }
        if !letter.is_ascii() && GeneralCategoryGroup::Symbol.contains(category.get(letter)) {
            words.push(letter.to_string());
        }
    }
    if !word.is_empty() {
        words.push(word.to_lowercase());
    }
    if words.is_empty() {
        words.push(format!("\0{text}"));
    }
    words
}
