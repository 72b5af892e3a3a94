//! The page as it changes, by server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::overview;
use super::view::View;
use crate::access::{May, Operate};
use crate::app::App;
use crate::refusal::{Kind, Refusal};
use crate::routes::blocking;
use crate::token_file::Role;

/// The most pages that follow at a time.
const MAX_FOLLOWERS: usize = 64;

/// The min and max time between two states.
const MIN_WAIT: Duration = Duration::from_millis(250);
const MAX_WAIT: Duration = Duration::from_secs(2);

pub(super) async fn events(State(app): State<Arc<App>>, caller: Result<May<Operate>, Refusal>) -> Response {
    let operates = match caller {
        Ok(May { caller, .. }) => caller.has(Role::Operate),
        Err(refusal) => return refusal.into_response(),
    };
    let Ok(place) = Arc::clone(&app.watchers).try_acquire_owned() else {
        return Refusal::new(Kind::Unavailable, format!("{MAX_FOLLOWERS} pages follow already")).into_response();
    };
    let changes = app.desk.changes();
    let states = stream::unfold((app, changes, place), move |(app, mut changes, place)| async move {
        tokio::time::sleep(MIN_WAIT).await;
        let _ = tokio::time::timeout(MAX_WAIT, changes.changed()).await;
        if app.life.is_stopping() {
            return None;
        }
        let working = Arc::clone(&app);
        let view = blocking(move || View::new(&working, "", None)).await.ok()?;
        // In one line, so that it is one datum.
        let text = overview::live(&view, operates).into_string().replace(['\r', '\n'], " ");
        Some((Ok::<_, Infallible>(Event::default().event("view").data(text)), (app, changes, place)))
    });
    Sse::new(states).keep_alive(KeepAlive::default()).into_response()
}

/// The places of pages that follow.
pub(crate) fn places() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(MAX_FOLLOWERS))
}
