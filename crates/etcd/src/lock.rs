//! The Lock service: locks that the server waits for.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_etcd_protocol::v3lockpb::{
    LockRequest, LockResponse, UnlockRequest, UnlockResponse, lock_server::Lock,
};
use mainstay_kv::{Delete, KeyRange};
use tonic::{Request, Response, Status};

use crate::{api::Shared, error, queue::take_place};

/// Locks.
pub(crate) struct LockService(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let Self(api) = self;
        api.caller(request.metadata())?;
        let LockRequest { name, lease } = request.into_inner();
        let mut place = take_place(api, &name, lease, Bytes::new()).await?;
        place.wait_for_turn(api).await?;
        place.keep();
        let (header, key) = (Some(place.header), place.key.clone());
        Ok(Response::new(LockResponse { header, key }))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let key = request.into_inner().key;
        if key.is_empty() {
            return Err(error::key_empty());
        }
        let delete = Delete { range: KeyRange::key(key), want_previous: false };
        let deleted = api.door.delete(caller, delete).await.map_err(error::of_door)?;
        Ok(Response::new(UnlockResponse { header: Some(api.header_at(deleted.revision)) }))
    }
}
