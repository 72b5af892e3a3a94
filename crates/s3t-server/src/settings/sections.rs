//! The parts of a server's settings that may be left out.

use std::path::PathBuf;
use std::time::Duration;

use s3t_engine::RepairPolicy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A witness of the ledger (C2SP tlog-witness).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WitnessSettings {
    /// The prefix of its submission addresses: `https://...`, or `http://` on this machine.
    pub url: String,
    /// Its public key, `NAME+HASH+BASE64`, of the type cosignature/v1.
    pub key: String,
}

/// The policy of repair in the background. Without a threshold, a repair is due whenever any stage is missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
pub(super) const NO_LIMIT: u64 = 60;

/// The leader of a follower, and what is needed to reach it.
///
/// The token is in a file, or in the environment variable `S3T_SERVER_FOLLOW_TOKEN`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
