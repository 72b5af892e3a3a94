//! Spans for OpenTelemetry, sent by OTLP over HTTP where the standard variables say (`OTEL_EXPORTER_OTLP_ENDPOINT`,
//! `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, ...). They are the spans of the log, which hold nothing personal.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{Layer, Registry};

use crate::exit::{FAILED, Failure};

/// The variables that say where spans go.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The longest time for which a collector is waited for.
const SEND_TIME: Duration = Duration::from_secs(10);

/// Sends what is left when it is dropped.
pub(crate) struct Telemetry(SdkTracerProvider);

impl Drop for Telemetry {
    fn drop(&mut self) {
        // A collector that is gone is no failure of the command.
        let _ = self.0.shutdown();
    }
}

type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// A layer that sends spans, if a variable says where to.
pub(crate) fn layer() -> Result<Option<(SpanLayer, Telemetry)>, Failure> {
    if !ENDPOINTS.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        return Ok(None);
    }
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(SEND_TIME)).build();
    let exporter = SpanExporter::builder().with_http().with_http_client(Client(config.into())).build();
    let exporter = exporter.map_err(|error| Failure::new(FAILED, format!("cannot export spans: {error}")))?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("s3t");
    }
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("s3t"));
    // The libraries below send none: ureq's spans would be of the sending itself.
    let filter = Targets::new().with_target("s3t", LevelFilter::INFO);
    Ok(Some((layer.with_filter(filter).boxed(), Telemetry(provider))))
}

/// Sends by the client that callbacks use too.
#[derive(Debug, Clone)]
struct Client(ureq::Agent);

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let sent = self.0.run(Request::from_parts(head, body.to_vec()))?;
        let (head, mut body) = sent.into_parts();
        Ok(Response::from_parts(head, body.read_to_vec()?.into()))
    }
}
