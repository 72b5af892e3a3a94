//! The Jobs of a launch, by `kubectl`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use s3t_cluster::{Call, ClusterError, Ending, EngineCommand, Launcher, Task, TaskState, end_of_log};

use crate::manifest::{self, RUN};
use crate::options::Kubernetes;
use crate::state::{List, tasks};

const ENGINE: &str = "Kubernetes";

/// Words of `kubectl` that say that the API server does not answer now.
const DOWN: [&str; 10] = [
    "Unable to connect to the server",
    "was refused",
    "i/o timeout",
    "TLS handshake timeout",
    "context deadline exceeded",
    "connection reset",
    "the server is currently unable to handle the request",
    "etcdserver:",
    "Too many requests",
    "unexpected EOF",
];

/// A Job that was made, as far as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// It may have been made: it is looked up before anything else is.
    Perhaps,
    Yes,
    /// It has ended, and may be deleted.
    Ended,
}

/// The Jobs of a launch.
#[derive(Debug)]
pub(crate) struct Jobs {
    job: Kubernetes,
    /// The name of the launch: the store and the run.
    name: String,
    made: Mutex<BTreeMap<u64, Made>>,
}

impl Jobs {
    /// Asks the cluster for the launch's Jobs, of which there are none: a cluster that is not there at all is not waited for.
    pub(crate) fn new(job: &Kubernetes, store: &str) -> Result<Self, ClusterError> {
        let jobs = Self { job: job.clone(), name: manifest::name(store)?, made: Mutex::default() };
        jobs.list().map_err(|error| match error {
            ClusterError::NoAnswer { engine, command, .. } => {
                let problem = "the cluster does not answer; look at `kubectl cluster-info`, and give `context`".into();
                ClusterError::Engine { engine, command, problem }
            }
            error => error,
        })?;
        Ok(jobs)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, words: &[&str], input: &str) -> Result<String, ClusterError> {
        let limit = Duration::from_secs_f64(self.job.call_seconds);
        let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        arguments.push(format!("--request-timeout={}s", self.job.call_seconds.ceil()));
        let options = [("context", &self.job.context), ("namespace", &self.job.namespace)];
        arguments.extend(options.iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?))));
        let name = "kubectl";
        let command = EngineCommand { engine: ENGINE, name, arguments: &arguments, input, limit, ..Default::default() };
        match command.output() {
            Err(ClusterError::Engine { problem, engine, command })
                if DOWN.iter().any(|words| problem.contains(words)) =>
            {
                tracing::debug!(problem, "the cluster does not answer");
                Err(ClusterError::NoAnswer { engine, command, limit })
            }
            output => output,
        }
    }

    /// The Jobs and the Pods of the launch.
    fn list(&self) -> Result<List, ClusterError> {
        let text =
            self.call(&["get", "jobs,pods", "--selector", &format!("{RUN}={}", self.name), "--output=json"], "")?;
        serde_json::from_str(&text).map_err(|error| ClusterError::Engine {
            engine: ENGINE.into(),
            command: "kubectl get".into(),
            problem: format!("its list cannot be read: {error}"),
        })
    }

    fn job_name(&self, number: u64) -> String {
        format!("{}-{number}", self.name)
    }
}

impl Launcher for Jobs {
    fn engine(&self) -> &'static str {
        "kubernetes"
    }

    fn submit(&self, number: u64, workers: usize, launch: &Call) -> Result<usize, ClusterError> {
        if self.lock().get(&number) == Some(&Made::Perhaps) {
            let (list, name) = (self.list()?, self.job_name(number));
            if let Some(job) = list.items.iter().find(|item| item.kind == "Job" && item.metadata.name == name) {
                tracing::info!(number, "Kubernetes had made the Job that it did not answer for");
                self.lock().insert(number, Made::Yes);
                return Ok(job.spec.completions);
            }
        }
        let manifest = manifest::text(&self.job, &self.name, number, workers, launch);
        // The server compares: what is there already is no error, and no copy of the secret is made.
        match self.call(&["apply", "--server-side", "--field-manager=s3t", "--filename=-"], &manifest) {
            Ok(_) => {
                tracing::info!(job = self.job_name(number), workers, "workers are submitted");
                self.lock().insert(number, Made::Yes);
                Ok(workers)
            }
            Err(error) => {
                if matches!(error, ClusterError::NoAnswer { .. }) {
                    self.lock().insert(number, Made::Perhaps);
                }
                Err(error)
            }
        }
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        let list = self.list()?;
        let mut all = Vec::new();
        for (number, made) in &mut *self.lock() {
            let name = self.job_name(*number);
            match list.items.iter().find(|item| item.kind == "Job" && item.metadata.name == name) {
                Some(job) => {
                    *made = if job.has_ended() { Made::Ended } else { Made::Yes };
                    all.extend(tasks(&name, job, &list));
                }
                None if *made == Made::Yes => {
                    let words = "the Job is gone; somebody has deleted it".to_owned();
                    all.push(Task { name, state: TaskState::Ended(Ending::Final, words) });
                }
                None => {}
            }
        }
        Ok(all)
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        let selector = format!("{RUN}={}", self.name);
        self.call(&["delete", "jobs,secrets", "--selector", &selector, "--wait=false", "--ignore-not-found"], "")
            .map(drop)
    }

    fn log(&self, task: &str) -> Option<String> {
        end_of_log(&self.call(&["logs", task, "--tail=5"], "").ok()?)
    }
}
