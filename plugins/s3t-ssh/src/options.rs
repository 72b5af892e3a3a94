//! The fields of the executor.

use std::path::PathBuf;

use s3t_cluster::s3t_executor::plugin;
use s3t_cluster::{ObjectStorage, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Trains in workers that are started on a list of machines through `ssh`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// The machines, as `ssh` knows them: `node7`, `you@node7`, or a `Host` of your `~/.ssh/config`.
    pub hosts: Vec<String>,
    /// The max number of workers on each machine.
    pub workers_per_host: usize,
    /// The number of workers; 0 for as many as there is room for. With fewer, there is room elsewhere for workers that are lost.
    pub workers: usize,
    /// The cores of each worker; 0 for all of its machine.
    pub cpus: usize,
    /// Lines of a shell before the worker, such as `module load cuda`.
    pub setup: Vec<String>,
    /// More arguments of `ssh`, such as `["-i", "cluster_key", "-p", "2222"]`.
    pub arguments: Vec<String>,
    /// The seconds that `ssh` may take to connect.
    pub connect_seconds: u16,
    /// The program of the workers on their machines; the path of the program that is running if it is left out.
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
    /// The seconds between two looks at the sessions.
    pub look_seconds: f64,
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            workers_per_host: 1,
            workers: 0,
            cpus: 0,
            setup: Vec::new(),
            arguments: Vec::new(),
            connect_seconds: 15,
            program: None,
            listen: "0.0.0.0:0".into(),
            host: None,
            restarts: 3,
            lease_seconds: 60.0,
            objects: None,
            look_seconds: 2.0,
        }
    }
}

impl Ssh {
    /// The number of workers for which there is room.
    pub(crate) fn room(&self) -> usize {
        self.hosts.len().saturating_mul(self.workers_per_host)
    }

    /// The settings that executors on other machines share.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            workers: if self.workers == 0 { self.room() } else { self.workers },
            listen: self.listen.clone(),
            host: self.host.clone(),
            restarts: self.restarts,
            lease_seconds: self.lease_seconds,
            look_seconds: self.look_seconds,
            objects: self.objects.clone(),
        }
    }
}

plugin!(Executor, "ssh", Ssh);
