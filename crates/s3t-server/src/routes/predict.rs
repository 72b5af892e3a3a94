//! `POST /predict`, in the shape of text-embeddings-inference.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Json, Response};
use s3t_core::aggregate::softmax;
use s3t_core::{Payload, Record, Task};
use s3t_engine::{Answer, Prediction};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::{Ask, May};
use crate::answers::Answers;
use crate::body::{Body, media_type, read_json};
use crate::questions;
use crate::refusal::{ErrorBody, Kind, Refusal};
use crate::tokens::Caller;

pub(crate) const EPOCH: HeaderName = HeaderName::from_static("x-s3t-epoch");
pub(crate) const STAGES: HeaderName = HeaderName::from_static("x-s3t-stages");
pub(crate) const MIN_EPOCH: HeaderName = HeaderName::from_static("x-s3t-min-epoch");

/// The most members that are named in the header `x-s3t-stages`; V2 answers name all.
pub(crate) const MAX_NAMED_SHARDS: usize = 64;

/// A question.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PredictRequest {
    /// A text, a pair of texts, a list of lists of one or two texts, an object with `text`, `image` (base64) or `features`, or a
    /// list of these objects.
    #[schema(value_type = Object)]
    inputs: serde_json::Value,
    /// `false` refuses texts that are longer than the model takes, instead of cutting them where the pipeline says so.
    #[serde(default)]
    truncate: Option<bool>,
    /// `true` for scores as the ensemble gives them.
    #[serde(default)]
    raw_scores: bool,
}

/// The score of a class.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Scored {
    /// The class, or `value` for a task that predicts a number.
    label: String,
    /// Its probability, or the score itself if `raw_scores` was asked for.
    score: f32,
}

/// Answers for one input, or for each of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum PredictResponse {
    /// The classes of one input, the most likely first.
    One(Vec<Scored>),
    /// The classes of each input.
    Many(Vec<Vec<Scored>>),
}

