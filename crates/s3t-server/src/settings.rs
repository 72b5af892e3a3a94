//! The settings of a server: the section `[server]` of a pipeline file, and what a program or command line puts in its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use s3t_engine::{EngineError, Pipeline, RepairPolicy};
use s3t_ledger::WitnessKey;

/// The settings of a server. Every field has a default.
///
/// ```
/// use s3t_server::ServerSettings;
///
/// let settings = ServerSettings::default();
/// assert_eq!(settings.address, "127.0.0.1:3000");
/// assert!(settings.queue_records >= 2 * settings.request_records);
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// The address and port of answers, and of everything else unless `private_address` is given. Port 0 takes a free one.
    pub address: String,
    /// The address and port of deletions, proofs, audits and the page, if they are to be apart from answers.
    pub private_address: Option<String>,
    /// The address and port of health and figures alone, without encryption: probes are answered there however many connections are open
    /// elsewhere. The other ports have these routes too.
    pub health_address: Option<String>,
    /// The file of tokens; `server/tokens.json` beside the store if it is not given. `s3t token` makes and revokes them.
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
    /// The largest body of a request in bytes.
    pub body_bytes: usize,
    /// The most open connections of each port. Further ones wait until one closes.
    pub connections: usize,
    /// The most seconds in which the head of a request has to arrive, and its body after that.
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

/// A witness of the ledger (C2SP tlog-witness).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessSettings {
    /// The prefix of its submission addresses: `https://...`, or `http://` on this machine.
    pub url: String,
    /// Its public key, `NAME+HASH+BASE64`, of the type cosignature/v1.
    pub key: String,
}

/// The policy of repair in the background. Without a threshold, a repair is due whenever any stage is missing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepairSettings {
    /// Due when the mean depth that shards serve with, as a share of what was planned, is below this.
    pub below_depth: Option<f64>,
    /// Due when somebody who picks slices could kill a shard with fewer requests than this.
    pub below_budget: Option<usize>,
    /// The most minutes of repair in an hour; 60 sets no limit. An operator's request for a repair is not limited.
    pub minutes_per_hour: u64,
}

impl Default for RepairSettings {
    fn default() -> Self {
        Self { below_depth: None, below_budget: None, minutes_per_hour: NO_LIMIT }
    }
}

impl RepairSettings {
    pub(crate) fn policy(&self) -> RepairPolicy {
        let time = (self.minutes_per_hour < NO_LIMIT).then(|| Duration::from_secs(60 * self.minutes_per_hour));
        RepairPolicy { below_depth: self.below_depth, below_budget: self.below_budget, time }
    }
}

/// The minutes of an hour.
const NO_LIMIT: u64 = 60;

/// The leader of a follower, and what is needed to reach it.
///
/// The token is in a file, or in the environment variable `S3T_SERVER_FOLLOW_TOKEN`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowSettings {
    /// The leader's address, as `https://host:port`. Behind it are the routes of deletions and proofs.
    pub leader: String,
    /// The file of a token with the role `follow`. It is read again for each request, so that it can be replaced.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The certificates of the authority that signs the leader's, in PEM; the system's authorities if it is not given.
    #[serde(default)]
    pub authority: Option<PathBuf>,
    /// The follower's own certificate, in PEM, for a leader that demands one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The private key of the follower's own certificate, in PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// The environment variable of a follower's token.
pub(crate) const FOLLOW_TOKEN: &str = "S3T_SERVER_FOLLOW_TOKEN";

impl FollowSettings {
    /// The settings of a follower of a leader, without a token.
    pub fn of(leader: impl Into<String>) -> Self {
        Self { leader: leader.into(), token_file: None, authority: None, certificate: None, key: None }
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let uri = self.leader.parse::<axum::http::Uri>().ok();
        let is_address = uri.as_ref().is_some_and(|uri| {
            let host = uri.authority().map_or("", |authority| authority.as_str());
            let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
            is_web && !host.is_empty() && !host.contains('@') && uri.query().is_none()
        });
        // A name and password, which do not belong here, are not shown either.
        if !is_address || self.leader.len() > 2048 {
            let problem = "takes an address such as https://leader.example:3000, without name, password and query";
            return Err(("follow.leader", problem.to_owned()));
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(("follow.certificate", "and `follow.key` belong together; give both or neither".to_owned()));
        }
        Ok(())
    }
}

/// The files of TLS, in PEM. They are read again on SIGHUP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate, followed by the ones that lead to its root.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The certificates of the authorities that sign clients' certificates. With it every client has to have one.
    pub client_authority: Option<PathBuf>,
}

/// The settings of OpenDSR.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenDsrSettings {
    /// The domain by which the processor is known, as the certificate names it.
    pub domain: String,
    /// The certificate of the key that signs answers and callbacks, in PEM.
    pub certificate: PathBuf,
    /// The RSA key that signs answers and callbacks, in PEM (PKCS #8).
    pub key: PathBuf,
    /// The hosts that callbacks may go to, as `host` or `host:port`. A request with another is refused.
    #[serde(default)]
    pub callback_hosts: Vec<String>,
    /// Further certificates that callbacks trust, in PEM, beside those of the public web.
    #[serde(default)]
    pub callback_authorities: Option<PathBuf>,
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

/// The longest time that a setting in seconds takes: a day.
const MAX_SECONDS: f64 = 86_400.0;

