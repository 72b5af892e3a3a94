use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Component, Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, ImageReader, Limits};
use s3t_core::{Payload, Record};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::input::has_ending;
use crate::rows::{Columns, Row, Visit, each_csv, each_jsonl, records};
use crate::{DataError, Targets};

/// The largest side of an image in pixels.
const LARGEST_SIDE: u32 = 8192;

/// Image records from a folder of PNG and JPEG files, listed in a CSV or JSONL manifest with the columns `file`, `label`
/// and optionally `id` and `subject`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageFolderSource {
    /// The folder that the manifest's file names start from; they and what links lead to must be below it, each file once.
    pub root: PathBuf,
    /// The manifest: `.csv`, `.jsonl` or `.ndjson`.
    pub manifest: PathBuf,
    /// 1 for grey, 3 for RGB.
    #[serde(default = "channels")]
    pub channels: u8,
    /// `[height, width]` that images are resized to, by a triangle filter. Without it they stay as they are.
    #[serde(default)]
    pub resize: Option<[u32; 2]>,
}

fn channels() -> u8 {
    3
}

impl ImageFolderSource {
    pub(crate) fn read(&self, base_dir: &Path, targets: &Targets<'_>) -> Result<Vec<Record>, DataError> {
        let manifest = base_dir.join(&self.manifest);
        if ![1, 3].contains(&self.channels) {
            return Err(DataError::file(
                manifest,
                format!("cannot be read with `channels` = {}; use 1 or 3", self.channels),
            ));
        }
        if self.resize.is_some_and(|sides| sides.iter().any(|side| !(1..=LARGEST_SIDE).contains(side))) {
            return Err(DataError::file(
                manifest,
                format!("cannot be read with this `resize`; sides are 1 to {LARGEST_SIDE}"),
            ));
        }
        let rows = |visit: Visit<'_>| {
            if has_ending(&manifest, &["csv"]) {
                each_csv(&manifest, &targets.limits, visit)
            } else if has_ending(&manifest, &["jsonl", "ndjson"]) {
                each_jsonl(&manifest, &targets.limits, visit)
            } else {
                Err(DataError::file(&manifest, "is not a manifest; use .csv, .jsonl or .ndjson"))
            }
        };
        // The manifest is read twice: which columns there are is known at its end.
        let (mut ids, mut subjects) = (false, false);
        rows(&mut |row| {
            ids |= row.required("id").is_ok();
            subjects |= row.required("subject").is_ok();
            Ok(())
        })?;
        let columns = Columns { label: "label", id: ids.then_some("id"), subject: subjects.then_some("subject") };
        let root = base_dir.join(&self.root);
        let name = |_: usize, row: &Row| Ok(row.text("file")?.to_owned());
        let mut files = Files::new(root)?;
        let image = |row: &Row| {
            let path = files.add(row.text("file")?, row.line)?;
            Self::read_image(&path, self.channels, self.resize)
        };
        records(&manifest, rows, &columns, targets, name, image)
    }

    /// Reads one image file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn read_image(path: &Path, channels: u8, resize: Option<[u32; 2]>) -> Result<Payload, String> {
        let unreadable = |problem: String| format!("cannot read the image `{}`: {problem}", path.display());
        let mut reader = ImageReader::open(path)
            .and_then(ImageReader::with_guessed_format)
            .map_err(|error| unreadable(error.to_string()))?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(LARGEST_SIDE);
        limits.max_image_height = Some(LARGEST_SIDE);
        reader.limits(limits);
        let image = reader.decode().map_err(|error| unreadable(error.to_string()))?;
        let image = match resize {
            Some([height, width]) => image.resize_exact(width, height, FilterType::Triangle),
            None => image,
        };
        let (width, height) = (image.width(), image.height());
        let pixels = match (channels, image) {
            (1, image) => image.into_luma8().into_raw(),
            (_, DynamicImage::ImageRgb8(image)) => image.into_raw(),
            (_, image) => image.into_rgb8().into_raw(),
        };
        Ok(Payload::Image { width, height, channels, pixels })
    }
}

/// The files that a manifest has named, resolved: without `.`, `..` and symbolic links.
struct Files {
    root: PathBuf,
    resolved_root: PathBuf,
    /// The name and line at which each file was read first.
    seen: HashMap<PathBuf, (String, u64)>,
}

impl Files {
    fn new(root: PathBuf) -> Result<Self, DataError> {
        let resolved = root.canonicalize().map_err(|source| DataError::Read { path: root.clone(), source })?;
        Ok(Self { root, resolved_root: resolved, seen: HashMap::new() })
    }

    /// The path of a file that is named in a line. It must be below the folder, and named for the first time.
    fn add(&mut self, file: &str, line: u64) -> Result<PathBuf, String> {
        if file.is_empty() || leaves(Path::new(file)) {
            return Err(format!("`{file}` is not a file below the image folder"));
        }
        let path = self.root.join(file);
        // What cannot be resolved cannot be read either: the reader says why.
        let Ok(resolved) = path.canonicalize() else { return Ok(path) };
        if !resolved.starts_with(&self.resolved_root) {
            return Err(format!(
                "`{file}` is not a file below the image folder: it leads to `{}`; put the file there, or let `root` be a \
                 folder that holds both",
                resolved.display()
            ));
        }
        match self.seen.entry(resolved) {
            Entry::Vacant(entry) => drop(entry.insert((file.to_owned(), line))),
            Entry::Occupied(entry) => {
                let (first, at) = entry.get();
                return Err(format!("`{file}` is the file `{first}` of line {at}; one file is one record"));
            }
        }
        Ok(path)
    }
}

/// Whether a relative path leads out of the folder that it starts from, or is not relative.
fn leaves(path: &Path) -> bool {
    let mut depth = 0_i64;
    path.components().any(|part| {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::Prefix(_) => return true,
        }
        depth < 0
    })
}
