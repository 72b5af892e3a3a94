//! The fields of the executor.

use std::path::PathBuf;

use s3t_cluster::s3t_executor::plugin;
use s3t_cluster::{ObjectStorage, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Trains in workers that Slurm starts on the machines of a cluster, as a job array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Slurm {
    /// The number of workers: elements of the job array. Where the limits of the site allow fewer, there are fewer.
    pub workers: usize,
    /// The max number of workers that run at a time, as `%` of an array; 0 for all.
    pub max_running: usize,
    /// The partition (`--partition`).
    pub partition: Option<String>,
    /// The account that is charged (`--account`).
    pub account: Option<String>,
    /// The quality of service (`--qos`).
    pub qos: Option<String>,
    /// Features of the machines (`--constraint`), such as `avx512`.
    pub constraint: Option<String>,
    /// The memory of each worker (`--mem`), such as `16G`.
    pub mem: Option<String>,
    /// The max time of each worker (`--time`), such as `04:00:00`. A worker whose time is up is replaced.
    pub time: Option<String>,
    /// Generic resources (`--gres`), such as `gpu:1`.
    pub gres: Option<String>,
    /// The cores of each worker (`--cpus-per-task`).
    pub cpus: usize,
    /// Commands of the job's script before the worker, such as `module load cuda`. Where one fails, the worker is not started.
    pub setup: Vec<String>,
    /// The shell of the job's script, with its arguments. A login shell knows `module`.
    pub shell: String,
    /// More arguments of `sbatch`, after all others.
    pub arguments: Vec<String>,
    /// The folder of the workers' logs, `%A_%a_%t_log.out` and `.err`, which the machines share.
    pub logs: PathBuf,
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
    /// The seconds between two looks at the queue.
    pub look_seconds: f64,
    /// The seconds that a command of Slurm may take.
    pub call_seconds: f64,
}

impl Default for Slurm {
    fn default() -> Self {
        Self {
            workers: 1,
            max_running: 0,
            partition: None,
            account: None,
            qos: None,
            constraint: None,
            mem: None,
            time: None,
            gres: None,
            cpus: 1,
            setup: Vec::new(),
            shell: "/bin/bash -l".into(),
            arguments: Vec::new(),
            logs: "slurm-logs".into(),
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

impl Slurm {
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

plugin!(Executor, "slurm", Slurm);
