//! The formats of pictures.

use std::path::Path;

use crate::PlotError;

/// A picture's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Scalable vector graphics.
    Svg,
    /// A bitmap.
    Png,
}

impl Format {
    /// The format of a file by its name.
    ///
    /// # Errors
    ///
    /// [`PlotError::Format`] for a name that ends neither in `.svg` nor in `.png`.
    pub fn of(path: &Path) -> Result<Self, PlotError> {
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(PlotError::Format(path.into())),
        }
    }
}
