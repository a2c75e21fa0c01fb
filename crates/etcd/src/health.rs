//! The standard health service of gRPC: one service, the whole node.

use std::sync::Arc;

use futures_util::stream;
use mainstay_etcd_protocol::health::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};
use tonic::{Request, Response, Status};

use crate::{api::Shared, stop::Answers};

/// Whether the node serves.
pub(crate) struct HealthService(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Answers<HealthCheckResponse>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !request.get_ref().service.is_empty() {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(answer(ServingStatus::Serving)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let first = match request.get_ref().service.is_empty() {
            true => ServingStatus::Serving,
            false => ServingStatus::ServiceUnknown,
        };
        // A service that is not there may come one day; this one goes when the node stops.
        let mut stopping = self.0.stopping();
        let last = async move {
            let _either = stopping.wait_for(|stopping| *stopping).await;
            match first {
                ServingStatus::Serving => ServingStatus::NotServing,
                other => other,
            }
        };
        let first = stream::iter([Ok(answer(first))]);
        let last = stream::once(async { Ok(answer(last.await)) });
        Ok(Response::new(Box::pin(futures_util::StreamExt::chain(first, last))))
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
