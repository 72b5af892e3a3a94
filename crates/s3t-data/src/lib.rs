//! Reading training records.
//!
//! A [`Source`] is read as a whole or refused as a whole: every error names the file and the line, and nothing is written
//! before everything was read. No constant of the data (a label list, a mean) is derived from the records, because
//! whatever is derived from a record outlives its deletion.

mod csv_file;
mod duplicates;
mod error;
mod id_list;
mod idx;
mod image_folder;
mod input;
mod jsonl;
mod labels;
mod pictures;
mod probabilities;
mod questions;
mod rows;
mod source;

pub use csv_file::CsvSource;
pub use duplicates::Duplicates;
pub use error::DataError;
pub use id_list::{MAX_LIST_MB, parse_id_list, read_id_list};
pub use idx::IdxSource;
pub use image_folder::ImageFolderSource;
pub use jsonl::JsonlSource;
pub use labels::{Labels, Targets};
pub use pictures::PictureLimits;
pub use probabilities::read_probabilities;
pub use questions::{read_image_bytes, read_image_question, read_questions};
pub use rows::{Row, Template, read_rows};
pub use source::Source;
