//! Line charts, as SVG and PNG, of numbers alone: no store or model is needed to draw one.

mod chart;
mod draw;
mod error;
mod format;
mod scale;

pub use chart::{Axis, Chart, Series};
pub use error::PlotError;
pub use format::Format;
