//! Records that are only asked about.

use std::path::{Component, Path, PathBuf};

use s3t_core::limits::shown;
use s3t_core::picture::PictureSteps;
use s3t_core::registry::unknown;
use s3t_core::{Limits, Payload, PictureInput, Record, RecordId, Target};

use crate::DataError;
use crate::jsonl::numbers;
use crate::pictures::{self, PictureLimits};
use crate::rows::{Row, each_jsonl};

/// The fields in which the content of a question may be.
const KINDS: [&str; 4] = ["text", "features", "image", "messages"];

/// All fields of a question.
const FIELDS: [&str; 6] = ["id", "text", "text_pair", "features", "image", "messages"];

/// Reads records without targets from a file with one JSON object a line. Each has `text`, `features` (a list of numbers), `image` (a
/// file below this one's folder) or `messages` (a chat that the model's next message is to follow), beside `text` the second text of a pair in `text_pair`, and may have an `id`; without
/// it ids are `row-0`, `row-1`, ... Another field is refused, as it would not be used. Images are read as a model takes them.
///
/// # Errors
///
/// [`DataError`] naming the first line that cannot be used, as one whose image is outside the folder.
pub fn read_questions(path: &Path, model: Option<&PictureInput>, limits: &Limits) -> Result<Vec<Record>, DataError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let payload = |row: &Row| match KINDS.iter().filter(|kind| row.required(kind).is_ok()).collect::<Vec<_>>()[..] {
        [&"text"] if row.required("text_pair").is_ok() => row.text_pair("text", "text_pair", limits),
        [&"text"] => Ok(Payload::Text(row.short_text("text", limits)?.to_owned())),
        [&"features"] => Ok(Payload::Features(numbers("features", row.required("features")?, limits)?)),
        [&"messages"] => row.chat("messages", limits).map(Payload::Messages),
        [&"image"] => read_image_question(&inside(folder, row.text("image")?)?, model),
        _ => Err(format!("needs exactly one of {}", KINDS.map(|kind| format!("`{kind}`")).join(", "))),
    };
    let mut records = Vec::new();
    each_jsonl(path, limits, &mut |row| {
        let ordinal = records.len();
        let make = || -> Result<Record, String> {
            let id = if row.required("id").is_ok() { row.id("id")? } else { format!("row-{ordinal}").into() };
            let id = RecordId::new(id).map_err(|error| error.to_string())?;
            if row.required("text_pair").is_ok() && row.required("text").is_err() {
                return Err("has `text_pair`, the second text of a pair, without `text`, the first".into());
            }
            let payload = payload(&row)?;
            if let Some(other) = row.columns().find(|column| !FIELDS.contains(column)) {
                return Err(unknown(&format!("field `{}` of a question", shown(other)), other, &FIELDS));
            }
            Ok(Record { id, subject: None, target: Target::None, ordinal: ordinal as u64, payload })
        };
        records.push(make().map_err(|problem| DataError::line(path, row.line, problem))?);
        Ok(())
    })?;
    Ok(records)
}

/// The file that a question names. Questions come from other people: a file elsewhere is not theirs to ask about.
fn inside(folder: &Path, file: &str) -> Result<PathBuf, String> {
    let refuse = |why: &str| {
        Err(format!("`image` is `{}`, which {why}; give a file below the folder of this file", shown(file)))
    };
    let mut depth = 0u32;
    for part in Path::new(file).components() {
        depth = match part {
            Component::Normal(_) => depth + 1,
            Component::CurDir => depth,
            Component::ParentDir => match depth.checked_sub(1) {
                Some(depth) => depth,
                None => return refuse("leads out of it"),
            },
            Component::RootDir | Component::Prefix(_) => return refuse("is an absolute path"),
        };
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let path = folder.join(file);
    match (folder.canonicalize(), path.canonicalize()) {
        (Ok(folder), Ok(path)) if path.starts_with(&folder) => Ok(path),
        (Ok(_), Ok(_)) => refuse("leads out of it through a link"),
        // A file that is not there is told where it is read.
        _ => Ok(path),
    }
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

/// Reads the bytes of a picture file, as somebody sent them, as a model takes pictures. `name` calls the picture in messages.
///
/// # Errors
///
/// The problem with the bytes, or that the model takes no pictures, in words.
pub fn read_image_bytes(bytes: &[u8], name: &str, model: Option<&PictureInput>) -> Result<Payload, String> {
    let Some(model) = model else { return Err(format!("cannot use {name}: the model takes no pictures")) };
    pictures::bytes_for(bytes, name, model, PictureLimits::default())
}
