//! The Open Inference Protocol, version 2, with JSON tensors.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use s3t_core::{Payload, Record, Task};
use s3t_engine::Answer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::predict::{blocking, check_min_epoch, origin_headers, stages_as_text};
use crate::access::{Ask, May};
use crate::address::Path;
use crate::answers::Answers;
use crate::body::{Body, media_type, read_json};
use crate::questions;
use crate::refusal::{ErrorBody, Kind, Refusal};

/// The types of numbers, as which features are given.
const NUMBERS: [&str; 12] =
    ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64"];

/// The most numbers of an infer request.
const MAX_NUMBERS: usize = 1 << 24;

/// The server.
#[derive(Serialize, ToSchema)]
pub(crate) struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: Vec<String>,
}

/// The model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelMetadata {
    name: String,
    /// The number of deletions that it knows of.
    versions: Vec<String>,
    platform: &'static str,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

/// A tensor that the model takes or gives; -1 stands for any number.
#[derive(Serialize, ToSchema)]
pub(crate) struct TensorMetadata {
    name: &'static str,
    datatype: &'static str,
    shape: Vec<i64>,
}

/// A request for answers.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InferRequest {
    /// An id that comes back.
    id: Option<String>,
    /// `binary_data_output`, which changes nothing: outputs are JSON, and say so.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Parameters>,
    inputs: Vec<InputTensor>,
    /// The outputs that are wanted; all if it is not given.
    #[serde(default)]
    outputs: Vec<WantedOutput>,
}

/// Settings by name.
type Parameters = BTreeMap<String, Value>;

/// An input.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputTensor {
    /// `text`, `image` (picture files in base64) or `features`.
    name: String,
    shape: Vec<u64>,
    /// `BYTES` for texts and pictures, `FP32` or another type of numbers for features.
    datatype: String,
    /// The values, rows first.
    #[schema(value_type = Vec<Object>)]
    data: Value,
    /// `content_type`, which changes nothing: the name tells how the values are read.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Parameters>,
}

/// An output that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedOutput {
    name: String,
    /// `binary_data`, which changes nothing: outputs are JSON, and say so.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Parameters>,
}

/// The answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct InferResponse {
    model_name: String,
    /// The number of deletions that the answers know of.
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// `epoch`, and in `stages` the last stage of each shard that answered.
    #[schema(value_type = Object)]
    parameters: BTreeMap<&'static str, Value>,
    outputs: Vec<OutputTensor>,
}

/// An output.
#[derive(Serialize, ToSchema)]
pub(crate) struct OutputTensor {
    name: &'static str,
    datatype: &'static str,
    shape: Vec<usize>,
    #[schema(value_type = Vec<Object>)]
    data: Value,
}

/// The server and its version.
#[utoipa::path(get, path = "/v2", operation_id = "v2_server", tag = "open inference protocol",
    responses((status = 200, description = "The server.", body = ServerMetadata)))]
pub(crate) async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata { name: "s3t", version: env!("CARGO_PKG_VERSION"), extensions: Vec::new() })
}

/// The life of the server.
#[utoipa::path(get, path = "/v2/health/live", operation_id = "v2_live", tag = "open inference protocol",
    responses((status = 200, description = "It lives.")))]
pub(crate) async fn live() -> StatusCode {
    StatusCode::OK
}

/// The readiness of the server.
#[utoipa::path(get, path = "/v2/health/ready", operation_id = "v2_ready", tag = "open inference protocol", responses(
    (status = 200, description = "It can answer."),
    (status = 503, description = "It cannot.", body = ErrorBody),
))]
pub(crate) async fn ready(State(app): State<Answers>) -> Result<StatusCode, Refusal> {
    app.readiness().map(|()| StatusCode::OK)
}

/// The readiness of the model.
#[utoipa::path(get, path = "/v2/models/{model}/ready", operation_id = "v2_model_ready", tag = "open inference protocol",
    params(("model" = String, Path, description = "The model's name.")),
    responses(
        (status = 200, description = "It can answer."),
        (status = 404, description = "No model of this name.", body = ErrorBody),
        (status = 503, description = "It cannot.", body = ErrorBody),
    ))]
pub(crate) async fn model_ready(State(app): State<Answers>, Path(model): Path<String>) -> Result<StatusCode, Refusal> {
    check_model(&app, &model)?;
    app.readiness().map(|()| StatusCode::OK)
}

