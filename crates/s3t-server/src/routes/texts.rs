//! `/v1/completions`, `/v1/chat/completions` and `/v1/models`, in the shape of OpenAI's interface.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Json, Response};

use super::predict::{EPOCH, MAX_NAMED_SHARDS, STAGES, blocking, check_min_epoch};
use crate::access::{Ask, May};
use crate::address::Path;
use crate::answers::Answers;
use crate::body::{Body, media_type};
use crate::openai::{
    Asked, ChatAnswer, ChatRequest, Completion, CompletionRequest, Form, Model, Models, OpenAiError, Origin,
};
use crate::refusal::{Kind, Refusal};
use crate::tokens::Caller;
use crate::written::Writing;

/// Continue texts.
///
/// A client that hangs up ends its texts. With `stream` the answer comes as server-sent events.
#[utoipa::path(post, path = "/v1/completions", operation_id = "create_completion", tag = "texts",
    request_body = CompletionRequest,
    params(("x-s3t-min-epoch" = Option<u64>, Header, description = "The deletions that the texts have to know of.")),
    responses(
        (status = 200, description = "The texts.", content((Completion = "application/json"), (String = "text/event-stream")), headers(
            ("x-s3t-epoch" = u64, description = "The deletions that every token knows of, at least."),
            ("x-s3t-stages" = String, description = "`SHARD=KEY` of the last stage of each member; not for streams."),
        )),
        (status = 400, description = "The body cannot be read, or asks for what cannot be done.", body = OpenAiError),
        (status = 401, description = "No token, or an unknown one.", body = OpenAiError),
        (status = 403, description = "The token may not ask.", body = OpenAiError),
        (status = 404, description = "Another model.", body = OpenAiError),
        (status = 412, description = "The server does not know of so many deletions yet.", body = OpenAiError),
        (status = 413, description = "Too many bytes or prompts.", body = OpenAiError),
        (status = 415, description = "A media type that is not read.", body = OpenAiError),
        (status = 422, description = "The model continues no texts.", body = OpenAiError),
        (status = 429, description = "Too many texts wait; `Retry-After` says how long to wait.", body = OpenAiError),
        (status = 503, description = "No shard can answer.", body = OpenAiError),
        (status = 504, description = "The text took longer than the deadline.", body = OpenAiError),
    ),
    security(("token" = [])))]
pub(crate) async fn completions(
    State(app): State<Answers>,
    May { caller, .. }: May<Ask>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Refusal> {
    texts(app, caller, Form::Completion, headers, body).await
}

/// Write the next message of a conversation, by the model's chat template.
///
/// A client that hangs up ends the message. With `stream` the answer comes as server-sent events.
#[utoipa::path(post, path = "/v1/chat/completions", operation_id = "create_chat_completion", tag = "texts",
    request_body = ChatRequest,
    params(("x-s3t-min-epoch" = Option<u64>, Header, description = "The deletions that the message has to know of.")),
    responses(
        (status = 200, description = "The message.", content((ChatAnswer = "application/json"), (String = "text/event-stream")), headers(
            ("x-s3t-epoch" = u64, description = "The deletions that every token knows of, at least."),
            ("x-s3t-stages" = String, description = "`SHARD=KEY` of the last stage of each member; not for streams."),
        )),
        (status = 400, description = "The body cannot be read, or asks for what cannot be done.", body = OpenAiError),
        (status = 401, description = "No token, or an unknown one.", body = OpenAiError),
        (status = 403, description = "The token may not ask.", body = OpenAiError),
        (status = 404, description = "Another model.", body = OpenAiError),
        (status = 412, description = "The server does not know of so many deletions yet.", body = OpenAiError),
        (status = 413, description = "Too many bytes.", body = OpenAiError),
        (status = 415, description = "A media type that is not read.", body = OpenAiError),
        (status = 422, description = "The model continues no texts.", body = OpenAiError),
        (status = 429, description = "Too many texts wait; `Retry-After` says how long to wait.", body = OpenAiError),
        (status = 503, description = "No shard can answer.", body = OpenAiError),
        (status = 504, description = "The message took longer than the deadline.", body = OpenAiError),
    ),
    security(("token" = [])))]
