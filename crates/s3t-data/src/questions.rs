//! Records that are only asked about.

use std::path::Path;

use s3t_core::picture::PictureSteps;
use s3t_core::{Payload, PictureInput, Record, RecordId, Target};

use crate::DataError;
use crate::image_folder::below;
use crate::jsonl::numbers;
use crate::pictures::{self, PictureLimits};
use crate::rows::{Row, read_jsonl};

/// Where the content of a question may be.
const KINDS: [&str; 3] = ["text", "features", "image"];

/// Reads records without targets from a file with one JSON object a line. Each has `text`, `features` (a list of numbers) or
/// `image` (a file below this one's folder), and may have an `id`; without it ids are `row-0`, `row-1`, ... Images are
/// read as a model takes them.
///
/// # Errors
///
/// [`DataError`] naming the first line that cannot be used.
pub fn read_questions(path: &Path, model: Option<&PictureInput>) -> Result<Vec<Record>, DataError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let payload = |row: &Row| match KINDS.iter().filter(|kind| row.required(kind).is_ok()).collect::<Vec<_>>()[..] {
        [&"text"] => Ok(Payload::Text(row.text("text")?.to_owned())),
        [&"features"] => Ok(Payload::Features(numbers("features", row.required("features")?)?)),
        [&"image"] => read_image_question(&below(folder, row.text("image")?, "the folder of the questions")?, model),
        _ => Err(format!("needs exactly one of {}", KINDS.map(|kind| format!("`{kind}`")).join(", "))),
    };
    let record = |(ordinal, row): (usize, &Row)| {
        let make = || -> Result<Record, String> {
            let id = if row.required("id").is_ok() { row.id("id")? } else { format!("row-{ordinal}").into() };
            let id = RecordId::new(id).map_err(|error| error.to_string())?;
            Ok(Record { id, subject: None, target: Target::None, ordinal: ordinal as u64, payload: payload(row)? })
        };
        make().map_err(|problem| DataError::line(path, row.line, problem))
    };
    read_jsonl(path)?.iter().enumerate().map(record).collect()
}

/// Reads an image file as a model takes images: by the steps of its own processor. For a model that takes none it is read in
/// colour and as it is.
///
/// # Errors
///
/// What is wrong with it, in words.
pub fn read_image_question(path: &Path, model: Option<&PictureInput>) -> Result<Payload, String> {
    let limits = PictureLimits::default();
    match model {
        Some(model) => pictures::read_for(path, model, limits),
        None => pictures::read(path, 3, &PictureSteps::default(), limits),
    }
}