/// Answer for texts, pictures or numbers.
///
/// The body is JSON, or a picture file (`image/png`, `image/jpeg`).
#[utoipa::path(
    post,
    path = "/predict",
    tag = "answers",
    request_body(content(
        (PredictRequest = "application/json"),
        (Vec<u8> = "image/png"),
        (Vec<u8> = "image/jpeg"),
    )),
    params(("x-s3t-min-epoch" = Option<u64>, Header, description = "The deletions that the answer has to know of.")),
    responses(
        (status = 200, description = "The answer, the most likely class first.", body = PredictResponse, headers(
            ("x-s3t-epoch" = u64, description = "The deletions that the answer knows of."),
            ("x-s3t-stages" = String, description = "`SHARD=KEY` of the last stage of each member that answered."),
        )),
        (status = 400, description = "The body cannot be read.", body = ErrorBody),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not ask.", body = ErrorBody),
        (status = 412, description = "The server does not know of so many deletions yet.", body = ErrorBody),
        (status = 413, description = "Too many bytes, inputs or tokens.", body = ErrorBody),
        (status = 415, description = "A media type that is not read.", body = ErrorBody),
        (status = 422, description = "The model cannot take the input.", body = ErrorBody),
        (status = 429, description = "Too many requests wait; `Retry-After` says how long to wait.", body = ErrorBody),
        (status = 503, description = "No shard can answer.", body = ErrorBody),
        (status = 504, description = "The answer took longer than the deadline.", body = ErrorBody),
    ),
    security(("token" = [])),
)]
pub(crate) async fn predict(
    State(app): State<Answers>,
    May { caller, .. }: May<Ask>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Refusal> {
    check_min_epoch(&app, &headers)?;
    app.queue.check_room(&caller.id)?;
    let media_type = media_type(&headers);
    let working = app.clone();
    // Decoding pictures and cutting texts into tokens takes time that other requests are not to wait for.
    let turn = app.reading.acquire().await;
    let (records, is_list, raw) = blocking(move || read(&working, &media_type, &body)).await?;
    drop(turn);
    let answer = app.ask(&caller, records).await?;
    let mut answers: Vec<Vec<Scored>> = answer.predictions.iter().map(|one| scored(&app, one, raw)).collect();
    let body = match answers.pop() {
        Some(only) if !is_list && answers.is_empty() => PredictResponse::One(only),
        last => PredictResponse::Many(answers.into_iter().chain(last).collect()),
    };
    Ok((origin_headers(&answer), Json(body)).into_response())
}

/// Answers for records that came otherwise, as `/predict` gives them.
pub(crate) async fn answer_payload(
    app: &Answers,
    caller: &Caller,
    payload: Payload,
) -> Result<(Answer, Vec<Scored>), Refusal> {
    let record = questions::question(0, payload)?;
    let working = app.clone();
    let record = blocking(move || {
        working.model.check(std::slice::from_ref(&record))?;
        Ok(record)
    });
    let answer = app.ask(caller, vec![record.await?]).await?;
    let scored = answer.predictions.first().map(|one| scored(app, one, false)).unwrap_or_default();
    Ok((answer, scored))
}

impl Scored {
    pub(crate) fn parts(&self) -> (&str, f32) {
        (&self.label, self.score)
    }
}

/// The records of a body, whether they are a list, and whether scores are wanted raw.
fn read(app: &Answers, media_type: &str, body: &[u8]) -> Result<(Vec<Record>, bool, bool), Refusal> {
    let (payloads, is_list, raw, truncate) = if media_type.starts_with("image/") {
        (vec![questions::picture(&app.model, "the image in the body", body)?], false, false, None)
    } else {
        let request: PredictRequest = read_json(media_type, body)?;
        let (payloads, is_list) = questions::inputs(&app.model, &request.inputs)?;
        (payloads, is_list, request.raw_scores, request.truncate)
    };
    let records: Vec<Record> = payloads
        .into_iter()
        .enumerate()
        .map(|(index, payload)| questions::question(index, payload))
        .collect::<Result<_, _>>()?;
    if records.len() > app.settings.request_records {
        let (found, max) = (records.len(), app.settings.request_records);
        return Err(Refusal::new(Kind::TooLarge, format!("`inputs` has {found} inputs, and at most {max} are taken")));
    }
    app.model.check(&records)?;
    if truncate == Some(false) && app.model.cut(&records)? > 0 {
        return Err(Refusal::new(
            Kind::TooLarge,
            "a text has more tokens than `model.max_tokens`, and `truncate` is false",
        ));
    }
    Ok((records, is_list, raw))
}

/// The classes of a prediction with their probabilities, the most likely first.
fn scored(app: &Answers, prediction: &Prediction, raw: bool) -> Vec<Scored> {
    let (model, scores) = (&app.model, &prediction.scores);
    let scores = match model.task() {
        _ if raw || !model.gives_logits() => scores.clone(),
        Task::Classification { .. } => softmax(scores),
        Task::MultiLabel { .. } => scores.iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect(),
        Task::Regression | Task::CausalLm => scores.clone(),
    };
    let labels = model.labels();
    let label = |index: usize| labels.get(index).cloned().unwrap_or_else(|| "value".to_owned());
    let mut scored: Vec<Scored> =
        scores.into_iter().enumerate().map(|(index, score)| Scored { label: label(index), score }).collect();
    scored.sort_by(|one, other| other.score.total_cmp(&one.score));
    scored
}

/// The headers that say which deletions an answer knows of, and which stages it came from.
pub(crate) fn origin_headers(answer: &Answer) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(EPOCH, HeaderValue::from(answer.epoch.0));
    if answer.stages.len() <= MAX_NAMED_SHARDS
        && let Ok(stages) = HeaderValue::try_from(stages_as_text(answer))
    {
        headers.insert(STAGES, stages);
    }
    headers
}

/// `SHARD=KEY` of the last stage of each shard that answered, with commas between them; a shard that answered with the base model
/// has no key.
pub(crate) fn stages_as_text(answer: &Answer) -> String {
    let key = |stage: &Option<s3t_core::StageKey>| stage.map(|key| key.to_string()).unwrap_or_default();
    let of_shard: Vec<String> =
        answer.stages.iter().map(|serves| format!("{}={}", serves.shard, key(&serves.stage))).collect();
    of_shard.join(",")
}

/// Refuses a request that demands more deletions than the server knows of.
pub(crate) fn check_min_epoch(app: &Answers, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(value) = headers.get(MIN_EPOCH) else { return Ok(()) };
    let min = value.to_str().ok().and_then(|value| value.parse::<u64>().ok());
    let min = min.ok_or_else(|| Refusal::invalid("`x-s3t-min-epoch` is not a whole number"))?;
    let epoch = app.model.epoch()?;
    if epoch.0 < min {
        let message = format!("this server knows of {epoch} deletions, and the request demands {min}");
        return Err(Refusal::new(Kind::EpochNotReached, message));
    }
    Ok(())
}

/// Work that takes a thread's time.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
    done.unwrap_or_else(|_| Err(Refusal::new(Kind::Failed, "the request failed; the log says why")))
}
