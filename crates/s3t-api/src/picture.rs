//! The file that a picture is written to.

use std::path::Path;

use s3t_plot::{Chart, Format};

use crate::{ApiError, ErrorKind};

/// The file of a picture.
pub(crate) struct Picture<'a> {
    path: &'a Path,
    format: Format,
}

impl<'a> Picture<'a> {
    /// The file with this name; refused before any work if the name does not say its format, or the file could not be written.
    pub(crate) fn at(path: Option<&'a Path>) -> Result<Option<Self>, ApiError> {
        let Some(path) = path else { return Ok(None) };
        let format = Format::of(path)?;
        if path.is_dir() {
            return Err(ApiError::field("plot", format!("is `{}`, a folder; name a file", path.display())));
        }
        match path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            Some(folder) => {
                let problem =
                    format!("is `{}`, and there is no folder `{}`; make it first", path.display(), folder.display());
                Err(ApiError::field("plot", problem))
            }
            None => Ok(Some(Self { path, format })),
        }
    }

    /// Draws the picture, and returns the name of its file.
    pub(crate) fn draw(&self, chart: &Chart) -> Result<String, ApiError> {
        let name = self.path.display().to_string();
        std::fs::write(self.path, chart.draw(self.format)?)
            .map_err(|error| ApiError::new(ErrorKind::Failed, format!("cannot write `{name}`: {error}")))?;
        Ok(name)
    }
}
