//! HTTP requests of object storage, by the client that the rest of the program has.

use std::sync::Arc;
use std::time::Duration;

use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use ureq::Agent;
use ureq::http::{Method, Request, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The time to connect, for the first bytes of an answer, and for a whole request.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);
const REQUEST: Duration = Duration::from_secs(600);

/// The max number of bytes of an answer.
const MAX_BYTES: u64 = 16 << 30;

#[derive(Debug)]
pub(crate) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allows_http = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|value| value == "true");
        let mut tls = TlsConfig::builder();
        // The authorities that this machine trusts; without any, those that came with the program.
        let found = rustls_native_certs::load_native_certs().certs;
        if !found.is_empty() {
            let roots = found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
            tls = tls.root_certs(RootCerts::Specific(Arc::new(roots)));
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .https_only(!allows_http)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_global(Some(REQUEST));
        Ok(HttpClient::new(Service(config.build().into())))
    }
}

#[derive(Debug)]
struct Service(Agent);

#[async_trait::async_trait]
impl HttpService for Service {
    /// Waits for the answer on the thread of the caller, which has nothing else to do.
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let has_body = [Method::POST, Method::PUT, Method::PATCH].contains(&head.method);
        let sent = if has_body {
            let body = whole(body).await?;
            self.0.run(Request::from_parts(head, body))
        } else {
            self.0.run(Request::from_parts(head, ()))
        };
        let (head, mut body) = sent.map_err(failed)?.into_parts();
        let bytes = body.with_config().limit(MAX_BYTES).read_to_vec().map_err(failed)?;
        Ok(Response::from_parts(head, bytes.into()))
    }
}

/// The bytes of a request, which object storage has in pieces.
async fn whole(body: object_store::client::HttpRequestBody) -> Result<Vec<u8>, HttpError> {
    if let Some(bytes) = body.as_bytes() {
        return Ok(bytes.to_vec());
    }
    let bytes = object_store::client::HttpResponseBody::new(body).bytes().await?;
    Ok(bytes.to_vec())
}

fn failed(error: ureq::Error) -> HttpError {
    let kind = match &error {
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => HttpErrorKind::Connect,
        ureq::Error::Io(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}
