//! The fields of the executor.

use std::collections::BTreeMap;
use std::path::PathBuf;

use s3t_cluster::s3t_executor::plugin;
use s3t_cluster::{ObjectStorage, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Trains in workers that a Ray cluster starts, each a job of its Jobs API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ray {
    /// The number of workers: jobs of Ray. Those for which the cluster has no room wait.
    pub workers: usize,
    /// The address of Ray's dashboard, which has the Jobs API, such as `http://head1:8265`.
    pub address: String,
    /// The file with the token of a Ray that asks for one, such as `/home/you/.ray/auth_token`.
    pub token: Option<PathBuf>,
    /// The cores of each worker (`entrypoint_num_cpus`).
    pub cpus: usize,
    /// The graphics cards of each worker (`entrypoint_num_gpus`).
    pub gpus: f64,
    /// The memory of each worker (`entrypoint_memory`), such as `16G`.
    pub mem: Option<String>,
    /// Resources of the cluster's own that each worker takes (`entrypoint_resources`), such as `{ avx512 = 1 }`.
    pub resources: BTreeMap<String, f64>,
    /// Lines of the job's shell before the worker, such as `module load cuda`. Ray shows them to whoever sees the dashboard.
    pub setup: Vec<String>,
    /// The file that the invitation is written to, in a folder that the machines share. Only you may read it, and the workers do; it is
    /// made anew for every launch.
    pub invitation: PathBuf,
    /// The program of the workers on their machines; the program that is running if it is left out.
    pub program: Option<PathBuf>,
    /// The address and the port on which this machine listens for workers; port 0 for any.
    pub listen: String,
    /// The name or address by which workers reach this machine; its host name if it is left out.
    pub host: Option<String>,
    /// The number of times that a stage is given to another worker after one was lost with it, and of workers that may fail before they
    /// join.
    pub restarts: usize,
    /// The seconds after which a worker that does not hear from this machine wipes its memory and ends, and after which a silent worker
    /// counts as lost. Longer than sending the records of a stage takes.
    pub lease_seconds: f64,
    /// Object storage through which records and stages travel to workers and back, each once, such as `{ url = "s3://bucket/s3t" }` or
    /// `{ url = "file:///shared/s3t" }`; also `endpoint`, `region`, `allow_http`. Credentials come from the environment.
    pub objects: Option<ObjectStorage>,
    /// The seconds between two looks at the jobs.
    pub look_seconds: f64,
    /// The seconds that a call of Ray's API may take.
    pub call_seconds: f64,
}

impl Default for Ray {
    fn default() -> Self {
        Self {
            workers: 1,
            address: "http://127.0.0.1:8265".into(),
            token: None,
            cpus: 1,
            gpus: 0.0,
            mem: None,
            resources: BTreeMap::new(),
            setup: Vec::new(),
            invitation: "s3t.invitation".into(),
            program: None,
            listen: "0.0.0.0:0".into(),
            host: None,
            restarts: 3,
            lease_seconds: 60.0,
            objects: None,
            look_seconds: 10.0,
            call_seconds: 30.0,
        }
    }
}

impl Ray {
    /// The settings that executors on other machines share.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            workers: self.workers,
            listen: self.listen.clone(),
            host: self.host.clone(),
            restarts: self.restarts,
            lease_seconds: self.lease_seconds,
            look_seconds: self.look_seconds,
            objects: self.objects.clone(),
        }
    }
}

plugin!(Executor, "ray", Ray);
