//! Repair in the background: its state, and an operator's say in it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::{May, Operate, Run};
use crate::app::App;
use crate::clock::moment;
use crate::refusal::{ErrorBody, Refusal};
use crate::repairs::{RepairView, Wish};

/// The state of repair.
#[derive(Serialize, ToSchema)]
pub(crate) struct RepairState {
    /// `true` if a policy starts repairs; an operator may start one either way.
    has_policy: bool,
    /// `true` while no repair is started or goes on.
    paused: bool,
    /// The stages of the plan that are not there.
    missing_stages: usize,
    /// The repair that goes on.
    running: Option<Running>,
    /// The repair that ended last, since the server started.
    last: Option<Last>,
    /// Why the last attempt failed, if it did.
    problem: Option<String>,
}

/// A repair that goes on.
#[derive(Serialize, ToSchema)]
struct Running {
    /// When it started (RFC 3339).
    started: String,
    /// The stages that it builds.
    stages: usize,
    /// Stages that are done.
    stages_done: usize,
    /// The optimiser steps that it takes.
    steps: usize,
    /// Steps that are done.
    steps_done: usize,
}

/// A repair that ended.
#[derive(Serialize, ToSchema)]
struct Last {
    /// When it ended (RFC 3339).
    ended: String,
    /// The stages that it built.
    trained_stages: usize,
    /// Why it was due.
    reason: String,
    /// `true` if its time was over before it was done.
    out_of_time: bool,
}

impl RepairState {
    fn of(app: &App) -> Result<Self, Refusal> {
        let RepairView { has_policy, is_paused, running, last, problem } = app.repairs.view();
        Ok(Self {
            has_policy,
            paused: is_paused,
            missing_stages: app.service.snapshot()?.missing().len(),
            running: running.map(|running| Running {
                started: moment(running.started),
                stages: running.stages,
                stages_done: running.stages_done,
                steps: running.steps,
                steps_done: running.steps_done,
            }),
            last: last.map(|last| Last {
                ended: moment(last.ended),
                trained_stages: last.trained,
                reason: last.reason,
                out_of_time: last.out_of_time,
            }),
            problem,
        })
    }
}

/// The state of repair.
#[utoipa::path(get, path = "/repair", operation_id = "get_repair", tag = "operation",
    responses(
        (status = 200, description = "Repair as it is.", body = RepairState),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not see it.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn state(State(app): State<Arc<App>>, _caller: May<Operate>) -> Result<Json<RepairState>, Refusal> {
    RepairState::of(&app).map(Json)
}

/// Repair now, whatever the policy says.
#[utoipa::path(post, path = "/repair/run", operation_id = "run_repair", tag = "operation",
    responses(
        (status = 200, description = "It starts, if anything is missing.", body = RepairState),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not operate.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn run(State(app): State<Arc<App>>, _caller: May<Run>) -> Result<Json<RepairState>, Refusal> {
    wish(&app, Wish::Run)
}

/// Stop repair, and start none until it is resumed. Stages that are finished stay.
#[utoipa::path(post, path = "/repair/pause", operation_id = "pause_repair", tag = "operation",
    responses(
        (status = 200, description = "It is paused.", body = RepairState),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not operate.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn pause(State(app): State<Arc<App>>, _caller: May<Run>) -> Result<Json<RepairState>, Refusal> {
    wish(&app, Wish::Pause)
}

/// Let the policy start repairs again.
#[utoipa::path(post, path = "/repair/resume", operation_id = "resume_repair", tag = "operation",
    responses(
        (status = 200, description = "It is not paused any more.", body = RepairState),
        (status = 401, description = "No token, or an unknown one.", body = ErrorBody),
        (status = 403, description = "The token may not operate.", body = ErrorBody),
    ),
    security(("token" = [])))]
pub(crate) async fn resume(State(app): State<Arc<App>>, _caller: May<Run>) -> Result<Json<RepairState>, Refusal> {
    wish(&app, Wish::Resume)
}

fn wish(app: &App, wish: Wish) -> Result<Json<RepairState>, Refusal> {
    app.repairs.wish(wish);
    app.desk.tell();
    RepairState::of(app).map(Json)
}
