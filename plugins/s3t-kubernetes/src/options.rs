//! The fields of the executor.

use std::collections::BTreeMap;
use std::path::PathBuf;

use s3t_cluster::s3t_executor::plugin;
use s3t_cluster::{ObjectStorage, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A folder that the workers' containers see, such as that of the base model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Volume {
    /// The name of a `PersistentVolumeClaim`.
    pub claim: Option<String>,
    /// A folder of the nodes, instead of a claim.
    pub folder: Option<String>,
    /// The path in the container: that of the folder on this machine.
    pub path: String,
}

/// Trains in workers of an indexed Job of Kubernetes, whose manifest you apply, or `kubectl` does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// The number of workers: indices of the Job.
    pub workers: usize,
    /// The image of the workers, which has the program.
    pub image: String,
    /// The program in the image.
    pub program: String,
    /// Call `kubectl` to make, watch and delete the Job; otherwise only the manifest is written.
    pub apply: bool,
    /// The file that the manifest is written to unless `apply` is set. Only you may read it, because it has the invitation.
    pub manifest: PathBuf,
    /// The context of `kubectl` (`--context`).
    pub context: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// The cores of each worker.
    pub cpus: usize,
    /// The graphics cards of each worker (`nvidia.com/gpu`).
    pub gpus: usize,
    /// The memory of each worker, such as `16G`.
    pub mem: Option<String>,
    /// Labels of the nodes that may run workers.
    pub node_selector: BTreeMap<String, String>,
    /// The service account of the workers. They get no token of it.
    pub service_account: Option<String>,
    /// Secrets with which the image is pulled.
    pub pull_secrets: Vec<String>,
    /// Folders of the workers, read only, such as that of the base model: `[{ claim = "models", path = "/models" }]`.
    pub volumes: Vec<Volume>,
    /// The seconds after which Kubernetes deletes the Job once it has ended.
    pub ttl_seconds: u32,
    /// The address and the port on which this machine listens for workers; port 0 for any.
    pub listen: String,
    /// The name or address by which workers reach this machine; its host name if it is left out.
    pub host: Option<String>,
    /// The number of times that a stage is given to another worker after one was lost with it, and of pods that may fail, for each worker.
    pub restarts: usize,
    /// The seconds after which a worker that does not hear from this machine wipes its memory and ends, and after which a silent worker
    /// counts as lost. Longer than sending the records of a stage takes.
    pub lease_seconds: f64,
    /// Object storage through which records and stages travel to workers and back, each once, such as `{ url = "s3://bucket/s3t" }` or
    /// `{ url = "file:///shared/s3t" }`; also `endpoint`, `region`, `allow_http`. Credentials come from the environment.
    pub objects: Option<ObjectStorage>,
    /// The seconds between two looks at the Job.
    pub look_seconds: f64,
    /// The seconds that a call of `kubectl` may take.
    pub call_seconds: f64,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            workers: 1,
            image: String::new(),
            program: "s3t".into(),
            apply: false,
            manifest: "s3t-job.yaml".into(),
            context: None,
            namespace: None,
            cpus: 1,
            gpus: 0,
            mem: None,
            node_selector: BTreeMap::new(),
            service_account: None,
            pull_secrets: Vec::new(),
            volumes: Vec::new(),
            ttl_seconds: 3600,
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

impl Kubernetes {
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

plugin!(Executor, "kubernetes", Kubernetes);
