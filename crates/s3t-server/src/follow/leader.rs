//! The leader, as a follower asks it.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use s3t_core::StageKey;
use s3t_core::limits::shown;
use serde::de::DeserializeOwned;
use tokio_rustls::rustls::pki_types::CertificateDer;
use ureq::http::Response;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, Body, RequestBuilder};

use crate::ServerError;
use crate::replication::{Confirmation, Confirmed, FOLLOWER, Published};
use crate::settings::{FOLLOW_TOKEN, FollowSettings};
use crate::tls::certificates;

/// The time for an answer beyond the time that the leader was asked to wait.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// The slowest transfer of a stage in bytes a second. A slower one is given up and tried again.
const MIN_RATE: u64 = 100_000;

/// The largest state in bytes.
const MAX_STATE_BYTES: u64 = 256 << 20;

/// The largest answer to a confirmation, or of a refusal, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// The longest version of a state in bytes.
const MAX_VERSION_BYTES: usize = 256;

/// The largest file of a token in bytes.
const MAX_TOKEN_BYTES: u64 = 4096;

/// The bytes of a stage that are read between two looks at whether it is still wanted.
const PIECE: usize = 64 << 10;

/// The leader's address and the token for it.
pub(super) struct Leader {
    url: String,
    token_file: Option<PathBuf>,
    agent: Agent,
}

impl Leader {
    pub(super) fn open(settings: &FollowSettings) -> Result<Self, ServerError> {
        let is_encrypted = settings.leader.starts_with("https://");
        let mut tls = TlsConfig::builder();
        if is_encrypted {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(roots(settings)?)));
            if let Some((chain, key)) = settings.certificate.as_ref().zip(settings.key.as_ref()) {
                let chain: Vec<_> = certificates(chain)?.iter().map(owned).collect();
                let bytes = std::fs::read(key).map_err(ServerError::file("read", key))?;
                let refuse = |error| ServerError::content(key, format!("{error}; give a private key in PEM"));
                let key = PrivateKey::from_pem(&bytes).map_err(refuse)?;
                tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
            }
        } else {
            tracing::warn!(target: "s3t::follow", "the connection to the leader is not encrypted: it carries the token and the stages");
        }
        let config = Agent::config_builder()
            .https_only(is_encrypted)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .tls_config(tls.build())
            .proxy(None)
            .build();
        let leader = Self {
            url: settings.leader.trim_end_matches('/').to_owned(),
            token_file: settings.token_file.clone(),
            agent: config.into(),
        };
        // A file that cannot be read is told at once.
        leader.token().map_err(|problem| ServerError::Setting { key: "follow.token_file", problem })?;
        Ok(leader)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The token: of the file, which is read each time so that it can be replaced, or of the environment.
    fn token(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.token_file else {
            return Ok(std::env::var(FOLLOW_TOKEN).ok().filter(|token| !token.is_empty()));
        };
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut text));
        read.map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
        let token = text.trim();
        if token.is_empty() || token.chars().any(|letter| !letter.is_ascii_graphic()) {
            return Err(format!("`{}` does not hold a token", path.display()));
        }
        Ok(Some(token.to_owned()))
    }

    fn with_token<B>(&self, request: RequestBuilder<B>, time: Duration) -> Result<RequestBuilder<B>, String> {
        let request = request.config().timeout_global(Some(time)).build();
        Ok(match self.token()? {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        })
    }

    /// The newest state, if it is another than the known one within the time.
    pub(super) fn state(&self, known: Option<&str>, wait: Duration) -> Result<Option<Published>, String> {
        let mut request = self.agent.get(format!("{}/replica/state", self.url));
        request = request.query("wait_ms", wait.as_millis().to_string());
        if let Some(known) = known {
            request = request.query("after", known);
        }
        let mut response = succeeded(self.with_token(request, wait + ANSWER_TIME)?.call())?;
        if response.status().as_u16() == 204 {
            return Ok(None);
        }
        let published: Published = json(&mut response, MAX_STATE_BYTES)?;
        if published.version.len() > MAX_VERSION_BYTES {
            return Err("the leader's state has a version that is too long".into());
        }
        Ok(Some(published))
    }

    /// Sends a confirmation.
    pub(super) fn confirm(&self, confirmation: &Confirmation) -> Result<Confirmed, String> {
        let request =
            self.agent.post(format!("{}/replica/confirm", self.url)).header("content-type", "application/json");
        let body = serde_json::to_vec(confirmation).map_err(|error| error.to_string())?;
        json(&mut succeeded(self.with_token(request, ANSWER_TIME)?.send(&body[..]))?, MAX_ANSWER_BYTES)
    }

    /// The content of a stage of so many bytes, as long as it is wanted; `None` if it is not wanted any more.
    pub(super) fn stage(
        &self,
        follower: &str,
        key: &StageKey,
        bytes: u64,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<u8>>, String> {
        let request = self.agent.get(format!("{}/replica/stages/{key}", self.url)).header(FOLLOWER, follower);
        let time = ANSWER_TIME + Duration::from_secs(bytes / MIN_RATE);
        let response = succeeded(self.with_token(request, time)?.call())?;
        let mut reader = response.into_body().into_with_config().limit(bytes.saturating_add(1)).reader();
        // Memory for what has arrived only, whatever length was announced.
        let (mut content, mut piece) = (Vec::new(), vec![0; PIECE]);
        loop {
            if !is_wanted() {
                return Ok(None);
            }
            match reader.read(&mut piece) {
                Ok(0) => return Ok(Some(content)),
                Ok(read) if (content.len() + read) as u64 <= bytes => content.extend_from_slice(&piece[..read]),
                Ok(_) => return Err(format!("stage {key} is longer than the {bytes} bytes that the state gives")),
                Err(error) => return Err(format!("stage {key} broke off: {error}")),
            }
        }
    }
}

fn owned(certificate: &CertificateDer<'static>) -> Certificate<'static> {
    Certificate::from_der(certificate).to_owned()
}

/// The certificates that the leader's is checked against: those that were given, or the system's.
fn roots(settings: &FollowSettings) -> Result<Vec<Certificate<'static>>, ServerError> {
    if let Some(path) = &settings.authority {
        return Ok(certificates(path)?.iter().map(owned).collect());
    }
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        let problem = format!("is missing, and this system has no certificates of authorities{why}; give the leader's");
        return Err(ServerError::Setting { key: "follow.authority", problem });
    }
    Ok(found.certs.iter().map(owned).collect())
}

/// The response, if it is a success.
fn succeeded(sent: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, String> {
    let mut response = sent.map_err(|error| format!("the leader cannot be reached: {error}"))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    if status.is_redirection() {
        return Err(format!("the leader answered {}; redirects are not followed", status.as_u16()));
    }
    let body: Option<serde_json::Value> = json(&mut response, MAX_ANSWER_BYTES).ok();
    let message = body.as_ref().and_then(|body| body.get("error")?.as_str()).map(|text| format!(": {}", shown(text)));
    Err(format!("the leader refused with {}{}", status.as_u16(), message.unwrap_or_default()))
}

fn json<T: DeserializeOwned>(response: &mut Response<Body>, max: u64) -> Result<T, String> {
    let bytes = response.body_mut().with_config().limit(max).read_to_vec();
    let bytes = bytes.map_err(|error| format!("the leader's answer broke off: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("the leader's answer cannot be read: {error}"))
}
