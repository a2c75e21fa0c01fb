//! The same cases against Mainstay and against a real etcd, compared answer by answer.
//!
//! `ETCD` names the etcd to compare with, or it is the one on the path; without one the cases hold
//! Mainstay to the answers that stand in them. Three nodes of Mainstay are asked in turns, the
//! leader or not; etcd is one node, because all of its nodes answer the same.
//!
//! A difference fails the test unless `differences` lists it, and so does a listed one that is no
//! more. What the cases look like is told in `script`.

mod calls;
mod commands;
mod comparison;
mod differences;
mod http_calls;
mod import;
mod messages;
mod patroni;
mod random;
mod script;
mod side;
mod snapshots;
mod stage;

use comparison::Comparison;

macro_rules! files {
    ($($name:ident = $file:literal;)*) => {$(
        #[tokio::test]
        async fn $name() {
            Comparison::start().await.hold(include_str!(concat!("cases/", $file, ".txt"))).await;
        }
    )*};
}

files! {
    keys_are_put_and_deleted_as_in_etcd = "keys";
    ranges_are_read_as_in_etcd = "ranges";
    transactions_decide_as_in_etcd = "transactions";
    old_revisions_go_as_in_etcd = "compaction";
    leases_live_as_in_etcd = "leases";
    watches_tell_what_etcds_tell = "watches";
    locks_and_elections_wait_as_in_etcd = "queues";
    members_and_maintenance_answer_as_in_etcd = "members";
    the_json_gateway_answers_as_etcds = "gateway";
}

#[tokio::test]
async fn etcdctl_says_what_it_says_of_etcd() {
    match commands::etcdctl() {
        Ok(_program) => Comparison::start().await.hold(include_str!("cases/etcdctl.txt")).await,
        Err(why) => comparison::say(&format!("skipped: etcdctl ({why})")),
    }
}

#[tokio::test]
async fn what_patroni_does_over_json_works_as_on_etcd() {
    match patroni::python() {
        Ok(python) => patroni::hold(&Comparison::start().await, &python).await,
        Err(why) => comparison::say(&format!("skipped: Patroni's calls ({why})")),
    }
}

#[tokio::test]
async fn random_histories_are_the_same_as_in_etcd() {
    let comparison = Comparison::start().await;
    for seed in 1..=4 {
        random::hold(&comparison, seed).await;
    }
}

#[test]
fn the_listed_differences_are_in_the_document() {
    differences::stand_in_the_document();
}
