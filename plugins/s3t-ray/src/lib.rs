//! The executor `ray`: stages are trained by workers that a Ray cluster starts as jobs.
//!
//! Ray provides machines, and is told nothing of stages: each worker is a job of Ray's Jobs API, which takes stages from the process that
//! owns the store until none is left. No package of Ray or Python is needed where `s3t train` runs: the API is HTTP.

mod api;
mod fields;
mod jobs;
mod options;
mod state;

use s3t_cluster::s3t_executor::{Executor, ExecutorError, Session, Site};

use crate::jobs::Jobs;

pub use options::Ray;

/// # Proof note
///
/// *Before*: Ray starts, stops or loses workers as it likes. *After*: a stage has the bits that the trainer gives in this process, or is
/// not trained. *Why*: Ray is told nothing of a stage; workers join over TLS with an invitation of this launch, and what holds for them
/// whatever starts them is shown in `s3t-cluster`. Ray shows and keeps the commands and the environments of its jobs, so the invitation is
/// in neither: it is a file that the user alone can read. Nothing of a record is in a command, a log or a file.
#[typetag::serde(name = "ray")]
impl Executor for Ray {
    fn check(&self) -> Result<(), ExecutorError> {
        fields::check(self)?;
        self.settings().check()
    }

    fn start(&self, site: Site) -> Result<Box<dyn Session>, ExecutorError> {
        self.check()?;
        let jobs = Jobs::new(self, &site.store).map_err(|error| error.of_start("executor `ray`"))?;
        s3t_cluster::start(&site, self.settings(), Box::new(jobs))
    }
}
