//! The executor `network`: stages are trained by workers on other machines, which somebody starts with `s3t worker --connect`.

mod by_hand;

use std::path::PathBuf;

use s3t_cluster::s3t_executor::{Executor, ExecutorError, Session, Site, plugin};
use s3t_cluster::{ObjectStorage, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::by_hand::ByHand;

/// Trains in workers on other machines that you start: `s3t worker --connect HOST:PORT --invitation FILE`. They may come and go at any time.
///
/// # Proof note
///
/// *Before*: workers join with the invitation, and train a job from what travels with it. *After*: a stage has the bits that the trainer
/// gives in this process, or is not trained. *Why*: both sides know each other by the invitation, over TLS; a worker with another
/// arithmetic or base model is refused; a stage of a worker that was lost is trained anew from the same job. When `forget` returns, every
/// worker has said that it forgot, or its lease has ended. Nothing of a record touches a disk: a worker is given no folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// The number of workers that may train at a time.
    pub workers: usize,
    /// The address and the port on which this machine listens for workers.
    pub listen: String,
    /// The file that the invitation is written to, which only you may read. Workers need it; it is made anew for every launch.
    pub invitation: PathBuf,
    /// The number of times that a stage is given to another worker after one was lost with it.
    pub restarts: usize,
    /// The seconds after which a worker that does not hear from this machine wipes its memory and ends, and after which a silent worker
    /// counts as lost. Longer than sending the records of a stage takes.
    pub lease_seconds: f64,
    /// Object storage through which records and stages travel to workers and back, each once, such as `{ url = "s3://bucket/s3t" }` or
    /// `{ url = "file:///shared/s3t" }`; also `endpoint`, `region`, `allow_http`. Credentials come from the environment.
    pub objects: Option<ObjectStorage>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            workers: 1,
            listen: "0.0.0.0:7343".into(),
            invitation: "s3t.invitation".into(),
            restarts: 3,
            lease_seconds: 60.0,
            objects: None,
        }
    }
}

impl Network {
    fn settings(&self) -> Settings {
        Settings {
            workers: self.workers,
            listen: self.listen.clone(),
            host: None,
            restarts: self.restarts,
            lease_seconds: self.lease_seconds,
            look_seconds: 1.0,
            objects: self.objects.clone(),
        }
    }
}

#[typetag::serde(name = "network")]
impl Executor for Network {
    fn check(&self) -> Result<(), ExecutorError> {
        if self.invitation.file_name().is_none() {
            let problem = format!("is `{}`; give the path of a file to write", self.invitation.display());
            return Err(ExecutorError::InvalidField { field: "invitation", problem });
        }
        self.settings().check()
    }

    fn start(&self, site: Site) -> Result<Box<dyn Session>, ExecutorError> {
        self.check()?;
        let launcher = ByHand::new(self.workers, self.invitation.clone());
        s3t_cluster::start(&site, self.settings(), Box::new(launcher))
    }
}

plugin!(Executor, "network", Network);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_settings_are_refused() {
        let default = Network::default;
        default().check().unwrap();
        for (executor, field) in [
            (Network { workers: 0, ..default() }, "workers"),
            (Network { listen: "7343".into(), ..default() }, "listen"),
            (Network { invitation: "".into(), ..default() }, "invitation"),
            (Network { lease_seconds: 0.0, ..default() }, "lease_seconds"),
        ] {
            let message = executor.check().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{field}` is ")), "{message}");
        }
    }
}
