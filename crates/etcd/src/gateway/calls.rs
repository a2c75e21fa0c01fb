//! Which path is which call.

use std::collections::BTreeMap;

use mainstay_etcd_protocol::DESCRIPTORS;
use prost_reflect::DescriptorPool;

use crate::gateway::json::MessageJson;

/// Every path with its service and method; some calls have two.
const PATHS: [(&str, &str, &str); 51] = [
    ("/v3/kv/range", "etcdserverpb.KV", "Range"),
    ("/v3/kv/put", "etcdserverpb.KV", "Put"),
    ("/v3/kv/deleterange", "etcdserverpb.KV", "DeleteRange"),
    ("/v3/kv/txn", "etcdserverpb.KV", "Txn"),
    ("/v3/kv/compaction", "etcdserverpb.KV", "Compact"),
    ("/v3/watch", "etcdserverpb.Watch", "Watch"),
    ("/v3/lease/grant", "etcdserverpb.Lease", "LeaseGrant"),
    ("/v3/lease/revoke", "etcdserverpb.Lease", "LeaseRevoke"),
    ("/v3/kv/lease/revoke", "etcdserverpb.Lease", "LeaseRevoke"),
    ("/v3/lease/keepalive", "etcdserverpb.Lease", "LeaseKeepAlive"),
    ("/v3/lease/timetolive", "etcdserverpb.Lease", "LeaseTimeToLive"),
    ("/v3/kv/lease/timetolive", "etcdserverpb.Lease", "LeaseTimeToLive"),
    ("/v3/lease/leases", "etcdserverpb.Lease", "LeaseLeases"),
    ("/v3/kv/lease/leases", "etcdserverpb.Lease", "LeaseLeases"),
    ("/v3/cluster/member/add", "etcdserverpb.Cluster", "MemberAdd"),
    ("/v3/cluster/member/remove", "etcdserverpb.Cluster", "MemberRemove"),
    ("/v3/cluster/member/update", "etcdserverpb.Cluster", "MemberUpdate"),
    ("/v3/cluster/member/list", "etcdserverpb.Cluster", "MemberList"),
    ("/v3/cluster/member/promote", "etcdserverpb.Cluster", "MemberPromote"),
    ("/v3/maintenance/alarm", "etcdserverpb.Maintenance", "Alarm"),
    ("/v3/maintenance/status", "etcdserverpb.Maintenance", "Status"),
    ("/v3/maintenance/defragment", "etcdserverpb.Maintenance", "Defragment"),
    ("/v3/maintenance/hash", "etcdserverpb.Maintenance", "Hash"),
    ("/v3/maintenance/hashkv", "etcdserverpb.Maintenance", "HashKV"),
    ("/v3/maintenance/snapshot", "etcdserverpb.Maintenance", "Snapshot"),
    ("/v3/maintenance/transfer-leadership", "etcdserverpb.Maintenance", "MoveLeader"),
    ("/v3/maintenance/downgrade", "etcdserverpb.Maintenance", "Downgrade"),
    ("/v3/auth/enable", "etcdserverpb.Auth", "AuthEnable"),
    ("/v3/auth/disable", "etcdserverpb.Auth", "AuthDisable"),
    ("/v3/auth/status", "etcdserverpb.Auth", "AuthStatus"),
    ("/v3/auth/authenticate", "etcdserverpb.Auth", "Authenticate"),
    ("/v3/auth/user/add", "etcdserverpb.Auth", "UserAdd"),
    ("/v3/auth/user/get", "etcdserverpb.Auth", "UserGet"),
    ("/v3/auth/user/list", "etcdserverpb.Auth", "UserList"),
    ("/v3/auth/user/delete", "etcdserverpb.Auth", "UserDelete"),
    ("/v3/auth/user/changepw", "etcdserverpb.Auth", "UserChangePassword"),
    ("/v3/auth/user/grant", "etcdserverpb.Auth", "UserGrantRole"),
    ("/v3/auth/user/revoke", "etcdserverpb.Auth", "UserRevokeRole"),
    ("/v3/auth/role/add", "etcdserverpb.Auth", "RoleAdd"),
    ("/v3/auth/role/get", "etcdserverpb.Auth", "RoleGet"),
    ("/v3/auth/role/list", "etcdserverpb.Auth", "RoleList"),
    ("/v3/auth/role/delete", "etcdserverpb.Auth", "RoleDelete"),
    ("/v3/auth/role/grant", "etcdserverpb.Auth", "RoleGrantPermission"),
    ("/v3/auth/role/revoke", "etcdserverpb.Auth", "RoleRevokePermission"),
    ("/v3/lock/lock", "v3lockpb.Lock", "Lock"),
    ("/v3/lock/unlock", "v3lockpb.Lock", "Unlock"),
    ("/v3/election/campaign", "v3electionpb.Election", "Campaign"),
    ("/v3/election/proclaim", "v3electionpb.Election", "Proclaim"),
    ("/v3/election/leader", "v3electionpb.Election", "Leader"),
    ("/v3/election/observe", "v3electionpb.Election", "Observe"),
    ("/v3/election/resign", "v3electionpb.Election", "Resign"),
];

/// What can be called, by path.
pub(crate) struct Calls(BTreeMap<&'static str, Call>);

/// One call.
#[derive(Clone)]
pub(crate) struct Call {
    /// Where gRPC has it.
    pub(crate) grpc_path: String,
    /// What is asked.
    pub(crate) input: MessageJson,
    /// What is answered.
    pub(crate) output: MessageJson,
    /// Whether a stream is asked.
    pub(crate) asks_many: bool,
    /// Whether a stream is answered.
    pub(crate) answers_many: bool,
}

impl Calls {
    pub(crate) fn new() -> Self {
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("the build made the descriptors");
        let call = |service: &str, method: &str| {
            let service = pool.get_service_by_name(service).expect("the service is in the files");
            let found = service.methods().find(|found| found.name() == method);
            let found = found.expect("the method is in the files");
            Call {
                grpc_path: format!("/{}/{method}", service.full_name()),
                input: MessageJson::new(found.input()),
                output: MessageJson::new(found.output()),
                asks_many: found.is_client_streaming(),
                answers_many: found.is_server_streaming(),
            }
        };
        Self(PATHS.iter().map(|(path, service, method)| (*path, call(service, method))).collect())
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Call> {
        self.0.get(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_method_of_etcd_but_a_range_in_pieces_has_a_path() {
        let calls = Calls::new();
        let reached: BTreeSet<&str> = calls.0.values().map(|call| &call.grpc_path[..]).collect();
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("decodes");
        for service in pool.services().filter(|service| service.name() != "Health") {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                // etcd serves it over gRPC alone.
                if method.name() == "RangeStream" {
                    continue;
                }
                assert!(reached.contains(&path[..]), "{path}");
            }
        }
    }
}
