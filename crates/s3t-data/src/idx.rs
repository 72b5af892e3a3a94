use std::collections::HashMap;
use std::path::{Path, PathBuf};

use s3t_core::spelling::{Spellings, Visible};
use s3t_core::{Payload, Record, RecordId, SubjectId, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rows::{at_line, read_csv};
use crate::{DataError, Targets, input};

/// Image records from a pair of IDX files, the format of MNIST.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdxSource {
    /// The images: unsigned bytes of `[images, height, width]` or `[images, height, width, channels]`; `.gz` is decompressed.
    pub images: PathBuf,
    /// The labels: unsigned bytes of `[images]`, class indices; `.gz` is decompressed.
    pub labels: PathBuf,
    /// A CSV file with the columns `id` and `subject`, for the images that belong to somebody.
    #[serde(default)]
    pub subjects: Option<PathBuf>,
    /// What ids start with; the row number follows.
    #[serde(default = "prefix")]
    pub id_prefix: String,
}

fn prefix() -> String {
    "row-".into()
}

/// An IDX file of unsigned bytes.
struct Idx {
    sizes: Vec<usize>,
    data: Vec<u8>,
}

impl IdxSource {
    pub(crate) fn read(&self, base_dir: &Path, targets: &Targets<'_>) -> Result<Vec<Record>, DataError> {
        let images_path = base_dir.join(&self.images);
        let labels = targets.only_classes(&images_path)?;
        let labels_path = base_dir.join(&self.labels);
        let images = read_idx(&images_path, &[3, 4])?;
        let classes = read_idx(&labels_path, &[1])?;
        let (count, height, width) = (images.sizes[0], images.sizes[1], images.sizes[2]);
        let channels = images.sizes.get(3).copied().unwrap_or(1);
        if count != classes.sizes[0] {
            let problem =
                format!("has {count} images, but `{}` has {} labels", labels_path.display(), classes.sizes[0]);
            return Err(DataError::file(images_path, problem));
        }
        if count == 0 || height == 0 || width == 0 || ![1, 3].contains(&channels) {
            let problem =
                format!("holds {count} images of {height}x{width}x{channels}; at least one, with 1 or 3 channels");
            return Err(DataError::file(images_path, problem));
        }
        let id = |row: usize| RecordId::new(format!("{}{row}", self.id_prefix));
        let mut records = Vec::with_capacity(count);
        for (row, (pixels, class)) in images.data.chunks_exact(height * width * channels).zip(&classes.data).enumerate()
        {
            if usize::from(*class) >= labels.len() {
                let problem =
                    format!("label {class} of image {row} is not a class; the classes are 0 to {}", labels.len() - 1);
                return Err(DataError::file(labels_path, problem));
            }
            labels.check_index(*class).map_err(|problem| DataError::file(&labels_path, problem))?;
            records.push(Record {
                id: id(row).map_err(|error| DataError::file(&images_path, error.to_string()))?,
                subject: None,
                target: Target::Class(u32::from(*class)),
                ordinal: row as u64,
                payload: Payload::Image {
                    width: width as u32,
                    height: height as u32,
                    channels: channels as u8,
                    pixels: pixels.to_vec(),
                },
            });
        }
        if let Some(subjects) = &self.subjects {
            add_subjects(&base_dir.join(subjects), &mut records)?;
        }
        Ok(records)
    }
}

fn read_idx(path: &Path, ranks: &[usize]) -> Result<Idx, DataError> {
    let bytes = input::bytes(path)?;
    let refuse = |problem: String| DataError::file(path, problem);
    let expected = ranks.iter().map(|rank| format!("0000080{rank}")).collect::<Vec<_>>().join(" or ");
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(refuse(format!("is too short for an IDX file: {} bytes", bytes.len())));
    };
    let rank = usize::from(magic[3]);
    if magic[..3] != [0, 0, 8] || !ranks.contains(&rank) {
        let found = format!("{:08x}", u32::from_be_bytes(*magic));
        return Err(refuse(format!("starts with {found}, but this IDX file must start with {expected}")));
    }
    let (header, data) = rest.split_at_checked(4 * rank).ok_or_else(|| refuse("ends inside its header".into()))?;
    let size = |bytes: &[u8]| bytes.iter().fold(0usize, |size, byte| size << 8 | usize::from(*byte));
    let sizes: Vec<usize> = header.chunks_exact(4).map(size).collect();
    let total = sizes.iter().try_fold(1usize, |total, size| total.checked_mul(*size));
    match total {
        Some(total) if total == data.len() => Ok(Idx { sizes, data: data.to_vec() }),
        Some(total) => {
            let word = if data.len() < total { "is truncated" } else { "has bytes left over" };
            Err(refuse(format!("{word}: its header {sizes:?} asks for {total} bytes, but {} follow", data.len())))
        }
        None => Err(refuse(format!("has an impossible header {sizes:?}"))),
    }
}

fn add_subjects(path: &Path, records: &mut [Record]) -> Result<(), DataError> {
    let rows: HashMap<String, usize> =
        records.iter().enumerate().map(|(row, record)| (record.id.to_string(), row)).collect();
    let mut subjects = Spellings::new("subject");
    let list = read_csv(path)?;
    for row in &list {
        let refuse = |problem: String| DataError::line(path, row.line, problem);
        let id = row.text("id").map_err(refuse)?;
        let subject = row.text("subject").map_err(refuse)?;
        let index = rows.get(id).ok_or_else(|| {
            refuse(format!("there is no record `{}`; ids are like `{}`", Visible(id), Visible(records[0].id.as_str())))
        })?;
        let record = &mut records[*index];
        if record.subject.is_some() {
            return Err(refuse(format!("record `{id}` has a subject already")));
        }
        if !subject.is_empty() {
            record.subject = Some(SubjectId::new(subject).map_err(|error| refuse(error.to_string()))?);
            subjects.add(subject, row.line).map_err(|clash| refuse(at_line(&clash)))?;
        }
    }
    Ok(())
}
