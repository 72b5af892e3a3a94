//! The executor `slurm`: stages are trained by workers that Slurm starts on the machines of a cluster.
//!
//! Slurm provides machines, and is told nothing of stages: a job array of workers is submitted once, and each worker takes stages from the process
//! that owns the store until none is left. Slurm's commands are called (`sbatch`, `squeue`, `scancel`), because they are there wherever
//! Slurm is. Of `squeue` the columns of `--format` are read, which are the same in every version; its JSON is not.

mod call;
mod fields;
mod job;
mod options;
mod state;

use s3t_cluster::s3t_executor::{Executor, ExecutorError, Session, Site};

use crate::job::Array;

pub use options::Slurm;

/// # Proof note
///
/// *Before*: Slurm starts, stops, repeats or loses workers as it likes. *After*: a stage has the bits that the trainer gives in this
/// process, or is not trained. *Why*: Slurm is told nothing of a stage; workers join over TLS with an invitation of this launch, and what
/// holds for them whatever starts them is shown in `s3t-cluster`. The invitation is handed over in the environment of the job. Nothing of
/// a record is in a script, an argument, a log or a file.
#[typetag::serde(name = "slurm")]
impl Executor for Slurm {
    fn check(&self) -> Result<(), ExecutorError> {
        fields::check(self)?;
        self.settings().check()
    }

    fn start(&self, site: Site) -> Result<Box<dyn Session>, ExecutorError> {
        self.check()?;
        let array = Array::new(self, &site.store).map_err(|error| error.of_start("executor `slurm`"))?;
        s3t_cluster::start(&site, self.settings(), Box::new(array))
    }
}
