use std::path::PathBuf;

/// A picture that is refused or could not be drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlotError {
    /// A file name that does not say the format.
    #[error("`plot` is `{}`; the name must end in .svg or .png", .0.display())]
    Format(PathBuf),
    /// A picture that could not be drawn.
    #[error("cannot draw the picture: {0}")]
    Draw(String),
}
