//! Laws of deletion for any unlearning system.
//!
//! A system trains on records, forgets some of them, and answers questions. The laws compare two worlds that must be equal once a
//! record is forgotten: one in which the record had another content, one in which the record was never there, one in which the deletions came in
//! another order, one in which the process was killed. They know nothing of how a system works, so they hold for any.
//!
//! - A system in Rust implements [`UnlearningSystem`] and [`Launcher`].
//! - A system in any language is a command that speaks JSON lines: [`Program`], described in [`protocol`].
//! - [`check`] runs the laws of [`Law`] and gives a [`Report`].
//!
//! ```
//! use s3t_laws::{Answers, Content, Description, Forgotten, Guarantee, Home, LawsError, Launcher, Record, Settings, UnlearningSystem, check};
//!
//! /// Answers with the mean of each feature: training again is taking the mean again.
//! struct Means { description: Description, records: Vec<Record> }
//!
//! impl UnlearningSystem for Means {
//!     fn description(&self) -> &Description { &self.description }
//!     fn train(&mut self, records: &[Record]) -> Result<(), LawsError> { self.records = records.to_vec(); Ok(()) }
//!     fn forget(&mut self, ids: &[String]) -> Result<Forgotten, LawsError> {
//!         self.records.retain(|record| !ids.contains(&record.id));
//!         Ok(Forgotten::Done)
//!     }
//!     fn answer(&mut self, questions: &[Content]) -> Result<Answers, LawsError> {
//!         let first = |record: &Record| record.content["features"][0].as_f64().unwrap_or_default();
//!         if self.records.is_empty() { return Ok(Answers::Unavailable); }
//!         let mean = self.records.iter().map(first).sum::<f64>() / self.records.len() as f64;
//!         Ok(Answers::Given(questions.iter().map(|_| vec![mean]).collect()))
//!     }
//! }
//!
//! struct Start;
//! impl Launcher for Start {
//!     fn launch(&self, _home: &Home) -> Result<Box<dyn UnlearningSystem>, LawsError> {
//!         let description = Description::new("means", Guarantee::Bits);
//!         Ok(Box::new(Means { description, records: Vec::new() }))
//!     }
//! }
//!
//! let report = check(&Start, &Settings { rounds: 1, records: 12, ..Settings::default() })?;
//! assert!(report.passed(), "{report}");
//! # Ok::<(), LawsError>(())
//! ```

mod case;
mod check;
mod data;
mod disk;
mod error;
mod exact_numbers;
mod law;
mod process;
mod record;
mod report;
mod script;
mod settings;
mod system;
mod two_sample;

#[doc = include_str!("../PROTOCOL.md")]
pub mod protocol;

pub use case::Case;
pub use check::{check, check_with};
pub use data::read_json_lines;
pub use disk::{SeenFile, Trace};
pub use error::LawsError;
pub use law::{Law, Pair};
pub use process::Program;
pub use record::{Content, Record};
pub use report::{LawReport, Report, Verdict};
pub use script::{Observation, Script, Step};
pub use settings::Settings;
pub use system::{Answers, Capability, Description, Forgotten, Guarantee, Home, Kept, Launcher, UnlearningSystem};
pub use two_sample::{TwoSample, energy_test};
