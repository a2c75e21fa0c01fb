//! Members, maintenance, health, and authentication that is off.

use mainstay_etcd_protocol::{
    etcdserverpb::{
        AlarmRequest, AuthEnableRequest, AuthStatusRequest, AuthUserAddRequest, AuthUserGetRequest,
        AuthUserListRequest, AuthenticateRequest, CompactionRequest, DefragmentRequest,
        DowngradeRequest, HashKvRequest, MemberAddRequest, MemberListRequest, MemberPromoteRequest,
        MemberRemoveRequest, MoveLeaderRequest, StatusRequest, downgrade_request::DowngradeAction,
    },
    health::{HealthCheckRequest, health_check_response::ServingStatus},
};
use tonic::Code;

use super::{Api, refused, says};
use crate::harness::with_node;

#[test]
fn a_member_shows_itself_and_the_cluster() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        api.put("a", "1").await;
        let status = api.maintenance.status(StatusRequest {}).await.expect("is shown").into_inner();
        let header = status.header.expect("has a header");
        assert_eq!(status.leader, header.member_id);
        let numbers: Vec<u32> =
            status.version.split('.').map(|number| number.parse().expect("is a number")).collect();
        assert!(numbers >= vec![3, 5, 13], "{}", status.version);
        assert!(status.raft_index >= status.raft_applied_index && status.raft_term > 0);
        assert!(status.db_size > 0 && status.db_size_quota > status.db_size);
        assert!(status.errors.is_empty() && !status.is_learner);

        let list = MemberListRequest { linearizable: true };
        let list = api.cluster.member_list(list).await.expect("are listed").into_inner();
        let [member] = &list.members[..] else { panic!("{list:?}") };
        assert_eq!((member.id, &member.name[..]), (header.member_id, "n1"));
        assert!(member.peer_ur_ls[0].starts_with("http://127.0.0.1:"));
        assert_eq!(member.client_ur_ls[0], format!("http://{}", node.address));
        node
    });
}

#[test]
fn changes_of_members_that_cannot_be_are_refused_in_etcds_words() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let add =
            |url: &str| MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner: true };
        let invalid = says(Code::InvalidArgument, "given member URLs are invalid");
        assert_eq!(refused(api.cluster.member_add(add("nonsense")).await), invalid);
        let missing = says(Code::NotFound, "member not found");
        let remove = MemberRemoveRequest { id: 1 };
        assert_eq!(refused(api.cluster.member_remove(remove).await), missing);
        let promote = |id| MemberPromoteRequest { id };
        assert_eq!(refused(api.cluster.member_promote(promote(1)).await), missing);
        let list = api.cluster.member_list(MemberListRequest::default()).await.expect("are listed");
        let id = list.into_inner().members[0].id;
        let voter = says(Code::FailedPrecondition, "can only promote a learner member");
        assert_eq!(refused(api.cluster.member_promote(promote(id)).await), voter);
        let last = "re-configuration failed due to not enough started members";
        let remove = MemberRemoveRequest { id };
        let last = says(Code::FailedPrecondition, last);
        assert_eq!(refused(api.cluster.member_remove(remove).await), last);
        node
    });
}

#[test]
fn the_hash_of_keys_goes_by_what_they_hold_and_not_by_when() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        for value in ["1", "2", "3"] {
            api.put("a", value).await;
            api.put("b", value).await;
        }
        let mut hash = async |revision| {
            let hash = api.maintenance.hash_kv(HashKvRequest { revision }).await;
            hash.map(|hash| hash.into_inner())
        };
        let now = hash(0).await.expect("is made");
        assert_eq!((now.hash_revision, now.compact_revision), (7, 0));
        let before = hash(6).await.expect("is made");
        assert_ne!(before.hash, now.hash);
        assert_eq!(hash(7).await.expect("is made").hash, now.hash);
        let future = "mvcc: required revision is a future revision";
        assert_eq!(refused(hash(8).await), says(Code::OutOfRange, future));
        let compact = CompactionRequest { revision: 5, physical: true };
        api.kv.compact(compact).await.expect("is compacted");
        let mut hash = async |revision| api.maintenance.hash_kv(HashKvRequest { revision }).await;
        let first = hash(7).await.expect("is made").into_inner();
        assert_eq!((first.compact_revision, first.hash_revision), (5, 7));
        assert_eq!(hash(7).await.expect("is made").into_inner().hash, first.hash);
        let compacted = "mvcc: required revision has been compacted";
        assert_eq!(refused(hash(4).await), says(Code::OutOfRange, compacted));
        node
    });
}

