//! The routes, in groups: answers, deletions and proofs, the page.

mod audits;
mod deletions;
mod health;
mod opendsr;
mod predict;
mod proofs;
mod repair;
mod replica;
mod texts;
mod v2;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as OpenApiDerive;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use deletions::{encoded, receipt_body};
pub(crate) use predict::{Scored, answer_payload, blocking};

use crate::access::identify;
use crate::answers::Answers;
use crate::app::App;
use crate::refusal::{Kind, Refusal};

/// The routes of answers, which others may reach.
fn answers<S: Clone + Send + Sync + 'static>() -> OpenApiRouter<S>
where
    Answers: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(predict::predict))
        .routes(routes!(texts::completions))
        .routes(routes!(texts::chat))
        .routes(routes!(texts::models))
        .routes(routes!(texts::model))
        .routes(routes!(v2::server))
        .routes(routes!(v2::live))
        .routes(routes!(v2::ready))
        .routes(routes!(v2::model))
        .routes(routes!(v2::model_ready))
        .routes(routes!(v2::infer))
}

/// The routes of each port.
fn health<S: Clone + Send + Sync + 'static>() -> OpenApiRouter<S>
where
    Answers: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(health::live)).routes(routes!(health::ready))
}

/// The routes of deletions and their proofs.
fn private(app: &App) -> OpenApiRouter<Arc<App>> {
    let router = OpenApiRouter::new()
        .routes(routes!(deletions::create, deletions::list))
        .routes(routes!(deletions::state, deletions::cancel))
        .routes(routes!(deletions::receipt))
        .routes(routes!(deletions::release))
        .routes(routes!(proofs::checkpoint))
        .routes(routes!(proofs::key))
        .route("/ledger/tile/{*tile}", get(proofs::tile))
        .routes(routes!(audits::start))
        .routes(routes!(audits::state))
        .routes(routes!(repair::state))
        .routes(routes!(repair::run))
        .routes(routes!(repair::pause))
        .routes(routes!(repair::resume))
        .routes(routes!(replica::state))
        .routes(routes!(replica::stage))
        .routes(routes!(replica::confirm));
    if app.opendsr.is_none() {
        return router;
    }
    router
        .routes(routes!(opendsr::discovery))
        .routes(routes!(opendsr::certificate))
        .routes(routes!(opendsr::create))
        .routes(routes!(opendsr::state, opendsr::cancel))
        .route("/discovery", get(opendsr::discovery))
        .route("/opengdpr_requests", axum::routing::post(opendsr::create))
        .route("/opengdpr_requests/{subject_request_id}", get(opendsr::state).delete(opendsr::cancel))
}

/// All routes on one port.
pub(crate) fn all(app: &Arc<App>) -> Router {
    finished(app, answers().merge(private(app)), true)
}

/// The routes of the port of health and figures.
pub(crate) fn health_only(app: &Arc<App>) -> Router {
    finished(app, OpenApiRouter::new(), false)
}

/// The routes of the port of answers, and those of the private port.
pub(crate) fn apart(app: &Arc<App>) -> [Router; 2] {
    [finished(app, answers(), false), finished(app, private(app), true)]
}

/// The routes of a follower's port of health and figures.
pub(crate) fn health_of_follower(app: &Answers) -> Router {
    let router = health().routes(routes!(health::metrics_of_follower));
    let (router, document) = OpenApiRouter::with_openapi(document()).merge(router).split_for_parts();
    let router = with_document(router, &document).fallback(|| async { Refusal::not_found("no such route") });
    layered(app, router).with_state(app.clone())
}

/// The routes of a follower: answers and health.
pub(crate) fn of_follower(app: &Answers, leader: &str) -> Router {
    let router = answers().merge(health()).routes(routes!(health::metrics_of_follower));
    let (router, document) = OpenApiRouter::with_openapi(document()).merge(router).split_for_parts();
    let message = format!(
        "no such route at a follower, which has answers only; deletions, proofs and the page are at its leader, {leader}"
    );
    let router = with_document(router, &document).fallback(move || async move { Refusal::not_found(message) });
    layered(app, router).with_state(app.clone())
}

fn finished(app: &Arc<App>, router: OpenApiRouter<Arc<App>>, has_page: bool) -> Router {
    let router = router.merge(health()).routes(routes!(health::metrics));
    let (router, mut document) = OpenApiRouter::with_openapi(document()).merge(router).split_for_parts();
    if has_page {
        document.merge(Tiles::openapi());
    }
    let mut router = with_document(router, &document);
    if has_page {
        router = router.merge(crate::page::routes());
    }
    let router = router.fallback(|| async { Refusal::not_found("no such route; `/openapi.json` lists them") });
    layered(&app.answers, router).with_state(Arc::clone(app))
}

/// A router with the route of its document.
fn with_document<S: Clone + Send + Sync + 'static>(router: Router<S>, document: &OpenApi) -> Router<S> {
    let document: Arc<str> = document.to_json().unwrap_or_default().into();
    let json = HeaderValue::from_static("application/json");
    let openapi = get(move || async move { ([(header::CONTENT_TYPE, json)], document.to_string()) });
    router.route("/openapi.json", openapi)
}

/// A router with what is done for each request.
fn layered<S: Clone + Send + Sync + 'static>(app: &Answers, router: Router<S>) -> Router<S> {
    router
        .method_not_allowed_fallback(|| async {
            let mut response = Refusal::invalid("the route does not take this method").into_response();
            *response.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
            response
        })
        .layer(DefaultBodyLimit::max(app.settings.body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(axum::middleware::from_fn_with_state(app.clone(), identify))
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Refusal::new(Kind::Failed, "the request failed; the log says why").into_response()
}

/// The route of tiles, whose name has slashes in it: the router and the document write that in different ways.
#[derive(OpenApiDerive)]
#[openapi(paths(proofs::tile))]
struct Tiles;

/// The head of the OpenAPI document.
fn document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("S3T")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Answers, deletions and their proofs."))
        .build();
    let mut document = OpenApiBuilder::new().info(info).build();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme("token", token);
    document
}
