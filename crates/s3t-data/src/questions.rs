//! Records that are only asked about.

use std::path::Path;

use s3t_core::registry::unknown;
use s3t_core::{Payload, Record, RecordId, Target};

use crate::jsonl::numbers;
use crate::rows::{Row, read_jsonl};
use crate::{DataError, ImageFolderSource};

/// Where the content of a question may be.
const KINDS: [&str; 3] = ["text", "features", "image"];

/// All fields of a question.
const FIELDS: [&str; 5] = ["id", "text", "text_pair", "features", "image"];

/// Reads records without targets from a file with one JSON object a line. Each has `text`, `features` (a list of numbers) or
/// `image` (a file, relative to this one), beside `text` the second text of a pair in `text_pair`, and may have an `id`; without
/// it ids are `row-0`, `row-1`, ... Another field is refused, as it would not be used. Images are decoded to `image_input`,
/// channels and the length of a side.
///
/// # Errors
///
/// [`DataError`] naming the first line that cannot be used.
pub fn read_questions(path: &Path, image_input: Option<(u8, u32)>) -> Result<Vec<Record>, DataError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let payload = |row: &Row| match KINDS.iter().filter(|kind| row.required(kind).is_ok()).collect::<Vec<_>>()[..] {
        [&"text"] if row.required("text_pair").is_ok() => {
            Ok(Payload::TextPair(row.text("text")?.to_owned(), row.text("text_pair")?.to_owned()))
        }
        [&"text"] => Ok(Payload::Text(row.text("text")?.to_owned())),
        [&"features"] => Ok(Payload::Features(numbers("features", row.required("features")?)?)),
        [&"image"] => read_image_question(&folder.join(row.text("image")?), image_input),
        _ => Err(format!("needs exactly one of {}", KINDS.map(|kind| format!("`{kind}`")).join(", "))),
    };
    let record = |(ordinal, row): (usize, &Row)| {
        let make = || -> Result<Record, String> {
            let id = if row.required("id").is_ok() { row.id("id")? } else { format!("row-{ordinal}").into() };
            let id = RecordId::new(id).map_err(|error| error.to_string())?;
            if row.required("text_pair").is_ok() && row.required("text").is_err() {
                return Err("has `text_pair`, the second text of a pair, without `text`, the first".into());
            }
            let payload = payload(row)?;
            if let Some(other) = row.columns().find(|column| !FIELDS.contains(column)) {
                return Err(unknown(&format!("field `{other}` of a question"), other, &FIELDS));
            }
            Ok(Record { id, subject: None, target: Target::None, ordinal: ordinal as u64, payload })
        };
        make().map_err(|problem| DataError::line(path, row.line, problem))
    };
    read_jsonl(path)?.iter().enumerate().map(record).collect()
}

/// Reads an image file as a model takes images: `image_input` is its channels and the length of a side; colour and as it is
/// for a model that takes none.
///
/// # Errors
///
/// What is wrong with it, in words.
pub fn read_image_question(path: &Path, image_input: Option<(u8, u32)>) -> Result<Payload, String> {
    let (channels, resize) = image_input.map_or((3, None), |(channels, side)| (channels, Some([side, side])));
    ImageFolderSource::read_image(path, channels, resize)
}
