//! What went wrong, in the codes and words that etcd's clients look for.
//!
//! The text is the contract: clients know errors by it, and by the code only when they do not.
//! What etcd has no word for gets the code whose retries are right, and a text of ours.

use axum::body::Body;
use http::Response;
use mainstay_consensus::{NotTaken, ReadOnlyReason};
use mainstay_kv::{QueryError, Refusal};
use mainstay_service::DoorError;
use tonic::{Code, Status};

macro_rules! errors {
    ($($(#[$comment:meta])* $name:ident = $code:ident $text:literal;)*) => {
        $($(#[$comment])* pub(crate) fn $name() -> Status {
            Status::new(Code::$code, concat!("etcdserver: ", $text))
        })*
    };
}

errors! {
    /// A key of no bytes.
    key_empty = InvalidArgument "key is not provided";
    /// Keeping the value or lease of a key that does not exist, and an operation of no kind.
    key_not_found = InvalidArgument "key not found";
    /// Keeping the value, and a value.
    value_provided = InvalidArgument "value is provided";
    /// Keeping the lease, and a lease.
    lease_provided = InvalidArgument "lease is provided";
    /// A transaction of too many operations.
    too_many_operations = InvalidArgument "too many operations in txn request";
    /// A transaction that changes a key twice.
    duplicate_key = InvalidArgument "duplicate key given in txn request";
    /// A sort order that there is not.
    invalid_sort_option = InvalidArgument "invalid sort option";
    /// A request over the limit.
    request_too_large = InvalidArgument "request is too large";
    /// A revision that was compacted.
    compacted = OutOfRange "mvcc: required revision has been compacted";
    /// A revision that does not exist yet.
    future_revision = OutOfRange "mvcc: required revision is a future revision";
    /// A lease that would live too long.
    ttl_too_large = OutOfRange "too large lease TTL";
    /// A lease that does not exist.
    lease_not_found = NotFound "requested lease not found";
    /// A lease id that is taken.
    lease_exists = FailedPrecondition "lease already exists";
    /// The store is at its quota.
    no_space = ResourceExhausted "mvcc: database space exceeded";
    /// Too much is going on.
    too_many_requests = ResourceExhausted "too many requests";
    /// Enough snapshots are being sent.
    too_many_snapshots = ResourceExhausted
        "this node is sending as many snapshots as it may; ask another one, or later";
    /// Nobody leads.
    no_leader = Unavailable "no leader";
    /// The node is stopping.
    server_stopped = Unavailable "server stopped";
    /// No answer in time; a write may or may not have taken effect.
    timed_out = Unavailable "request timed out";
    /// The node or the cluster cannot do it for now.
    unhealthy = Unavailable "unhealthy cluster";
    /// The caller may not.
    permission_denied = PermissionDenied "permission denied";
    /// There is no such member.
    member_not_found = NotFound "member not found";
    /// Another node leads.
    not_leader = FailedPrecondition "not leader";
    /// The member cannot lead.
    bad_transferee = FailedPrecondition "bad leader transferee";
    /// Authentication is off.
    auth_not_enabled = FailedPrecondition "authentication is not enabled";
    /// There is no root user.
    root_user_missing = FailedPrecondition "root user does not exist";
    /// There is no such user.
    user_not_found = FailedPrecondition "user name not found";
    /// There is no such role.
    role_not_found = FailedPrecondition "role name not found";
    /// A user without a name.
    user_empty = InvalidArgument "user name is empty";
    /// A role without a name.
    role_empty = InvalidArgument "role name is empty";
    /// A permission that is none.
    permission_not_given = InvalidArgument "permission not given";
    /// The id is a member's.
    member_exists = FailedPrecondition "member ID already exist";
    /// The peer address is a member's.
    peer_urls_exist = FailedPrecondition "Peer URLs already exists";
    /// Addresses that are none.
    member_urls_invalid = InvalidArgument "given member URLs are invalid";
    /// The change would cost the quorum.
    not_enough_started = FailedPrecondition
        "re-configuration failed due to not enough started members";
    /// Only a learner can be promoted.
    not_a_learner = FailedPrecondition "can only promote a learner member";
    /// The learner lags.
    learner_not_ready = FailedPrecondition
        "can only promote a learner member which is in sync with leader";
    /// There is nothing to end.
    no_downgrade = FailedPrecondition "no inflight downgrade job";
    /// A version that is none.
    downgrade_version_format = InvalidArgument "wrong downgrade target version format";
    /// A version that cannot be gone back to.
    downgrade_version_invalid = InvalidArgument "invalid downgrade target version";
}

/// An operation of the door without the wanted outcome.
pub(crate) fn of_door(error: DoorError) -> Status {
    match error {
        DoorError::Denied(_) => permission_denied(),
        DoorError::Refused(refusal) | DoorError::RefusedBefore(refusal) => of_refusal(&refusal),
        DoorError::Query(error) => of_query(error),
        DoorError::Overloaded { .. } => too_many_requests(),
        DoorError::AnswerTooLarge { .. } => answer_too_large(&error),
        DoorError::NotTaken(not_taken) => of_not_taken(&not_taken),
        DoorError::Held(_) => unhealthy(),
        DoorError::OutcomeUnknown { .. } | DoorError::ReadTimeout => timed_out(),
    }
}

fn of_refusal(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::KeyEmpty => key_empty(),
        Refusal::KeyTooLarge { .. } | Refusal::ValueTooLarge { .. } => request_too_large(),
        Refusal::KeyNotFound => key_not_found(),
        Refusal::TooManyOperations { .. } | Refusal::TooDeep { .. } => too_many_operations(),
        Refusal::DuplicateKey => duplicate_key(),
        Refusal::Query(error) => of_query(*error),
        Refusal::LeaseNotFound { .. } => lease_not_found(),
        Refusal::LeaseExists { .. } => lease_exists(),
        Refusal::LeaseTtlTooLarge { .. } => ttl_too_large(),
        Refusal::SpaceExceeded { .. } => no_space(),
        Refusal::TooManyLeases { .. } => too_many_requests(),
        Refusal::AnswerTooLarge { .. } => answer_too_large(refusal),
        other => Status::failed_precondition(format!("etcdserver: {other}")),
    }
}

const fn of_query_code(error: QueryError) -> bool {
    matches!(error, QueryError::Compacted { .. })
}

pub(crate) fn of_query(error: QueryError) -> Status {
    if of_query_code(error) { compacted() } else { future_revision() }
}

fn of_not_taken(not_taken: &NotTaken) -> Status {
    match not_taken {
        NotTaken::NoLeader => no_leader(),
        NotTaken::Overloaded { .. } => too_many_requests(),
        NotTaken::TooLarge { .. } => request_too_large(),
        NotTaken::ReadOnly { reason } => of_read_only(*reason),
        NotTaken::NotReady => unhealthy(),
        NotTaken::ShuttingDown => server_stopped(),
    }
}

/// A write to a node or cluster that takes none. What passes by itself is `Unavailable`, and
/// clients try again or elsewhere; what somebody has to end is not, so that they say so instead.
fn of_read_only(reason: ReadOnlyReason) -> Status {
    match reason {
        ReadOnlyReason::NoQuorum => no_leader(),
        // Of a disk that is full clients know what they know of a store that is.
        ReadOnlyReason::Quota | ReadOnlyReason::DiskReserve => no_space(),
        // An etcd whose disk fails is gone; its clients go elsewhere.
        ReadOnlyReason::StorageFailed => server_stopped(),
        ReadOnlyReason::Operator => of_refusal(&Refusal::ReadOnly),
        ReadOnlyReason::Import => of_refusal(&Refusal::Importing),
        ReadOnlyReason::DisasterRecovery => unhealthy(),
    }
}

fn answer_too_large(error: &dyn std::fmt::Display) -> Status {
    Status::resource_exhausted(format!("etcdserver: {error}"))
}

/// What came in and could not be read, in the words of etcd's gRPC library.
pub(crate) fn of_message(status: Status) -> Status {
    if status.code() == Code::OutOfRange && status.message().contains("message length too large") {
        return Status::resource_exhausted("grpc: received message larger than max");
    }
    status
}

/// A refusal as a whole answer.
pub(crate) fn response(status: &Status) -> Response<Body> {
    status.clone().into_http::<Body>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_service::GateClosed;

    #[test]
    fn every_reason_to_take_no_writes_has_the_code_whose_retries_are_right() {
        let told = |error: DoorError| {
            let status = of_door(error);
            (status.code(), status.message().to_owned())
        };
        let operator = format!("etcdserver: {}", Refusal::ReadOnly);
        for (reason, code, text) in [
            (ReadOnlyReason::NoQuorum, Code::Unavailable, "etcdserver: no leader"),
            (
                ReadOnlyReason::Quota,
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            (
                ReadOnlyReason::DiskReserve,
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            (ReadOnlyReason::StorageFailed, Code::Unavailable, "etcdserver: server stopped"),
            (ReadOnlyReason::Operator, Code::FailedPrecondition, &operator),
            (ReadOnlyReason::DisasterRecovery, Code::Unavailable, "etcdserver: unhealthy cluster"),
        ] {
            let error = DoorError::NotTaken(NotTaken::ReadOnly { reason });
            assert_eq!(told(error), (code, text.to_owned()), "{reason:?}");
        }
        // The same reasons, found out in another place.
        let full = Refusal::SpaceExceeded { bytes: 2, quota_bytes: 1 };
        assert_eq!(told(DoorError::Refused(full)).0, Code::ResourceExhausted);
        assert_eq!(told(Refusal::ReadOnly.into()), (Code::FailedPrecondition, operator));
        let held = GateClosed { why: "the permit has run out" };
        assert_eq!(told(held.into()).0, Code::Unavailable);
    }

    #[test]
    fn what_passes_by_itself_is_unavailable_and_nothing_is_unknown() {
        for not_taken in [NotTaken::NoLeader, NotTaken::NotReady, NotTaken::ShuttingDown] {
            assert_eq!(of_not_taken(&not_taken).code(), Code::Unavailable, "{not_taken:?}");
        }
        for error in [DoorError::ReadTimeout, DoorError::OutcomeUnknown { why: "so" }] {
            let status = of_door(error);
            assert_eq!(status.code(), Code::Unavailable);
            assert_eq!(status.message(), "etcdserver: request timed out");
        }
    }
}