/// The inputs and outputs of the model.
#[utoipa::path(get, path = "/v2/models/{model}", operation_id = "v2_model", tag = "open inference protocol",
    params(("model" = String, Path, description = "The model's name.")),
    responses(
        (status = 200, description = "The model.", body = ModelMetadata),
        (status = 404, description = "No model of this name.", body = ErrorBody),
    ))]
pub(crate) async fn model(
    State(app): State<Answers>,
    Path(model): Path<String>,
) -> Result<Json<ModelMetadata>, Refusal> {
    check_model(&app, &model)?;
    let source = &app.model;
    let inputs = match source.pictures() {
        Some(_) => vec![
            TensorMetadata { name: "image", datatype: "BYTES", shape: vec![-1] },
            TensorMetadata { name: "features", datatype: "FP32", shape: vec![-1, -1] },
        ],
        None => vec![TensorMetadata { name: "text", datatype: "BYTES", shape: vec![-1] }],
    };
    let mut outputs =
        vec![TensorMetadata { name: "scores", datatype: "FP32", shape: vec![-1, source.task().outputs() as i64] }];
    if matches!(source.task(), Task::Classification { .. }) {
        outputs.push(TensorMetadata { name: "label", datatype: "BYTES", shape: vec![-1] });
    }
    let versions = vec![source.epoch()?.to_string()];
    Ok(Json(ModelMetadata { name: model, versions, platform: "s3t", inputs, outputs }))
}

