//! Audits by attack: whether membership inference finds deleted records, beside an oracle that never saw them.
//!
//! Everything happens in a copy of the store beside it, which is removed at the end: the copy has the store's records and stages, and
//! the deletion is a real one. Scores of records stay in memory.

mod audit;
mod copies;
pub(crate) mod draw;
mod groups;
mod leaks;
mod measure;
mod oracle;
mod references;
mod run;
mod scores;
mod settings;
mod signals;
mod targets;

pub use audit::MembershipAudit;
pub use copies::PipelineSource;
pub use oracle::OracleEvidence;
pub use run::{AttackObserver, Phase, attack};
pub use settings::AttackSettings;
pub use targets::Named;

pub(crate) use copies::{Copies, Copy, Steps};
pub(crate) use signals::of_class;
