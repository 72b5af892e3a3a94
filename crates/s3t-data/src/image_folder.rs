use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Component, Path, PathBuf};

use s3t_core::Record;
use s3t_core::picture::{Filter, PictureInput, PictureSize, PictureSteps, Resize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::input::has_ending;
use crate::pictures::{self, PictureLimits};
use crate::rows::{Columns, Row, Visit, each_csv, each_jsonl, records};
use crate::{DataError, Targets};

/// Image records from a folder of JPEG, PNG, WebP, GIF, BMP and TIFF files, listed in a CSV or JSONL manifest with the columns `file`, `label`
/// and optionally `id` and `subject`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageFolderSource {
    /// The folder that the manifest's file names start from; they and what links lead to must be below it, each file once.
    pub root: PathBuf,
    /// The manifest: `.csv`, `.jsonl` or `.ndjson`.
    pub manifest: PathBuf,
    /// 1 for grey, 3 for RGB. Left out, pictures are read as the model takes them, in RGB where no model is asked.
    #[serde(default)]
    pub channels: Option<u8>,
    /// `[height, width]` of the model's input. Pictures are resized once, by the model's processor: what is written here must
    /// be what comes out of it. Where no model is asked they are resized to it as Pillow does with its bilinear filter.
    #[serde(default)]
    pub resize: Option<[u32; 2]>,
    /// The most pixels of a picture, 50 million if left out.
    #[serde(default)]
    pub max_pixels: Option<u64>,
    /// The largest file of a picture in bytes, 134217728 (128 MiB) if left out.
    #[serde(default)]
    pub max_bytes: Option<u64>,
}

impl ImageFolderSource {
    pub(crate) fn read(
        &self,
        base_dir: &Path,
        targets: &Targets<'_>,
        model: Option<&PictureInput>,
    ) -> Result<Vec<Record>, DataError> {
        let manifest = base_dir.join(&self.manifest);
        let input = self.input(model).map_err(|problem| DataError::file(&manifest, problem))?;
        let limits = self.limits().map_err(|problem| DataError::file(&manifest, problem))?;
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
        let columns = Columns { label: Some("label"), id: ids.then_some("id"), subject: subjects.then_some("subject") };
        let root = base_dir.join(&self.root);
        let name = |_: usize, row: &Row| Ok(row.text("file")?.to_owned());
        let mut files = Files::new(root)?;
        let image = |row: &Row| {
            let path = files.add(row.text("file")?, row.line)?;
            match &input {
                Input::OfModel(input) => pictures::read_for(&path, input, limits),
                Input::OfSource { channels, steps } => pictures::read(&path, *channels, steps, limits),
            }
        };
        records(&manifest, rows, &columns, targets, name, image)
    }

    /// The steps from a file to a record; settings that contradict the model are refused by name.
    fn input<'a>(&self, model: Option<&'a PictureInput>) -> Result<Input<'a>, String> {
        let channels = self.channels.or(model.map(|model| model.channels)).unwrap_or(3);
        if ![1, 3].contains(&channels) {
            return Err(format!("cannot be read with `channels` = {channels}; use 1 or 3"));
        }
        let largest = PictureLimits::LARGEST_SIDE;
        if self.resize.is_some_and(|sides| sides.iter().any(|side| !(1..=largest).contains(side))) {
            return Err(format!("cannot be read with this `resize`; sides are 1 to {largest}"));
        }
        let Some(model) = model else {
            let exact = |[height, width]: [u32; 2]| PictureSize::Exact { height, width };
            let resize = self.resize.map(|size| Resize { size: exact(size), filter: Filter::Bilinear });
            return Ok(Input::OfSource { channels, steps: PictureSteps { resize, crop: None } });
        };
        if channels != model.channels {
            return Err(format!(
                "cannot be read with `channels` = {channels}, because the model takes {}; leave `channels` out",
                model.channels
            ));
        }
        match self.resize {
            Some([height, width]) if [height, width] != [model.height, model.width] => Err(format!(
                "cannot be read with `resize` = [{height}, {width}], because the model takes {}x{} (height x width), and its \
                 own processor resizes pictures to that; leave `resize` out",
                model.height, model.width
            )),
            _ => Ok(Input::OfModel(model)),
        }
    }

    fn limits(&self) -> Result<PictureLimits, String> {
        let default = PictureLimits::default();
        let limits = PictureLimits {
            pixels: self.max_pixels.unwrap_or(default.pixels),
            bytes: self.max_bytes.unwrap_or(default.bytes),
        };
        let most = PictureLimits::MOST_PIXELS;
        if !(1..=most).contains(&limits.pixels) {
            return Err(format!("cannot be read with `max_pixels` = {}; it takes 1 to {most}", limits.pixels));
        }
        if !(1..=1 << 32).contains(&limits.bytes) {
            return Err(format!("cannot be read with `max_bytes` = {}; it takes 1 to {}", limits.bytes, 1_u64 << 32));
        }
        Ok(limits)
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
        let resolved = root.canonicalize().map_err(|cause| DataError::Read { path: root.clone(), cause })?;
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

/// `true` if a relative path leads out of the folder that it starts from, or is not relative.
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

/// The steps from a file to a record.
enum Input<'a> {
    /// The steps of the model that is trained or asked.
    OfModel(&'a PictureInput),
    /// The steps of the source, where no model is asked.
    OfSource {
        /// 1 for grey, 3 for RGB.
        channels: u8,
        /// The size that the source names.
        steps: PictureSteps,
    },
}
