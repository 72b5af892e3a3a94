//! Tasks of language models, described in files: which texts are asked, and by which measures the answers are judged.

mod file;
mod metric;
mod questions;
mod run;

pub use file::{Choices, FewShot, LanguageTask, TaskKind};
pub use metric::TaskMetric;
pub use run::{Sample, TaskOptions, TaskReport, TaskScore, run_task};
