//! The Maintenance service.
//!
//! The store is in memory and frees what is compacted by itself, so there is nothing to
//! defragment; its one alarm goes by itself, too. What cannot be done is refused in words.

use std::sync::Arc;

use mainstay_consensus::{HandOverError, Role};
use mainstay_etcd_protocol::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse, alarm_request::AlarmAction, downgrade_request::DowngradeAction,
    maintenance_server::Maintenance,
};
use mainstay_service::TransferError;
use tonic::{Request, Response, Status};

use crate::{
    api::{Shared, signed},
    caller::leader,
    error,
    key_hash::key_hash,
    snapshot_stream,
    stop::Answers,
    version::{ETCD_VERSION, STORAGE_VERSION},
};

/// Looking after a member.
pub(crate) struct MaintenanceService(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    type SnapshotStream = Answers<SnapshotResponse>;

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let Self(api) = self;
        api.caller(request.metadata())?;
        let status = api.consensus().status();
        let space = api.door.store(mainstay_kv::Store::space);
        let mut errors = Vec::new();
        let leader = leader(&status);
        if leader.is_none() {
            errors.push(error::no_leader().message().to_owned());
        }
        if space.full {
            errors.push(format!("memberID:{} alarm:NOSPACE ", status.node_id));
        }
        Ok(Response::new(StatusResponse {
            header: Some(api.header()),
            version: ETCD_VERSION.to_owned(),
            db_size: signed(space.bytes),
            leader: leader.unwrap_or_default(),
            raft_index: status.committed_index,
            raft_term: status.term,
            raft_applied_index: status.applied_index,
            errors,
            db_size_in_use: signed(space.bytes),
            is_learner: status.role == Role::Learner,
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: signed(space.quota_bytes),
            downgrade_info: Some(DowngradeInfo::default()),
        }))
    }

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let Self(api) = self;
        api.caller(request.metadata())?;
        let AlarmRequest { action, member_id, alarm } = request.into_inner();
        let alarms = match AlarmAction::try_from(action) {
            Ok(AlarmAction::Get) => {
                let kind = AlarmType::try_from(alarm).unwrap_or_default();
                let wanted = |alarm: &AlarmMember| {
                    (member_id == 0 || alarm.member_id == member_id)
                        && (kind == AlarmType::None || alarm.alarm() == kind)
                };
                raised(api).into_iter().filter(wanted).collect()
            }
            // Nothing is ended by asking: the alarm goes when there is room again.
            Ok(AlarmAction::Deactivate) => Vec::new(),
            Ok(AlarmAction::Activate) | Err(_) => {
                let message = "etcdserver: an alarm is raised by the store itself, not by request";
                return Err(Status::unimplemented(message));
            }
        };
        Ok(Response::new(AlarmResponse { header: Some(api.header()), alarms }))
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        let Self(api) = self;
        api.caller(request.metadata())?;
        // What is compacted was freed already. etcd gives no header here.
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let Self(api) = self;
        api.caller(request.metadata())?;
        let (hash, revision) = api.door.store(|store| (store.hash(), store.revision()));
        let folded = hash
            .to_le_bytes()
            .as_chunks::<4>()
            .0
            .iter()
            .fold(0, |folded, part| folded ^ u32::from_le_bytes(*part));
        Ok(Response::new(HashResponse { header: Some(api.header_at(revision)), hash: folded }))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let revision = u64::try_from(request.into_inner().revision).unwrap_or_default();
        let found = key_hash(&api.door, revision, caller.deadline).await?;
        Ok(Response::new(HashKvResponse {
            header: Some(api.header()),
            hash: found.hash,
            compact_revision: signed(found.compact_revision),
            hash_revision: signed(found.revision),
        }))
    }

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        Ok(Response::new(snapshot_stream::blobs(api, &caller)?))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        if api.consensus().status().role != Role::Leader {
            return Err(error::not_leader());
        }
        let target = request.into_inner().target_id;
        match api.door.transfer_leadership(&caller, Some(target)).await {
            Ok(_) | Err(TransferError::HandOver(HandOverError::AlreadyLeads { .. })) => {
                // etcd gives no header here.
                Ok(Response::new(MoveLeaderResponse { header: None }))
            }
            Err(error) => Err(of_transfer(error)),
        }
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        let Self(api) = self;
        api.caller(request.metadata())?;
        let DowngradeRequest { action, version } = request.into_inner();
        let numbers: Vec<&str> = version.split('.').collect();
        let is_version = (2..=3).contains(&numbers.len())
            && numbers.iter().all(|number| number.parse::<u32>().is_ok());
        Err(match DowngradeAction::try_from(action) {
            Ok(DowngradeAction::Cancel) => error::no_downgrade(),
            _ if !is_version => error::downgrade_version_format(),
            _ => error::downgrade_version_invalid(),
        })
    }
}

/// The alarms of this cluster: the store is the same on all members, so this one speaks for them.
fn raised(api: &Shared) -> Vec<AlarmMember> {
    let full = api.door.store(mainstay_kv::Store::space).full;
    let (_, member_id) = api.identity();
    let alarm = AlarmMember { member_id, alarm: AlarmType::Nospace.into() };
    full.then_some(alarm).into_iter().collect()
}

fn of_transfer(error: TransferError) -> Status {
    let error = match error {
        TransferError::Denied(_) => return error::permission_denied(),
        TransferError::HandOver(error) => error,
    };
    match error {
        HandOverError::NoLeader => error::no_leader(),
        HandOverError::NotReady => error::unhealthy(),
        HandOverError::ShuttingDown => error::server_stopped(),
        HandOverError::UnknownMember { .. } | HandOverError::NotAVoter { .. } => {
            error::bad_transferee()
        }
        HandOverError::OutcomeUnknown => error::timed_out(),
        other => Status::unavailable(format!("etcdserver: {other}")),
    }
}
