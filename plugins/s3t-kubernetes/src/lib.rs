//! The executor `kubernetes`: stages are trained by workers of an indexed Job of Kubernetes.
//!
//! Kubernetes provides machines, and is told nothing of stages: a Job of workers is made once, and each worker takes stages from the process
//! that owns the store until none is left. The manifest is written for the user to apply, or `kubectl` is called, because it is there
//! wherever people use Kubernetes, with their accounts and contexts.

mod by_hand;
mod fields;
mod kubectl;
mod manifest;
mod options;
mod state;

use s3t_cluster::Launcher;
use s3t_cluster::s3t_executor::{Executor, ExecutorError, Session, Site};

use crate::by_hand::ByHand;
use crate::kubectl::Jobs;

pub use options::{Kubernetes, Volume};

/// # Proof note
///
/// *Before*: Kubernetes starts, stops, repeats or loses workers as it likes. *After*: a stage has the bits that the trainer gives in this
/// process, or is not trained. *Why*: Kubernetes is told nothing of a stage; workers join over TLS with an invitation of this launch, and
/// what holds for them whatever starts them is shown in `s3t-cluster`. The invitation is a Secret of the launch, which reaches `kubectl` on
/// its standard input, or the user in a file that he alone can read. The worker's container has no folder that it could write to. Nothing
/// of a record is in a manifest, an argument, a log or a file.
#[typetag::serde(name = "kubernetes")]
impl Executor for Kubernetes {
    fn check(&self) -> Result<(), ExecutorError> {
        fields::check(self)?;
        self.settings().check()
    }

    fn start(&self, site: Site) -> Result<Box<dyn Session>, ExecutorError> {
        self.check()?;
        let failed = |error: s3t_cluster::ClusterError| error.of_start("executor `kubernetes`");
        let launcher: Box<dyn Launcher> = if self.apply {
            Box::new(Jobs::new(self, &site.store).map_err(failed)?)
        } else {
            Box::new(ByHand::new(self, &site.store).map_err(failed)?)
        };
        s3t_cluster::start(&site, self.settings(), launcher)
    }
}
