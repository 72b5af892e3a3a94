//! The settings of a server: the section `[server]` of a pipeline file, and what a program or command line puts in its place.

mod check;
mod limits;
mod sections;

use std::path::{Path, PathBuf};
use std::time::Duration;

use s3t_engine::{EngineError, Pipeline};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use limits::{MAX_LEASE, MAX_SECONDS};

pub(crate) use sections::FOLLOW_TOKEN;
pub use sections::{FollowSettings, OpenDsrSettings, RepairSettings, TlsSettings, WitnessSettings};

/// The settings of a server. Every field has a default.
///
/// ```
/// use s3t_server::ServerSettings;
///
/// let settings = ServerSettings::default();
/// assert_eq!(settings.address, "127.0.0.1:3000");
/// assert!(settings.queue_records >= 2 * settings.request_records);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// The address and port of answers, and of everything else unless `private_address` is given. Port 0 takes a free one.
    pub address: String,
    /// The address and port of deletions, proofs, audits and the page, if they are to be apart from answers.
    pub private_address: Option<String>,
    /// The address and port of health and figures alone, without encryption: probes are answered there however many connections are open
    /// elsewhere. The other ports have these routes too.
    pub health_address: Option<String>,
    /// The file of tokens; `tokens.json` in the folder `STORE.server` beside the store if it is not given. `s3t token` makes and revokes them.
    pub tokens: Option<PathBuf>,
    /// The folder of the server's own database of requests and callbacks; `STORE.server` if it is not given.
    pub data: Option<PathBuf>,
    /// The most records that wait for an answer. A request beyond it is refused with 429.
    pub queue_records: usize,
    /// The most records that are answered together.
    pub batch_records: usize,
    /// The most records of a request.
    pub request_records: usize,
    /// The most milliseconds from a request to its answer. A request that takes longer is answered with 504.
    pub deadline_ms: u64,
    /// The most seconds from a request to the end of its texts, where the model continues texts. A text that takes longer ends with
    /// an error.
    pub generation_seconds: f64,
    /// The largest body of a request in bytes.
    pub body_bytes: usize,
    /// The most open connections of each port. Further ones wait until one closes.
    pub connections: usize,
    /// The most seconds in which the head of a request has to arrive, and its body after that. A client that reads nothing of its answer for
    /// three times as long is let go.
    pub read_seconds: f64,
    /// The seconds between the signal to stop and the end of new connections, in which `/readyz` says that the server stops.
    pub stop_delay_seconds: f64,
    /// The most seconds for requests that are being answered when no new ones are taken any more.
    pub drain_seconds: f64,
    /// The minutes for which deletions with a due time are collected before they are done together; 0 does each at once.
    pub batch_minutes: u64,
    /// The requests that a shard is to survive at worst. A deletion that would leave a shard with fewer waits: for a repair, for an
    /// operator who releases it, or for its due time, whichever comes first. Without it no deletion waits for this.
    pub min_budget: Option<usize>,
    /// Repair in the background. Without it the server repairs when an operator asks for it.
    pub repair: Option<RepairSettings>,
    /// Witnesses that countersign the ledger's checkpoints.
    pub witnesses: Vec<WitnessSettings>,
    /// The seconds for which a follower may answer after it was last in touch; 0 takes no followers. A deletion waits for a follower that
    /// is cut off for this time and a little more.
    pub lease_seconds: f64,
    /// The leader, if this server is a follower of another.
    pub follow: Option<FollowSettings>,
    /// Encryption of connections.
    pub tls: Option<TlsSettings>,
    /// Privacy requests by OpenDSR 2.0.
    pub opendsr: Option<OpenDsrSettings>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:3000".to_owned(),
            private_address: None,
            health_address: None,
            tokens: None,
            data: None,
            queue_records: 512,
            batch_records: 64,
            request_records: 32,
            deadline_ms: 10_000,
            generation_seconds: 600.0,
            body_bytes: 2 << 20,
            connections: 1024,
            read_seconds: 10.0,
            stop_delay_seconds: 5.0,
            drain_seconds: 30.0,
            batch_minutes: 0,
            min_budget: None,
            repair: None,
            witnesses: Vec::new(),
            lease_seconds: 10.0,
            follow: None,
            tls: None,
            opendsr: None,
        }
    }
}

impl ServerSettings {
    /// The settings in a pipeline's section `[server]`. Relative paths start from the pipeline file's folder.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] naming the key that cannot be used.
    pub fn of_pipeline(pipeline: &Pipeline) -> Result<Self, EngineError> {
        let mut settings: Self = pipeline.server_settings()?;
        let base = &pipeline.base_dir;
        let below = |path: &mut PathBuf| *path = base.join(&path);
        settings.tokens.as_mut().map(below);
        settings.data.as_mut().map(below);
        if let Some(tls) = &mut settings.tls {
            below(&mut tls.certificate);
            below(&mut tls.key);
            tls.client_authority.as_mut().map(below);
        }
        if let Some(follow) = &mut settings.follow {
            for path in [&mut follow.token_file, &mut follow.authority, &mut follow.certificate, &mut follow.key] {
                path.as_mut().map(below);
            }
        }
        if let Some(opendsr) = &mut settings.opendsr {
            below(&mut opendsr.certificate);
            below(&mut opendsr.key);
            opendsr.callback_authorities.as_mut().map(below);
        }
        settings.check().map_err(|(key, problem)| pipeline.refuse_server(key, &problem))?;
        Ok(settings)
    }

    /// The folder of the server's own database.
    pub fn data_folder(&self, store: &Path) -> PathBuf {
        self.data.clone().unwrap_or_else(|| beside(store, ".server"))
    }

    /// The file of tokens.
    pub fn token_file(&self, store: &Path) -> PathBuf {
        self.tokens.clone().unwrap_or_else(|| self.data_folder(store).join("tokens.json"))
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    pub(crate) fn generation_time(&self) -> Duration {
        Duration::from_secs_f64(self.generation_seconds.clamp(0.1, MAX_SECONDS))
    }

    pub(crate) fn read_time(&self) -> Duration {
        Duration::from_secs_f64(self.read_seconds.clamp(0.1, MAX_SECONDS))
    }

    /// The lease of a follower; zero for none.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs_f64(self.lease_seconds.clamp(0.0, MAX_LEASE))
    }

    pub(crate) fn stop_delay(&self) -> Duration {
        Duration::from_secs_f64(self.stop_delay_seconds.clamp(0.0, MAX_SECONDS))
    }

    pub(crate) fn drain_time(&self) -> Duration {
        Duration::from_secs_f64(self.drain_seconds.clamp(0.0, MAX_SECONDS))
    }
}

/// A path with something added to its last name.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_store_is_beside_it() {
        let settings = ServerSettings::default();
        assert_eq!(settings.token_file(Path::new("a/store")), Path::new("a/store.server/tokens.json"));
    }
}
