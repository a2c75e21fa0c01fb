//! The Election service: elections among clients.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use mainstay_etcd_protocol::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse, election_server::Election,
};
use mainstay_kv::{EventKind, KeyRange, KeyValue};
use mainstay_service::{Watch, WatchMessage};
use tonic::{Request, Response, Status};

use crate::{
    api::{Shared, signed},
    key_range::prefix,
    pair::pair,
    queue::{first, give_up, of_ended, take_place, watch_from, write},
    stop::{Answers, until_stopped},
};

/// Elections.
pub(crate) struct ElectionService(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl Election for ElectionService {
    type ObserveStream = Answers<LeaderResponse>;

    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let Self(api) = self;
        api.caller(request.metadata())?;
        let CampaignRequest { name, lease, value } = request.into_inner();
        let mut place = take_place(api, &name, lease, value.clone()).await?;
        // As in etcd: of when the place was taken, whatever is written or waited for then.
        let header = Some(place.header);
        if place.value_before.as_ref().is_some_and(|before| *before != value) {
            let (key, revision) = (place.key.clone(), place.revision);
            if write(api, key, revision, place.lease, value).await?.is_none() {
                return Err(not_leader());
            }
        }
        place.wait_for_turn(api).await?;
        place.keep();
        let leader = LeaderKey {
            name,
            key: place.key.clone(),
            rev: signed(place.revision),
            lease: signed(place.lease),
        };
        Ok(Response::new(CampaignResponse { header, leader: Some(leader) }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let Self(api) = self;
        api.caller(request.metadata())?;
        let ProclaimRequest { leader, value } = request.into_inner();
        let LeaderKey { key, rev, lease, .. } = leader.ok_or_else(no_title)?;
        let lease = lease.cast_unsigned();
        let written = write(api, key, rev.cast_unsigned(), lease, value).await?;
        match written {
            Some(header) => Ok(Response::new(ProclaimResponse { header: Some(header) })),
            None => Err(not_leader()),
        }
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let Self(api) = self;
        api.caller(request.metadata())?;
        match first(api, &request.into_inner().name).await? {
            (Some(leader), revision) => Ok(Response::new(response(api, leader, revision))),
            (None, _) => Err(Status::unknown("election: no leader")),
        }
    }

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let Self(api) = self;
        api.caller(request.metadata())?;
        let name = request.into_inner().name;
        let observer = Observer { api: Arc::clone(api), name, leader: None };
        let leaders = stream::try_unfold(observer, |mut observer| async move {
            Ok::<_, Status>(Some((observer.next().await?, observer)))
        });
        Ok(Response::new(until_stopped(leaders, api.stopping())))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        let Self(api) = self;
        api.caller(request.metadata())?;
        let LeaderKey { key, rev, .. } = request.into_inner().leader.ok_or_else(no_title)?;
        let header = give_up(api, key, rev.cast_unsigned()).await?;
        Ok(Response::new(ResignResponse { header: Some(header) }))
    }
}

/// Follows the leaders of one election.
struct Observer {
    api: Arc<Shared>,
    name: Bytes,
    /// The watch of the present leader's key.
    leader: Option<Watch>,
}

impl Observer {
    /// The next leader, or the next thing that the present one proclaims.
    async fn next(&mut self) -> Result<LeaderResponse, Status> {
        loop {
            let Some(watch) = &mut self.leader else {
                let (leader, revision) = first(&self.api, &self.name).await?;
                if let Some(leader) = leader {
                    let key = KeyRange::key(leader.key.clone());
                    self.leader = Some(watch_from(&self.api, key, revision + 1)?);
                    return Ok(response(&self.api, leader, revision));
                }
                self.wait_for_a_candidate(revision + 1).await?;
                continue;
            };
            match watch.next().await {
                Some(WatchMessage::Changes(changes)) => {
                    let revision = changes.revision();
                    let Some(event) = changes.events().last() else { continue };
                    if event.kind == EventKind::Put {
                        return Ok(response(&self.api, event.pair.clone(), revision));
                    }
                    self.leader = None;
                }
                Some(WatchMessage::Progress { .. }) => {}
                Some(WatchMessage::Compacted { .. }) => self.leader = None,
                ended => return Err(of_ended(ended.as_ref())),
            }
        }
    }

    async fn wait_for_a_candidate(&self, from_revision: u64) -> Result<(), Status> {
        let range = prefix(&[&self.name[..], b"/"].concat());
        let mut watch = watch_from(&self.api, range, from_revision)?;
        match watch.next().await {
            Some(WatchMessage::Cancelled { .. }) | None => Err(of_ended(None)),
            // Whatever happened, the one who asks looks again.
            Some(_) => Ok(()),
        }
    }
}

fn response(api: &Shared, leader: KeyValue, revision: u64) -> LeaderResponse {
    LeaderResponse { header: Some(api.header_at(revision)), kv: Some(pair(leader)) }
}

fn no_title() -> Status {
    Status::unknown("\"leader\" field must be provided")
}

fn not_leader() -> Status {
    Status::unknown("election: not leader")
}