/// The shortest and the longest lease of a follower in seconds.
const MIN_LEASE: f64 = 0.5;
const MAX_LEASE: f64 = 3600.0;

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

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// The key of the first value that cannot be used, and the problem, as in "is 0; it takes 1 to 4096".
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let number = |key, value: u64, min: u64, max: u64| {
            let fits = (min..=max).contains(&value);
            if fits { Ok(()) } else { Err((key, format!("is {value}; it takes {min} to {max}"))) }
        };
        let seconds = |key, value: f64, min: f64| {
            let fits = (min..=MAX_SECONDS).contains(&value);
            if fits { Ok(()) } else { Err((key, format!("is {value}; it takes {min} to {MAX_SECONDS}"))) }
        };
        number("batch_records", self.batch_records as u64, 1, 4096)?;
        number("request_records", self.request_records as u64, 1, 4096)?;
        // A caller alone may fill half of the queue; so its largest request has to fit into that.
        number("queue_records", self.queue_records as u64, 2 * self.request_records as u64, 1 << 20)?;
        number("deadline_ms", self.deadline_ms, 1, 3_600_000)?;
        number("body_bytes", self.body_bytes as u64, 1024, 1 << 30)?;
        number("connections", self.connections as u64, 1, 1 << 20)?;
        number("batch_minutes", self.batch_minutes, 0, 44_640)?;
        for witness in &self.witnesses {
            let local = ["http://127.0.0.1", "http://[::1]", "http://localhost"];
            if !(witness.url.starts_with("https://") || local.iter().any(|prefix| witness.url.starts_with(prefix))) {
                return Err((
                    "witnesses.url",
                    format!("is `{}`; give an address that starts with https://", witness.url),
                ));
            }
            if let Err(error) = witness.key.parse::<WitnessKey>() {
                return Err(("witnesses.key", error.to_string()));
            }
        }
        if let Some(repair) = &self.repair {
            number("repair.minutes_per_hour", repair.minutes_per_hour, 1, NO_LIMIT)?;
            if let Some(depth) = repair.below_depth.filter(|depth| !(0.0..=1.0).contains(depth)) {
                return Err(("repair.below_depth", format!("is {depth}; it takes 0 to 1, a share of the plan")));
            }
        }
        seconds("read_seconds", self.read_seconds, 0.1)?;
        seconds("stop_delay_seconds", self.stop_delay_seconds, 0.0)?;
        seconds("drain_seconds", self.drain_seconds, 0.0)?;
        if self.lease_seconds != 0.0 && !(MIN_LEASE..=MAX_LEASE).contains(&self.lease_seconds) {
            let problem =
                format!("is {}; it takes {MIN_LEASE} to {MAX_LEASE}, or 0 for no followers", self.lease_seconds);
            return Err(("lease_seconds", problem));
        }
        if let Some(follow) = &self.follow {
            follow.check()?;
            if self.private_address.is_some() {
                let problem = "is for a leader; a follower has answers only, and all on `server.address`";
                return Err(("private_address", problem.to_owned()));
            }
            if self.opendsr.is_some() {
                return Err(("opendsr", "is for a leader; a follower takes no privacy requests".to_owned()));
            }
        }
        if let Some(domain) = self.opendsr.as_ref().map(|opendsr| &opendsr.domain)
            && (domain.is_empty() || domain.len() > 253 || !domain.bytes().all(is_of_domain))
        {
            return Err(("opendsr.domain", format!("is `{domain}`; give a domain such as dsr.example.com")));
        }
        Ok(())
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

fn is_of_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-'
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
    fn values_out_of_range_are_refused_by_name() {
        type Case = (fn(&mut ServerSettings), &'static str, &'static str);
        let refused = |change: fn(&mut ServerSettings)| {
            let mut settings = ServerSettings::default();
            change(&mut settings);
            settings.check().unwrap_err()
        };
        let cases: [Case; 8] = [
            (|settings| settings.batch_records = 0, "batch_records", "is 0; it takes 1 to 4096"),
            (|settings| settings.queue_records = 63, "queue_records", "it takes 64 to"),
            (|settings| settings.read_seconds = f64::NAN, "read_seconds", "is NaN"),
            (|settings| settings.deadline_ms = 0, "deadline_ms", "is 0"),
            (|settings| settings.stop_delay_seconds = -1.0, "stop_delay_seconds", "is -1"),
            (|settings| settings.lease_seconds = 0.1, "lease_seconds", "0.5 to 3600, or 0"),
            (
                |settings| settings.follow = Some(FollowSettings::of("https://me:word@leader")),
                "follow.leader",
                "without name, password",
            ),
            (
                |settings| {
                    settings.follow = Some(FollowSettings::of("https://leader:3000"));
                    settings.private_address = Some("127.0.0.1:0".into());
                },
                "private_address",
                "a follower has answers only",
            ),
        ];
        for (change, key, problem) in cases {
            let (found, message) = refused(change);
            assert_eq!(found, key);
            assert!(message.contains(problem), "{message}");
        }
        ServerSettings::default().check().unwrap();
    }

    #[test]
    fn what_belongs_to_a_store_is_beside_it() {
        let settings = ServerSettings::default();
        assert_eq!(settings.token_file(Path::new("a/store")), Path::new("a/store.server/tokens.json"));
    }
}
