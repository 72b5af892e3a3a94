//! A manifest that the user applies.

use s3t_cluster::{Call, ClusterError, Launcher, SecretFile, Task, TaskState, quoted};

use crate::manifest::{self, BEGINNING};
use crate::options::Kubernetes;

#[derive(Debug)]
pub(crate) struct ByHand {
    job: Kubernetes,
    file: SecretFile,
    /// The name of the launch: the store and the run.
    name: String,
}

impl ByHand {
    pub(crate) fn new(job: &Kubernetes, store: &str) -> Result<Self, ClusterError> {
        let file = SecretFile::new(job.manifest.clone(), "manifest", BEGINNING);
        Ok(Self { job: job.clone(), file, name: manifest::name(store)? })
    }
}

impl Launcher for ByHand {
    fn engine(&self) -> &'static str {
        "kubernetes"
    }

    fn to_do(&self) -> Option<String> {
        let path = quoted(&self.file.path().display().to_string());
        let namespace = self.job.namespace.as_ref().map(|name| format!(" --namespace={name}")).unwrap_or_default();
        let label = format!("{}={}", manifest::RUN, self.name);
        let delete = format!("kubectl delete jobs,secrets -l {label}{namespace}");
        Some(format!("start them with `kubectl apply -f {path}`, and delete them afterwards with `{delete}`"))
    }

    fn submit(&self, number: u64, workers: usize, launch: &Call) -> Result<usize, ClusterError> {
        self.file.write(manifest::text(&self.job, &self.name, number, workers, launch))?;
        Ok(workers)
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        // Kubernetes replaces workers by itself, and the user may apply the manifest at any time.
        Ok((0..self.job.workers).map(|number| Task { name: number.to_string(), state: TaskState::Queued }).collect())
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        self.file.remove()
    }

    fn log(&self, _task: &str) -> Option<String> {
        None
    }
}
