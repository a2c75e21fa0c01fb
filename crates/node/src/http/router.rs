//! Every route but those of single keys, with axum.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{
    Router,
    extract::State,
    response::Response as Routed,
    routing::{MethodRouter, delete, get, post, put},
};
use http::{HeaderValue, Method, Response, StatusCode, header::ALLOW};

use crate::http::{
    autopilot,
    body::Body,
    cluster, compaction, detector,
    front::{Answered, Asked, Front, SharedFront},
    health, import, leader, leases, listing, members, metrics_page, node, openapi,
    problem::Problem,
    route::Route,
    txn, watches,
};

/// Makes the methods of a route, which is there twice.
type Methods = fn() -> MethodRouter<SharedFront>;

/// The router of a front.
pub(crate) fn router(front: &Arc<Front>) -> Router {
    let about_the_node: [(&str, Methods); 6] = [
        ("/health", || get(via(health::health))),
        ("/health/live", || get(via(health::live))),
        ("/health/ready", || get(via(health::ready))),
        ("/livez", || get(via(health::live))),
        ("/readyz", || get(via(health::ready))),
        ("/version", || get(via(health::version))),
    ];
    let mut router = Router::new()
        .route("/v1/kv", get(via(listing::get)))
        .route("/v1/txn", post(via(txn::post)))
        .route("/v1/compact", post(via(compaction::post)))
        .route("/v1/watch", get(via(watches::get)))
        .route("/v1/leases", get(via(leases::list)).post(via(leases::grant)))
        .route("/v1/leases/{id}", get(via(leases::get)).merge(delete(via(leases::revoke))))
        .route("/v1/leases/{id}/keep-alive", post(via(leases::keep_alive)))
        .route("/v1/sessions", post(via(leases::open_session)))
        .route("/v1/cluster", get(via(cluster::get)))
        .route("/v1/cluster/settings", put(via(cluster::put_settings)))
        .route("/v1/cluster/import", get(via(import::get)).post(via(import::post)))
        .route("/v1/cluster/snapshot", post(via(cluster::take_snapshot)))
        .route("/v1/cluster/leader", post(via(leader::transfer)))
        .route("/v1/cluster/autopilot", get(via(autopilot::get)))
        .route("/v1/cluster/members", post(via(members::add)))
        .route("/v1/cluster/members/{id}", delete(via(members::remove)))
        .route("/v1/cluster/members/{id}/promote", post(via(members::promote)))
        .route("/v1/failure-detector", get(via(detector::get)))
        .route("/v1/node", get(via(node::get)))
        .route("/livez/{check}", get(via(health::live_check)))
        .route("/readyz/{check}", get(via(health::ready_check)))
        .route("/metrics", get(via(metrics_page::get)))
        .route("/openapi.json", get(via(openapi::get)));
    for (path, methods) in about_the_node {
        router = router.route(path, methods()).route(&format!("{path}/"), methods());
    }
    router
        .fallback(via(unknown_route))
        .method_not_allowed_fallback(via(other_method))
        .with_state(Arc::clone(front))
}

type Running = Pin<Box<dyn Future<Output = Routed> + Send>>;

/// A handler of ours as one of axum's.
fn via<H, F>(handler: H) -> impl Fn(State<SharedFront>, Asked) -> Running + Clone + Send + Sync
where
    H: Fn(SharedFront, Asked) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answered> + Send + 'static,
{
    move |State(front), request| {
        let answered = handler(Arc::clone(&front), request);
        Box::pin(async move {
            let response = match answered.await {
                Ok(response) => response,
                Err(problem) => problem.respond(front.stamp.now()),
            };
            response.map(axum::body::Body::new)
        })
    }
}

async fn unknown_route(_front: SharedFront, request: Asked) -> Answered {
    Err(Problem::unknown_route(request.uri().path()))
}

/// A method that the route does not take, or `OPTIONS`, which every route does.
async fn other_method(front: SharedFront, request: Asked) -> Answered {
    let methods = Route::of(request.uri().path()).methods();
    if request.method() != Method::OPTIONS {
        return Err(Problem::method_not_allowed(request.method().as_str(), methods));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = front.stamp.now();
    if let Some(methods) = methods {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    }
    Ok(response)
}
