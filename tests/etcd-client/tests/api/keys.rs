//! Keys: written, read and deleted with every option that the client has, and compacted.

use etcd_client::{
    Client, CompactionOptions, DeleteOptions, GetOptions, GetResponse, LeaseGrantOptions,
    PutOptions, SortOrder, SortTarget,
};
use tonic::Code;

use crate::{client, cluster, pair, refusal};

/// The revision of an answer.
macro_rules! revision {
    ($answer:expr) => {
        $answer.header().expect("has a header").revision()
    };
}

fn pairs(answer: &GetResponse) -> Vec<(&str, &str)> {
    answer.kvs().iter().map(pair).collect()
}

async fn get(client: &mut Client, key: &str, options: GetOptions) -> GetResponse {
    client.get(key, Some(options)).await.expect("is read")
}

#[tokio::test]
async fn a_put_changes_what_its_options_say_and_nothing_else() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    let before = revision!(client.put("a", "1", None).await.expect("is written"));
    let options = PutOptions::new().with_prev_key();
    let put = client.put("a", "2", Some(options)).await.expect("is written");
    assert_eq!(put.prev_key().map(pair), Some(("a", "1")));
    assert_eq!(revision!(put), before + 1);

    let options = LeaseGrantOptions::new().with_id(77);
    client.lease_grant(60, Some(options)).await.expect("is granted");
    let options = PutOptions::new().with_ignore_value().with_lease(77);
    client.put("a", "", Some(options)).await.expect("is written");
    let options = PutOptions::new().with_ignore_lease();
    client.put("b", "1", Some(PutOptions::new().with_lease(77))).await.expect("is written");
    client.put("b", "2", Some(options)).await.expect("is written");
    for key in ["a", "b"] {
        let read = client.get(key, None).await.expect("is read");
        assert_eq!(pairs(&read), [(key, "2")]);
        assert_eq!(read.kvs()[0].lease(), 77);
    }
    client.put("b", "3", None).await.expect("is written");
    let read = client.get("b", None).await.expect("is read");
    assert_eq!((read.kvs()[0].lease(), read.kvs()[0].version()), (0, 3));

    let keep = PutOptions::new().with_ignore_value();
    let refused = [
        refusal(client.put("", "1", None).await),
        refusal(client.put("a", "a value", Some(keep.clone())).await),
        refusal(client.put("never/written", "", Some(keep)).await),
    ];
    let texts = ["key is not provided", "value is provided", "key not found"];
    assert_eq!(refused, texts.map(|text| (Code::InvalidArgument, format!("etcdserver: {text}"))));
    let refused = refusal(client.put("a", "1", Some(PutOptions::new().with_lease(78))).await);
    assert_eq!(refused, (Code::NotFound, "etcdserver: requested lease not found".to_owned()));
}

#[tokio::test]
async fn a_range_has_what_its_options_ask_for() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    let mut revisions = Vec::new();
    for (key, value) in [("k/1", "e"), ("k/2", "d"), ("k/3", "c"), ("k/4", "b"), ("l", "a")] {
        revisions.push(revision!(client.put(key, value, None).await.expect("is written")));
    }
    client.put("k/1", "f", None).await.expect("is written");
    let prefix = || GetOptions::new().with_prefix();

    let all = get(&mut client, "k/", prefix()).await;
    assert_eq!(pairs(&all), [("k/1", "f"), ("k/2", "d"), ("k/3", "c"), ("k/4", "b")]);
    assert_eq!((all.count(), all.more()), (4, false));
    let few = get(&mut client, "k/", prefix().with_limit(2)).await;
    assert_eq!((few.count(), few.more(), few.kvs().len()), (4, true, 2));
    let part = get(&mut client, "k/2", GetOptions::new().with_range("k/4")).await;
    assert_eq!(pairs(&part), [("k/2", "d"), ("k/3", "c")]);
    let rest = get(&mut client, "k/4", GetOptions::new().with_from_key().with_limit(2)).await;
    assert_eq!(pairs(&rest), [("k/4", "b"), ("l", "a")]);
    let every = get(&mut client, "", GetOptions::new().with_all_keys().with_count_only()).await;
    assert!(every.count() >= 5 && every.kvs().is_empty(), "{every:?}");

    let options = prefix().with_sort(SortTarget::Value, SortOrder::Ascend).with_limit(2);
    assert_eq!(pairs(&get(&mut client, "k/", options).await), [("k/4", "b"), ("k/3", "c")]);
    let options = prefix().with_sort(SortTarget::Key, SortOrder::Descend).with_keys_only();
    let keys = get(&mut client, "k/", options).await;
    assert_eq!(pairs(&keys), [("k/4", ""), ("k/3", ""), ("k/2", ""), ("k/1", "")]);
    let options = prefix().with_sort(SortTarget::Mod, SortOrder::Descend).with_limit(1);
    assert_eq!(pairs(&get(&mut client, "k/", options).await), [("k/1", "f")]);

    let old = get(&mut client, "k/", prefix().with_revision(revisions[1])).await;
    assert_eq!(pairs(&old), [("k/1", "e"), ("k/2", "d")]);
    let newer = prefix().with_min_mod_revision(revisions[2]);
    assert_eq!(get(&mut client, "k/", newer).await.kvs().len(), 3);
    let older = prefix().with_max_create_revision(revisions[1]).with_serializable();
    assert_eq!(get(&mut client, "k/", older).await.kvs().len(), 2);
    assert!(client.get("never/written", None).await.expect("is read").kvs().is_empty());
}

