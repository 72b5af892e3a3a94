//! The answer box.

use std::sync::Arc;

use axum::extract::Multipart;
use maud::{Markup, html};
use s3t_core::Payload;
use s3t_engine::Answer;

use crate::app::App;
use crate::questions;
use crate::refusal::Refusal;
use crate::routes::{Scored, answer_payload, blocking};
use crate::tokens::Caller;

/// The most classes that are shown.
const MAX_CLASSES: usize = 5;

/// An answer, or its refusal.
pub(super) type Asked = Result<(Answer, Vec<Scored>), Refusal>;

/// Answers for a text, numbers or a picture file.
pub(super) async fn asked(
    app: &Arc<App>,
    caller: &Caller,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Asked {
    let form = form.map_err(|error| Refusal::invalid(error.body_text()))?;
    let late = || Refusal::invalid("the form did not arrive in time");
    let read = tokio::time::timeout(app.settings.read_time(), read(app, form)).await;
    answer_payload(&app.answers, caller, read.map_err(|_| late())??).await
}

async fn read(app: &Arc<App>, mut form: Multipart) -> Result<Payload, Refusal> {
    let wrong = |error: axum::extract::multipart::MultipartError| Refusal::invalid(error.body_text());
    let mut text = String::new();
    while let Some(field) = form.next_field().await.map_err(wrong)? {
        match field.name().unwrap_or_default() {
            "picture" => {
                let bytes = field.bytes().await.map_err(wrong)?;
                if !bytes.is_empty() {
                    let working = Arc::clone(app);
                    return blocking(move || questions::picture(&working.model, "the picture", &bytes)).await;
                }
            }
            "text" => text = field.text().await.map_err(wrong)?,
            _ => {}
        }
    }
    if text.trim().is_empty() {
        return Err(Refusal::invalid("nothing was asked: give a text, numbers or a picture"));
    }
    if app.model.pictures().is_none() {
        return Ok(Payload::Text(text));
    }
    let parts = text.split([',', ' ', '\n', '\r', '\t']).filter(|part| !part.is_empty());
    let numbers: Option<Vec<serde_json::Value>> =
        parts.map(|part| serde_json::Number::from_f64(part.parse().ok()?).map(Into::into)).collect();
    questions::features(
        "the box",
        &numbers.ok_or_else(|| Refusal::invalid("the box takes numbers with commas between"))?,
    )
}

pub(super) fn markup(app: &App, asked: Option<&Asked>) -> Markup {
    let pictures = app.model.pictures().is_some();
    html! {
        section #ask .card aria-labelledby="ask-title" {
            h2 #ask-title { "Ask" }
            form method="post" action="/ui/ask#ask" enctype="multipart/form-data" {
                @if pictures {
                    label for="picture" { "A picture (JPEG, PNG, WebP, GIF, BMP or TIFF)" }
                    input #picture type="file" name="picture" accept="image/jpeg,image/png,image/webp,image/gif,image/bmp,image/tiff";
                    label for="text" { "or its numbers" }
                } @else {
                    label for="text" { "A text" }
                }
                textarea #text name="text" rows="3" {}
                button type="submit" { "Answer" }
            }
            @match asked {
                None => {}
                Some(Err(refusal)) => { p.todo role="status" { (refusal.message) } }
                Some(Ok((answer, scored))) => { (result(answer, scored)) }
            }
        }
    }
}

fn result(answer: &Answer, scored: &[Scored]) -> Markup {
    html! {
        div.result role="status" {
            table {
                caption.hidden { "Answer" }
                thead.hidden { tr { th scope="col" { "Class" } th scope="col" { "Score" } } }
                tbody { @for (label, score) in scored.iter().take(MAX_CLASSES).map(Scored::parts) {
                    tr {
                        th scope="row" { (label) }
                        td { meter min="0" max="1" value=(score) aria-hidden="true" {} " " (format!("{score:.3}")) }
                    }
                } }
            }
            p.note {
                "It knows of epoch " (answer.epoch) " and came from "
                @for (index, serves) in answer.stages.iter().enumerate() {
                    @if index > 0 { ", " }
                    "shard " (serves.shard) " stage "
                    @match serves.stage { Some(key) => { code title=(key) { (key.0.short()) } }, None => "of the base model" }
                }
                "."
            }
        }
    }
}
