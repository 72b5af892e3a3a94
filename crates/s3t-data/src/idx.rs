use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use s3t_core::limits::shown;
use s3t_core::spelling::{Spellings, Visible};
use s3t_core::{Limits, Payload, Record, RecordId, SubjectId, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::input::{Input, check_records};
use crate::rows::{at_line, each_csv};
use crate::{DataError, Targets};

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
    /// The start of each id; the row number follows.
    #[serde(default = "prefix")]
    pub id_prefix: String,
}

fn prefix() -> String {
    "row-".into()
}

/// An IDX file of unsigned bytes, read from its start to its end.
struct Idx {
    path: PathBuf,
    input: BufReader<Input>,
    sizes: Vec<usize>,
    total: usize,
    read: usize,
}

impl IdxSource {
    pub(crate) fn read(&self, base_dir: &Path, targets: &Targets<'_>) -> Result<Vec<Record>, DataError> {
        let images_path = base_dir.join(&self.images);
        let labels = targets.only_classes(&images_path)?;
        let labels_path = base_dir.join(&self.labels);
        let mut images = Idx::open(&images_path, &[3, 4], &targets.limits)?;
        let mut classes = Idx::open(&labels_path, &[1], &targets.limits)?;
        let (count, height, width) = (images.sizes[0], images.sizes[1], images.sizes[2]);
        let channels = images.sizes.get(3).copied().unwrap_or(1);
        if count != classes.sizes[0] {
            let problem =
                format!("has {count} images, but `{}` has {} labels", labels_path.display(), classes.sizes[0]);
            return Err(DataError::file(images_path, problem));
        }
        check_records(count as u64, &targets.limits).map_err(|problem| DataError::file(&images_path, problem))?;
        if count == 0 || height == 0 || width == 0 || ![1, 3].contains(&channels) {
            let problem =
                format!("holds {count} images of {height}x{width}x{channels}; at least one, with 1 or 3 channels");
            return Err(DataError::file(images_path, problem));
        }
        let id = |row: usize| RecordId::new(format!("{}{row}", self.id_prefix));
        // Nothing is reserved for what a header only promises.
        let mut records = Vec::new();
        for row in 0..count {
            let class = classes.next(1)?[0];
            let pixels = images.next(height * width * channels)?;
            if usize::from(class) >= labels.len() {
                let problem =
                    format!("label {class} of image {row} is not a class; the classes are 0 to {}", labels.len() - 1);
                return Err(DataError::file(labels_path, problem));
            }
            labels.check_index(class).map_err(|problem| DataError::file(&labels_path, problem))?;
            records.push(Record {
                id: id(row).map_err(|error| DataError::file(&images_path, error.to_string()))?,
                subject: None,
                target: Target::Class(u32::from(class)),
                ordinal: row as u64,
                payload: Payload::Image {
                    width: width as u32,
                    height: height as u32,
                    channels: channels as u8,
                    pixels,
                },
            });
        }
        images.end()?;
        classes.end()?;
        if let Some(subjects) = &self.subjects {
            add_subjects(&base_dir.join(subjects), &mut records, &targets.limits)?;
        }
        Ok(records)
    }
}

impl Idx {
    /// Reads the header.
    fn open(path: &Path, ranks: &[usize], limits: &Limits) -> Result<Self, DataError> {
        let refuse = |problem: String| DataError::file(path, problem);
        let mut input = BufReader::new(Input::open(path, limits)?);
        let mut take = |most: usize| -> Result<Vec<u8>, DataError> {
            let mut bytes = Vec::new();
            let read = input.by_ref().take(most as u64).read_to_end(&mut bytes);
            read.map_err(|error| input.get_ref().refuse(path, error))?;
            Ok(bytes)
        };
        let expected = ranks.iter().map(|rank| format!("0000080{rank}")).collect::<Vec<_>>().join(" or ");
        let magic = take(4)?;
        let Some(magic) = magic.first_chunk::<4>() else {
            return Err(refuse(format!("is too short for an IDX file: {} bytes", magic.len())));
        };
        let rank = usize::from(magic[3]);
        if magic[..3] != [0, 0, 8] || !ranks.contains(&rank) {
            let found = format!("{:08x}", u32::from_be_bytes(*magic));
            return Err(refuse(format!("starts with {found}, but this IDX file must start with {expected}")));
        }
        let header = take(4 * rank)?;
        if header.len() < 4 * rank {
            return Err(refuse("ends inside its header".into()));
        }
        let size = |bytes: &[u8]| bytes.iter().fold(0usize, |size, byte| size << 8 | usize::from(*byte));
        let sizes: Vec<usize> = header.chunks_exact(4).map(size).collect();
        let total = sizes.iter().try_fold(1usize, |total, size| total.checked_mul(*size));
        let total = total.ok_or_else(|| refuse(format!("has an impossible header {sizes:?}")))?;
        Ok(Self { path: path.into(), input, sizes, total, read: 0 })
    }

    /// The next bytes.
    fn next(&mut self, count: usize) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(count as u64).read_to_end(&mut bytes);
        read.map_err(|error| self.input.get_ref().refuse(&self.path, error))?;
        self.read += bytes.len();
        if bytes.len() < count { Err(self.wrong("is truncated", self.read)) } else { Ok(bytes) }
    }

    /// Checks that nothing follows.
    fn end(mut self) -> Result<(), DataError> {
        let rest = std::io::copy(&mut self.input, &mut std::io::sink());
        let rest = rest.map_err(|error| self.input.get_ref().refuse(&self.path, error))?;
        if rest > 0 { Err(self.wrong("has bytes left over", self.read + rest as usize)) } else { Ok(()) }
    }

    fn wrong(&self, word: &str, found: usize) -> DataError {
        let Self { sizes, total, .. } = self;
        DataError::file(&self.path, format!("{word}: its header {sizes:?} asks for {total} bytes, but {found} follow"))
    }
}

fn add_subjects(path: &Path, records: &mut [Record], limits: &Limits) -> Result<(), DataError> {
    let rows: HashMap<String, usize> =
        records.iter().enumerate().map(|(row, record)| (record.id.to_string(), row)).collect();
    let mut subjects: Spellings<'static, u64> = Spellings::new("subject");
    let first = records[0].id.clone();
    each_csv(path, limits, &mut |row| {
        let refuse = |problem: String| DataError::line(path, row.line, problem);
        let id = row.text("id").map_err(refuse)?;
        let subject = row.text("subject").map_err(refuse)?;
        let index = rows.get(id).ok_or_else(|| {
            let (id, first) = (shown(&Visible(id).to_string()), Visible(first.as_str()));
            refuse(format!("there is no record `{id}`; ids are like `{first}`"))
        })?;
        let record = &mut records[*index];
        if record.subject.is_some() {
            return Err(refuse(format!("record `{id}` has a subject already")));
        }
        if !subject.is_empty() {
            record.subject = Some(SubjectId::new(subject).map_err(|error| refuse(error.to_string()))?);
            subjects.add(subject.to_owned(), row.line).map_err(|clash| refuse(at_line(&clash)))?;
        }
        Ok(())
    })
}