#[tokio::test]
async fn a_streamed_range_is_the_range_in_pieces() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    let value = "x".repeat(100_000);
    for number in 0..40 {
        let key = format!("big/{number:02}");
        client.put(key, value.as_str(), None).await.expect("is written");
    }
    let options = Some(GetOptions::new().with_prefix());
    let mut stream = client.kv_client().get_stream("big/", options).await.expect("is a stream");
    let (mut keys, mut pieces, mut count) = (Vec::new(), 0, 0);
    while let Some(piece) = stream.message().await.expect("goes on") {
        pieces += 1;
        count = piece.count();
        keys.extend(piece.kvs().iter().map(|pair| pair.key_str().expect("is text").to_owned()));
        assert!(piece.kvs().iter().all(|pair| pair.value() == value.as_bytes()));
    }
    let wanted: Vec<_> = (0..40).map(|number| format!("big/{number:02}")).collect();
    assert_eq!((keys, count), (wanted, 40));
    assert!(pieces > 1, "came at once");
}

#[tokio::test]
async fn a_delete_tells_what_was_there() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    for key in ["k/1", "k/2", "k/3", "l"] {
        client.put(key, "v", None).await.expect("is written");
    }
    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let deleted = client.delete("k/", Some(options)).await.expect("is deleted");
    let were: Vec<_> = deleted.prev_kvs().iter().map(pair).collect();
    assert_eq!(were, [("k/1", "v"), ("k/2", "v"), ("k/3", "v")]);
    assert_eq!(deleted.deleted(), 3);
    let again = client.delete("k/1", None).await.expect("is answered");
    assert_eq!((again.deleted(), revision!(again)), (0, revision!(deleted)));
    let options = DeleteOptions::new().with_from_key();
    assert_eq!(client.delete("l", Some(options)).await.expect("is deleted").deleted(), 1);
    assert!(client.get("l", None).await.expect("is read").kvs().is_empty());
}

#[tokio::test]
async fn what_was_compacted_is_refused_in_etcds_words() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    client.put("a", "1", None).await.expect("is written");
    let second = revision!(client.put("a", "2", None).await.expect("is written"));
    let last = revision!(client.put("a", "3", None).await.expect("is written"));
    client.compact(second, None).await.expect("is compacted");
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    let kept = client.get("a", at(second)).await.expect("is kept");
    assert_eq!(pairs(&kept), [("a", "2")]);
    let gone = "etcdserver: mvcc: required revision has been compacted";
    let future = "etcdserver: mvcc: required revision is a future revision";
    let physical = Some(CompactionOptions::new().with_physical());
    for (refused, text) in [
        (refusal(client.get("a", at(second - 1)).await), gone),
        (refusal(client.compact(second, physical).await), gone),
        (refusal(client.get("a", at(last + 1)).await), future),
        (refusal(client.compact(last + 1, None).await), future),
    ] {
        assert_eq!(refused, (Code::OutOfRange, text.to_owned()));
    }
}