#[test]
fn maintenance_answers_what_it_can_and_refuses_the_rest_in_words() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let defragmented = api.maintenance.defragment(DefragmentRequest {}).await;
        assert!(defragmented.expect("is done").into_inner().header.is_none());
        let alarms = api.maintenance.alarm(AlarmRequest::default()).await.expect("are listed");
        assert!(alarms.into_inner().alarms.is_empty());
        let transferee = says(Code::FailedPrecondition, "bad leader transferee");
        let move_leader = MoveLeaderRequest { target_id: 1 };
        assert_eq!(refused(api.maintenance.move_leader(move_leader).await), transferee);
        let downgrade = |action: DowngradeAction, version: &str| DowngradeRequest {
            action: action.into(),
            version: version.to_owned(),
        };
        let none = says(Code::FailedPrecondition, "no inflight downgrade job");
        let cancel = downgrade(DowngradeAction::Cancel, "");
        assert_eq!(refused(api.maintenance.downgrade(cancel).await), none);
        let format = says(Code::InvalidArgument, "wrong downgrade target version format");
        let nonsense = downgrade(DowngradeAction::Validate, "old");
        assert_eq!(refused(api.maintenance.downgrade(nonsense).await), format);
        node
    });
}

#[test]
fn the_node_is_healthy_until_it_stops() {
    with_node(async |mut node| {
        let mut api = Api::of(&node);
        let whole = HealthCheckRequest::default();
        let health = api.health.check(whole.clone()).await.expect("is told").into_inner();
        assert_eq!(health.status(), ServingStatus::Serving);
        let other = HealthCheckRequest { service: "other".to_owned() };
        assert_eq!(refused(api.health.check(other).await).0, Code::NotFound);
        let mut told = api.health.watch(whole).await.expect("is a stream").into_inner();
        let mut next = async || told.message().await.expect("goes on").expect("has not ended");
        assert_eq!(next().await.status(), ServingStatus::Serving);
        node.begin_to_stop();
        assert_eq!(next().await.status(), ServingStatus::NotServing);
        node
    });
}

#[test]
fn authentication_is_off_and_says_so() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let status =
            api.auth.auth_status(AuthStatusRequest {}).await.expect("is told").into_inner();
        assert!(!status.enabled);
        let root = says(Code::FailedPrecondition, "root user does not exist");
        assert_eq!(refused(api.auth.auth_enable(AuthEnableRequest {}).await), root);
        let off = says(Code::FailedPrecondition, "authentication is not enabled");
        let authenticate = AuthenticateRequest::default();
        assert_eq!(refused(api.auth.authenticate(authenticate).await), off);
        let users = api.auth.user_list(AuthUserListRequest {}).await.expect("are listed");
        assert!(users.into_inner().users.is_empty());
        let missing = says(Code::FailedPrecondition, "user name not found");
        let user = AuthUserGetRequest { name: "ann".to_owned() };
        assert_eq!(refused(api.auth.user_get(user).await), missing);
        let user = AuthUserAddRequest { name: "ann".to_owned(), ..AuthUserAddRequest::default() };
        assert_eq!(refused(api.auth.user_add(user).await).0, Code::Unimplemented);
        node
    });
}
