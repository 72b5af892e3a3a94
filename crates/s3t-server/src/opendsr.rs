//! Privacy requests by OpenDSR 2.0 (formerly OpenGDPR): how requests are read, and how answers and callbacks are signed and sent.

mod request;
mod signature;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use request::{DsrRequest, IDENTITY_FORMAT, IDENTITY_TYPE};
use signature::Signer;

use crate::ServerError;
use crate::clock::moment;
use crate::refusal::{Kind, Refusal};
use crate::requests::{Delivery, Outgoing, Phase, Row};
use crate::settings::OpenDsrSettings;

/// The version that answers name.
pub(crate) const API_VERSION: &str = "2.0";

/// The headers of the domain and the signature, by their names of today and of before.
pub(crate) const HEADERS: [(&str, &str); 2] =
    [("x-opendsr-processor-domain", "x-opendsr-signature"), ("x-opengdpr-processor-domain", "x-opengdpr-signature")];

/// The time for a callback.
const CALLBACK_TIME: Duration = Duration::from_secs(10);

/// The time after its batch in which a request is expected to be completed, in milliseconds.
const EXPECTED_MS: i64 = 3_600_000;

/// The processor: its domain, certificate and key.
pub(crate) struct OpenDsr {
    settings: OpenDsrSettings,
    certificate: Vec<u8>,
    signer: Signer,
    agent: ureq::Agent,
}

/// The state of a request, every field always there.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DsrState {
    pub(crate) controller_id: String,
    pub(crate) expected_completion_time: String,
    pub(crate) subject_request_id: String,
    /// `pending`, `in_progress`, `completed` or `cancelled`.
    pub(crate) request_status: &'static str,
    pub(crate) api_version: &'static str,
    pub(crate) results_url: Option<String>,
    pub(crate) results_count: Option<u64>,
}

impl OpenDsr {
    pub(crate) fn open(settings: OpenDsrSettings) -> Result<Self, ServerError> {
        // Refused here, and not by whoever fetches it.
        crate::tls::certificates(&settings.certificate)?;
        let certificate =
            std::fs::read(&settings.certificate).map_err(ServerError::file("read", &settings.certificate))?;
        let signer = Signer::open(&settings.key)?;
        let mut tls = ureq::tls::TlsConfig::builder();
        if let Some(path) = &settings.callback_authorities {
            let roots: Vec<_> = crate::tls::certificates(path)?
                .iter()
                .map(|certificate| ureq::tls::Certificate::from_der(certificate).to_owned())
                .collect();
            tls = tls.root_certs(ureq::tls::RootCerts::Specific(Arc::new(roots)));
        }
        let config = ureq::Agent::config_builder()
            .https_only(true)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(CALLBACK_TIME))
            .tls_config(tls.build())
            .proxy(None)
            .build();
        Ok(Self { settings, certificate, signer, agent: config.into() })
    }

    pub(crate) fn domain(&self) -> &str {
        &self.settings.domain
    }

    /// The certificate of the key that signs, in PEM.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The signature of bytes, in base64.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<String, Refusal> {
        self.signer.sign(bytes).map_err(|problem| Refusal::new(Kind::Failed, problem))
    }

    pub(crate) fn takes_callbacks_to(&self, host: &str) -> bool {
        self.settings.callback_hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    /// The state of a request, for a caller who may know counts or may not.
    pub(crate) fn state(&self, row: &Row, may_know: bool) -> DsrState {
        let has_results = may_know && row.phase == Phase::Erased;
        let receipt = || format!("https://{}/deletions/{}/receipt", self.domain(), row.id);
        DsrState {
            controller_id: row.caller.clone(),
            expected_completion_time: expected(row),
            subject_request_id: row.id.clone(),
            request_status: status(row.phase),
            api_version: API_VERSION,
            results_url: (has_results && row.epoch.is_some()).then(receipt),
            results_count: has_results.then(|| row.records.unwrap_or_default()),
        }
    }

    /// The callbacks that tell of a request's new phase. They carry no counts: the state of the request has them for those who may
    /// know.
    pub(crate) fn outgoing(&self, row: &Row) -> Result<Vec<Outgoing>, Refusal> {
        let message = |url: &String| {
            let mut body = json!({
                "controller_id": row.caller,
                "expected_completion_time": expected(row),
                "status_callback_url": url,
                "subject_request_id": row.id,
                "request_status": status(row.phase),
                "api_version": API_VERSION,
                "results_url": null,
                "results_count": null,
            });
            if row.phase == Phase::Failed {
                body["extensions"] = json!({ self.domain(): { "status": "failed" } });
            }
            let body = body.to_string().into_bytes();
            let signature = self.sign(&body)?;
            Ok(Outgoing { url: url.clone(), body, signature })
        };
        row.callbacks.iter().map(message).collect()
    }

    /// Sends a callback; the problem if the other side did not take it.
    pub(crate) fn send(&self, delivery: &Delivery) -> Result<(), String> {
        let mut request = self.agent.post(&delivery.url).header("content-type", "application/json");
        for (domain, signature) in HEADERS {
            request = request.header(domain, self.domain()).header(signature, &delivery.signature);
        }
        match request.send(&delivery.body[..]) {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(format!("the other side answered {}", response.status().as_u16())),
            Err(ureq::Error::Timeout(_)) => Err("the other side took too long".to_owned()),
            // Without its text, which may hold the address.
            Err(ureq::Error::Io(error)) => Err(format!("the connection failed: {}", error.kind())),
            Err(_) => Err("the connection failed".to_owned()),
        }
    }

    /// The answer to a discovery.
    pub(crate) fn discovery(&self) -> Value {
        json!({
            "api_version": API_VERSION,
            "supported_identities": [{ "identity_type": IDENTITY_TYPE, "identity_format": IDENTITY_FORMAT }],
            "supported_subject_request_types": ["erasure"],
            "processor_certificate": format!("https://{}/v2/certificate.pem", self.domain()),
        })
    }
}

/// When a request is expected to be completed.
pub(crate) fn expected(row: &Row) -> String {
    moment(row.due.unwrap_or(row.received).saturating_add(EXPECTED_MS))
}

const fn status(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued | Phase::Held | Phase::Accepted => "pending",
        Phase::InEffect => "in_progress",
        Phase::Erased => "completed",
        // There is no state of failure in the protocol.
        Phase::Cancelled | Phase::Failed => "cancelled",
    }
}