pub(crate) async fn chat(
    State(app): State<Answers>,
    May { caller, .. }: May<Ask>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Refusal> {
    texts(app, caller, Form::Chat, headers, body).await
}

async fn texts(
    app: Answers,
    caller: Caller,
    form: Form,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let generation = Arc::clone(app.generation()?);
    check_min_epoch(&app, &headers)?;
    generation.check_room(&caller.id)?;
    let media_type = media_type(&headers);
    let working = app.clone();
    // Templates and tokens take time that other requests are not to wait for.
    let turn = app.reading.acquire().await;
    let max = app.settings.request_records;
    let (asked, epoch, heard) = blocking(move || {
        let asked = Asked::read(form, &working.model, max, &media_type, &body)?;
        // Before the texts begin, so that each token knows of as many deletions at least.
        let epoch = working.model.epoch()?;
        let heard = generation.submit(&caller.id, asked.prompts.clone())?;
        Ok((asked, epoch, heard))
    })
    .await?;
    drop(turn);
    let streams = asked.stream.is_some();
    let writing = Writing::begin(&app, asked, heard).await?;
    if streams {
        return Ok(([(EPOCH, HeaderValue::from(epoch.0))], writing.into_events()).into_response());
    }
    let (origin, body) = writing.into_answer().await?;
    Ok((origin_headers(&origin), body).into_response())
}

fn origin_headers(origin: &Origin) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(EPOCH, HeaderValue::from(origin.began()));
    if origin.shards() <= MAX_NAMED_SHARDS
        && let Ok(stages) = HeaderValue::try_from(origin.stages_as_text())
    {
        headers.insert(STAGES, stages);
    }
    headers
}

/// The models of the server, with the deletions that they know of and the stages that answer.
#[utoipa::path(get, path = "/v1/models", operation_id = "list_models", tag = "texts", responses(
    (status = 200, description = "The model of the server.", body = Models),
    (status = 401, description = "No token, or an unknown one.", body = OpenAiError),
    (status = 403, description = "The token may not ask.", body = OpenAiError),
    (status = 503, description = "No shard can answer.", body = OpenAiError),
), security(("token" = [])))]
pub(crate) async fn models(State(app): State<Answers>, _caller: May<Ask>) -> Result<Json<Models>, Refusal> {
    Ok(Json(Models { object: "list", data: vec![described(app).await?] }))
}

/// A model.
#[utoipa::path(get, path = "/v1/models/{model}", operation_id = "get_model", tag = "texts",
    params(("model" = String, Path, description = "The model's name.")),
    responses(
        (status = 200, description = "The model.", body = Model),
        (status = 401, description = "No token, or an unknown one.", body = OpenAiError),
        (status = 403, description = "The token may not ask.", body = OpenAiError),
        (status = 404, description = "Another model.", body = OpenAiError),
        (status = 503, description = "No shard can answer.", body = OpenAiError),
    ), security(("token" = [])))]
pub(crate) async fn model(
    State(app): State<Answers>,
    _caller: May<Ask>,
    Path(name): Path<String>,
) -> Result<Json<Model>, Refusal> {
    if name != app.model.name() {
        return Err(Refusal::new(Kind::NotFound, format!("no such model; this server has `{}`", app.model.name())));
    }
    Ok(Json(described(app).await?))
}

async fn described(app: Answers) -> Result<Model, Refusal> {
    blocking(move || {
        let serving = app.model.serving()?;
        Ok(Model {
            id: app.model.name(),
            object: "model",
            created: app.started,
            owned_by: "s3t",
            s3t: Origin::new(serving.epoch, serving.epoch, &serving.stages),
        })
    })
    .await
}