/// Answer for a batch.
#[utoipa::path(post, path = "/v2/models/{model}/infer", operation_id = "v2_infer", tag = "open inference protocol",
    request_body = InferRequest,
    params(
        ("model" = String, Path, description = "The model's name."),
        ("x-s3t-min-epoch" = Option<u64>, Header, description = "The deletions that the answer has to know of."),
    ),
    responses(
        (status = 200, description = "The answers.", body = InferResponse),
        (status = 400, description = "The request cannot be read.", body = ErrorBody),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not ask.", body = ErrorBody),
        (status = 404, description = "No model of this name.", body = ErrorBody),
        (status = 412, description = "The server does not know of so many deletions yet.", body = ErrorBody),
        (status = 413, description = "Too many bytes or inputs.", body = ErrorBody),
        (status = 415, description = "A media type that is not read.", body = ErrorBody),
        (status = 422, description = "The model cannot take the input.", body = ErrorBody),
        (status = 429, description = "Too many requests wait.", body = ErrorBody),
        (status = 503, description = "No shard can answer.", body = ErrorBody),
        (status = 504, description = "The answer took longer than the deadline.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn infer(
    State(app): State<Answers>,
    Path(model): Path<String>,
    May { caller, .. }: May<Ask>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Refusal> {
    check_model(&app, &model)?;
    check_min_epoch(&app, &headers)?;
    if headers.contains_key("inference-header-content-length") {
        let message = "tensors in binary are not read; send JSON (`binary_data=False` in Triton's client)";
        return Err(Refusal::new(Kind::UnsupportedMedia, message));
    }
    app.queue.check_room(&caller.id)?;
    let (media_type, working) = (media_type(&headers), app.clone());
    let turn = app.reading.acquire().await;
    let read = blocking(move || {
        let request: InferRequest = read_json(&media_type, &body)?;
        check_parameters(request.parameters.as_ref(), "the request", "binary_data_output")?;
        for input in &request.inputs {
            check_parameters(input.parameters.as_ref(), "an input", "content_type")?;
        }
        for output in &request.outputs {
            check_parameters(output.parameters.as_ref(), "an output", "binary_data")?;
        }
        let records = records(&working, &request)?;
        working.model.check(&records)?;
        Ok((request, records))
    });
    let (request, records) = read.await?;
    drop(turn);
    let names: Vec<String> = request.outputs.into_iter().map(|output| output.name).collect();
    if let Some(unknown) = names.iter().find(|name| !["scores", "label"].contains(&name.as_str())) {
        return Err(Refusal::invalid(format!("unknown output `{unknown}`; the outputs are `scores` and `label`")));
    }
    let answer = app.ask(&caller, records).await?;
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let response = InferResponse {
        model_name: model,
        model_version: answer.epoch.to_string(),
        id: request.id,
        parameters: BTreeMap::from([("epoch", json!(answer.epoch)), ("stages", json!(stages_as_text(&answer)))]),
        outputs: outputs(&app, &answer).into_iter().filter(|output| wanted(output.name)).collect(),
    };
    Ok((origin_headers(&answer), Json(response)).into_response())
}

fn check_model(app: &Answers, model: &str) -> Result<(), Refusal> {
    let name = app.model.name();
    if model == name { Ok(()) } else { Err(Refusal::not_found(format!("no model of this name; it is `{name}`"))) }
}

fn outputs(app: &Answers, answer: &Answer) -> Vec<OutputTensor> {
    let (predictions, source) = (&answer.predictions, &app.model);
    let width = predictions.first().map_or(0, |one| one.scores.len());
    let scores: Vec<f32> = predictions.iter().flat_map(|one| one.scores.iter().copied()).collect();
    let mut outputs = vec![OutputTensor {
        name: "scores",
        datatype: "FP32",
        shape: vec![predictions.len(), width],
        data: json!(scores),
    }];
    let label = |class: Option<usize>| Some(source.labels().get(class?)?.as_str());
    if let Some(labels) = predictions.iter().map(|one| label(one.label)).collect::<Option<Vec<&str>>>() {
        outputs.push(OutputTensor { name: "label", datatype: "BYTES", shape: vec![labels.len()], data: json!(labels) });
    }
    outputs
}

fn records(app: &Answers, request: &InferRequest) -> Result<Vec<Record>, Refusal> {
    let [input] = &request.inputs[..] else {
        return Err(Refusal::invalid("`inputs` takes one tensor: `text`, `image` or `features`"));
    };
    let name = format!("input `{}`", shown(&input.name));
    let mut values = Vec::new();
    flatten(&input.data, &mut values, &name)?;
    let (rows, width) = match input.shape[..] {
        [rows] => (rows, 1),
        [rows, width] => (rows, width),
        _ => return Err(Refusal::invalid(format!("{name} has {} dimensions; it takes 1 or 2", input.shape.len()))),
    };
    if rows.checked_mul(width) != Some(values.len() as u64) || values.is_empty() {
        let message = format!("{name} has {} values, and its shape is {:?}", values.len(), input.shape);
        return Err(Refusal::invalid(message));
    }
    if rows > app.settings.request_records as u64 {
        let message = format!("{name} has {rows} rows, and at most {} are taken", app.settings.request_records);
        return Err(Refusal::new(Kind::TooLarge, message));
    }
    let is_bytes = input.datatype == "BYTES";
    if !is_bytes && !NUMBERS.contains(&input.datatype.as_str()) {
        let message =
            format!("{name} is of the unknown type {}; known: BYTES, {}", shown(&input.datatype), NUMBERS.join(", "));
        return Err(Refusal::invalid(message));
    }
    let payload = |row: &[&Value]| match (input.name.as_str(), row) {
        ("text", [Value::String(text)]) if is_bytes => Ok(Payload::Text(text.clone())),
        ("text", [Value::String(first), Value::String(second)]) if is_bytes => {
            Ok(Payload::TextPair(first.clone(), second.clone()))
        }
        ("image", [Value::String(text)]) if is_bytes => questions::picture_in_base64(&app.model, &name, text),
        ("features", row) if !is_bytes => {
            let row: Vec<Value> = row.iter().map(|value| (*value).clone()).collect();
            questions::features(&name, &row)
        }
        _ => Err(Refusal::invalid(format!(
            "{name} of type {} is not read; give `text` as BYTES of shape [N] or [N, 2], `image` as BYTES of shape [N] or `features` \
             as FP32 of shape [N, F]",
            shown(&input.datatype)
        ))),
    };
    let rows = values.chunks(width as usize).enumerate();
    rows.map(|(index, row)| questions::question(index, payload(row)?)).collect()
}

/// Refuses a setting that would not be honoured.
fn check_parameters(given: Option<&Parameters>, of: &str, harmless: &str) -> Result<(), Refusal> {
    let unknown = given.into_iter().flatten().find(|(name, value)| *name != harmless && !value.is_null());
    unknown.map_or(Ok(()), |(name, _)| {
        let message = format!("unknown parameter `{}` of {of}; known: `{harmless}`", shown(name));
        Err(Refusal::invalid(message))
    })
}

/// The values of nested lists in order.
fn flatten<'a>(data: &'a Value, values: &mut Vec<&'a Value>, name: &str) -> Result<(), Refusal> {
    match data {
        Value::Array(items) => items.iter().try_for_each(|item| flatten(item, values, name)),
        _ if values.len() >= MAX_NUMBERS => {
            Err(Refusal::new(Kind::TooLarge, format!("{name} has more than {MAX_NUMBERS} values")))
        }
        value => {
            values.push(value);
            Ok(())
        }
    }
}

/// The beginning of a text of a client.
fn shown(text: &str) -> String {
    s3t_core::limits::shown(text)
}
