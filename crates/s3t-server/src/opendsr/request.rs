//! Requests of OpenDSR, checked.

use axum::http::Uri;
use s3t_core::SubjectId;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::OpenDsr;
use crate::desk::NewDeletion;
use crate::refusal::Refusal;
use crate::requests::{Names, Origin};

/// The identities that are taken: the id by which the controller knows the person, as it is, is a subject.
pub(crate) const IDENTITY_TYPE: &str = "controller_customer_id";
pub(crate) const IDENTITY_FORMAT: &str = "raw";

/// The most addresses of callbacks, and identities, of a request.
const MAX_CALLBACKS: usize = 5;
const MAX_IDENTITIES: usize = 1000;

/// A privacy request.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DsrRequest {
    /// A lowercase UUID of version 4, made by the controller.
    subject_request_id: String,
    /// `erasure`.
    subject_request_type: String,
    /// Whom it is about.
    subject_identities: Vec<Identity>,
    /// When the person asked (RFC 3339).
    submitted_time: String,
    /// `gdpr`, `ccpa` or another; passed over.
    #[allow(dead_code)]
    regulation: Option<String>,
    api_version: Option<String>,
    /// Addresses that are told of each change of state.
    #[serde(default)]
    status_callback_urls: Option<Vec<String>>,
    /// Passed over.
    #[allow(dead_code)]
    #[schema(value_type = Option<Object>)]
    extensions: Option<Value>,
}

/// An identity.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// `controller_customer_id`.
    #[serde(rename = "identity_type")]
    kind: String,
    /// The subject's name in the training data.
    #[serde(rename = "identity_value")]
    value: String,
    /// `raw`.
    #[serde(rename = "identity_format")]
    format: String,
}

impl DsrRequest {
    /// Checks the request. No message holds an identity.
    pub(crate) fn check(self, opendsr: &OpenDsr, due: Option<i64>) -> Result<NewDeletion, Refusal> {
        let refuse = |message: String| Err(Refusal::invalid(message));
        let id = self.subject_request_id;
        let uuid = uuid::Uuid::parse_str(&id).ok().filter(|uuid| uuid.get_version_num() == 4);
        if uuid.is_none_or(|uuid| uuid.hyphenated().to_string() != id) {
            return refuse("`subject_request_id` is not a lowercase UUID of version 4".into());
        }
        if self.subject_request_type != "erasure" {
            let shown = s3t_core::limits::shown(&self.subject_request_type);
            return refuse(format!("`subject_request_type` is `{shown}`; this processor takes `erasure`"));
        }
        if self.submitted_time.parse::<jiff::Timestamp>().is_err() {
            return refuse("`submitted_time` is not a moment of RFC 3339".into());
        }
        if let Some(version) = self.api_version.filter(|version| !["0.1", "1.0", "2.0"].contains(&version.as_str())) {
            return refuse(format!(
                "`api_version` is `{}`; this processor speaks 2.0",
                s3t_core::limits::shown(&version)
            ));
        }
        if self.subject_identities.is_empty() || self.subject_identities.len() > MAX_IDENTITIES {
            return refuse(format!("`subject_identities` takes 1 to {MAX_IDENTITIES} identities"));
        }
        let subject = |identity: Identity| {
            if identity.kind != IDENTITY_TYPE || identity.format != IDENTITY_FORMAT {
                let message = format!("`subject_identities` takes `{IDENTITY_TYPE}` in the format `{IDENTITY_FORMAT}`");
                return Err(Refusal::invalid(message));
            }
            let invalid =
                |_| Refusal::invalid("an `identity_value` is empty, longer than 256 bytes or holds control characters");
            SubjectId::new(identity.value).map_err(invalid)
        };
        let subjects = self.subject_identities.into_iter().map(subject).collect::<Result<_, _>>()?;
        let callbacks = self.status_callback_urls.unwrap_or_default();
        if callbacks.len() > MAX_CALLBACKS {
            return refuse(format!("`status_callback_urls` takes at most {MAX_CALLBACKS}"));
        }
        for url in &callbacks {
            let uri = url.parse::<Uri>().ok().filter(|_| url.len() <= 2048);
            let host = uri.as_ref().filter(|uri| uri.scheme_str() == Some("https")).and_then(Uri::authority);
            if host.is_none_or(|host| !opendsr.takes_callbacks_to(host.as_str())) {
                return refuse(
                    "`status_callback_urls` takes HTTPS addresses at the hosts in `server.opendsr.callback_hosts`"
                        .into(),
                );
            }
        }
        let names = Names { records: Vec::new(), subjects };
        Ok(NewDeletion { id, names, due, origin: Origin::OpenDsr, callbacks })
    }
}
