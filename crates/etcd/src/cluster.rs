//! The Cluster service: the members as etcd shows them, and changes of them.
//!
//! The rules of a change are the cluster's own, which are stricter than etcd's: a node says itself
//! who it is when it is added, it gets a vote when it keeps up, and no change lowers the number of
//! failures that the cluster tolerates.

use std::sync::Arc;

use mainstay_consensus::{MemberChange, MemberRequest, MemberStatus, MemberWish, MembershipError};
use mainstay_etcd_protocol::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, ResponseHeader, cluster_server::Cluster,
};
use mainstay_service::{Caller, MembersError};
use tonic::{Request, Response, Status};

use crate::{api::Shared, error};

/// What stands before an address in a URL of a peer.
const SCHEMES: [&str; 2] = ["http://", "https://"];

/// The members of the cluster.
pub(crate) struct ClusterService(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        if request.into_inner().linearizable {
            api.catch_up(&caller).await?;
        }
        let members = members(api);
        Ok(Response::new(MemberListResponse { header: header(api), members }))
    }

    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let peer_address = address(&request.into_inner().peer_ur_ls)?;
        let change = change(api, &caller, MemberWish::Add { peer_address, id: None }).await?;
        let members = members(api);
        let added = |member: &&Member| member.id == change.id;
        let member = members.iter().find(added).cloned().unwrap_or_else(|| Member {
            id: change.id,
            name: change.name.clone(),
            is_learner: true,
            ..Member::default()
        });
        let (header, member) = (header(api), Some(member));
        Ok(Response::new(MemberAddResponse { header, member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let id = request.into_inner().id;
        change(api, &caller, MemberWish::Remove { id }).await?;
        let members = members(api).into_iter().filter(|member| member.id != id).collect();
        Ok(Response::new(MemberRemoveResponse { header: header(api), members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let mut record = member(api, id)?.record;
        record.peer_address = address(&peer_ur_ls)?;
        change(api, &caller, MemberWish::Describe(record)).await?;
        let members = members(api);
        Ok(Response::new(MemberUpdateResponse { header: header(api), members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let id = request.into_inner().id;
        if member(api, id)?.voter {
            return Err(error::not_a_learner());
        }
        change(api, &caller, MemberWish::Promote { id }).await?;
        let members = members(api);
        Ok(Response::new(MemberPromoteResponse { header: header(api), members }))
    }
}

async fn change(api: &Shared, caller: &Caller, wish: MemberWish) -> Result<MemberChange, Status> {
    let request = MemberRequest { wish, force: false, dry_run: false };
    let changed = api.door.change_members(caller, &request).await.map_err(of_members)?;
    // The answer lists the members as this node knows them, which may be a moment behind the
    // leader that changed them.
    let _in_time = api.catch_up(caller).await;
    Ok(changed)
}

/// The header of an answer about members, which has no revision in etcd.
fn header(api: &Shared) -> Option<ResponseHeader> {
    Some(api.header_at(0))
}

fn of_members(error: MembersError) -> Status {
    let error = match error {
        MembersError::Denied(_) => return error::permission_denied(),
        MembersError::Membership(error) => error,
    };
    match error {
        MembershipError::NoLeader => error::no_leader(),
        MembershipError::NotReady | MembershipError::NoQuorum => error::unhealthy(),
        MembershipError::ShuttingDown => error::server_stopped(),
        MembershipError::Busy => error::too_many_requests(),
        MembershipError::UnknownMember { .. } | MembershipError::Removed { .. } => {
            error::member_not_found()
        }
        MembershipError::LastVoter { .. } | MembershipError::BreaksQuorum { .. } => {
            error::not_enough_started()
        }
        MembershipError::LearnerLags { .. } | MembershipError::Silent { .. } => {
            error::learner_not_ready()
        }
        MembershipError::IdTaken { .. } => error::member_exists(),
        MembershipError::AddressTaken { .. } => error::peer_urls_exist(),
        MembershipError::OutcomeUnknown => error::timed_out(),
        other => Status::failed_precondition(format!("etcdserver: {other}")),
    }
}

/// The address in the one URL of a peer.
fn address(urls: &[String]) -> Result<String, Status> {
    let [url] = urls else { return Err(error::member_urls_invalid()) };
    let address = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme));
    let is_address = |address: &&str| {
        address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
        })
    };
    address.filter(is_address).map(str::to_owned).ok_or_else(error::member_urls_invalid)
}

fn member(api: &Shared, id: u64) -> Result<MemberStatus, Status> {
    api.consensus().status().members.get(&id).cloned().ok_or_else(error::member_not_found)
}

fn members(api: &Shared) -> Vec<Member> {
    let status = api.consensus().status();
    let member = |member: &MemberStatus| Member {
        id: member.id,
        name: member.record.name.clone(),
        peer_ur_ls: vec![format!("http://{}", member.record.peer_address)],
        client_ur_ls: member.record.client_urls.clone(),
        is_learner: !member.voter,
    };
    status.members.values().map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_by_one_url_without_a_path() {
        let read = |urls: &[&str]| {
            address(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>()).ok()
        };
        assert_eq!(read(&["http://127.0.0.1:2380"]).as_deref(), Some("127.0.0.1:2380"));
        assert_eq!(read(&["https://node:2380"]).as_deref(), Some("node:2380"));
        for bad in [
            &[][..],
            &["http://a:1", "http://b:2"],
            &["a:1"],
            &["http://a"],
            &["http://:1"],
            &["http://a/b:1"],
            &["http://a:99999"],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
