//! The Watch service: the way in; see `watch_stream` for what goes on in a stream.

use std::sync::Arc;

use mainstay_etcd_protocol::etcdserverpb::{WatchRequest, WatchResponse, watch_server::Watch};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    api::Shared,
    caller::requires_leader,
    stop::{Answers, until_stopped},
    watch_stream::WatchStream,
};

/// Changes as they happen.
pub(crate) struct WatchService(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = Answers<WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let requires_leader = requires_leader(request.metadata());
        let stream =
            WatchStream::new(Arc::clone(api), caller, request.into_inner(), requires_leader);
        Ok(Response::new(until_stopped(stream.answers(), api.stopping())))
    }
}
