//! The executor `ssh`: stages are trained by workers that are started on a list of machines through the system's `ssh`.
//!
//! The machines need an account that `ssh` enters without a question, and nothing that runs before: no scheduler, no daemon of this project.

mod fields;
mod hosts;
mod options;
mod session;
mod sessions;

use s3t_cluster::s3t_executor::{Executor, ExecutorError, Session, Site};

use crate::sessions::Sessions;

pub use options::Ssh;

/// # Proof note
///
/// *Before*: machines and connections fail as they like. *After*: a stage has the bits that the trainer gives in this process, or is not
/// trained. *Why*: `ssh` starts workers and is told nothing of stages; workers join over TLS with an invitation of this launch, and what
/// holds for them whatever starts them is shown in `s3t-cluster`. The invitation goes over the standard input of the encrypted session into
/// a variable of the worker, and is in no argument and no file. Nothing of a record is in a command, an argument or a file.
#[typetag::serde(name = "ssh")]
impl Executor for Ssh {
    fn check(&self) -> Result<(), ExecutorError> {
        fields::check(self)?;
        self.settings().check()
    }

    fn start(&self, site: Site) -> Result<Box<dyn Session>, ExecutorError> {
        self.check()?;
        let sessions = Sessions::new(self).map_err(|error| error.of_start("executor `ssh`"))?;
        s3t_cluster::start(&site, self.settings(), Box::new(sessions))
    }
}
