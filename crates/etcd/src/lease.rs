//! The Lease service.
//!
//! etcd counts in seconds where the store counts in milliseconds: what is granted is rounded up,
//! what is left is rounded down, so that a client never believes in more time than it has.

use std::sync::Arc;

use futures_util::StreamExt as _;
use mainstay_etcd_protocol::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, lease_server::Lease,
};
use mainstay_kv::Refusal;
use mainstay_service::DoorError;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    api::{Shared, signed},
    error,
    stop::{Answers, until_stopped},
};

/// Renewals of one stream that run at a time; they are answered in order.
const KEEP_ALIVES_AT_A_TIME: usize = 64;

const MS_PER_SECOND: u64 = 1_000;

/// Leases.
pub(crate) struct LeaseService(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl Lease for LeaseService {
    type LeaseKeepAliveStream = Answers<LeaseKeepAliveResponse>;

    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let LeaseGrantRequest { ttl, id } = request.into_inner();
        // A time that is none is raised to the smallest, as every time below it is.
        let ttl_ms = u64::try_from(ttl).unwrap_or_default().saturating_mul(MS_PER_SECOND);
        let granted = api.door.lease_grant(caller, id.cast_unsigned(), ttl_ms).await;
        let granted = granted.map_err(error::of_door)?;
        let (id, ttl_ms) = granted.outcome;
        Ok(Response::new(LeaseGrantResponse {
            header: Some(api.header_at(granted.revision)),
            id: signed(id),
            ttl: seconds_up(ttl_ms),
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let id = request.into_inner().id.cast_unsigned();
        let revoked = api.door.lease_revoke(caller, id).await.map_err(error::of_door)?;
        let header = Some(api.header_at(revoked.revision));
        Ok(Response::new(LeaseRevokeResponse { header }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let Self(api) = self;
        // Only a leader's word counts here anyway.
        api.caller(request.metadata())?;
        let answering = Arc::clone(api);
        let answers = request
            .into_inner()
            .map(move |request| keep_alive(Arc::clone(&answering), request))
            .buffered(KEEP_ALIVES_AT_A_TIME);
        Ok(Response::new(until_stopped(answers, api.stopping())))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let read = api.door.lease(&caller, id.cast_unsigned()).await.map_err(error::of_door)?;
        let header = Some(api.header_at(read.revision));
        let none = LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() };
        let response = match read.answer {
            None => none,
            Some(lease) => LeaseTimeToLiveResponse {
                ttl: signed(lease.remaining_ms / MS_PER_SECOND),
                granted_ttl: seconds_up(lease.ttl_ms),
                keys: if keys { lease.keys } else { Vec::new() },
                ..none
            },
        };
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let read = api.door.leases(&caller).await.map_err(error::of_door)?;
        let header = Some(api.header_at(read.revision));
        let leases = read.answer.into_iter().map(|id| LeaseStatus { id: signed(id) }).collect();
        Ok(Response::new(LeaseLeasesResponse { header, leases }))
    }
}

async fn keep_alive(
    api: Arc<Shared>,
    request: Result<LeaseKeepAliveRequest, Status>,
) -> Result<LeaseKeepAliveResponse, Status> {
    let id = request.map_err(error::of_message)?.id;
    // The header is of before the renewal: a client may not take it for a later revision.
    let header = Some(api.header());
    let kept = api.door.lease_keep_alive(api.caller_on_stream(), id.cast_unsigned()).await;
    let ttl = match kept {
        Ok(kept) => seconds_up(kept.outcome),
        Err(DoorError::Refused(Refusal::LeaseNotFound { .. })) => {
            i64::from(api.door.buggify().is_planted("renew-revoked"))
        }
        Err(error) => return Err(error::of_door(error)),
    };
    Ok(LeaseKeepAliveResponse { header, id, ttl })
}

const fn seconds_up(ms: u64) -> i64 {
    signed(ms.div_ceil(MS_PER_SECOND))
}
