//! Monitoring: what a node measures is explained to those who look at it.

use std::fs;

use mainstay_tests::Cluster;

use crate::PROGRAM;

#[tokio::test]
async fn every_metric_is_documented_with_what_is_normal() {
    let cluster = Cluster::one(PROGRAM).await;
    let page = cluster[0].client().request("GET", "/metrics").answer().await;
    let page = page.expect_status(200).text();
    let families: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(families.len() > 40, "{families:?}");
    let documented = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let documented = fs::read_to_string(documented).expect("it is there");
    let rows: Vec<_> = documented.lines().filter(|line| line.starts_with("| `")).collect();
    for family in families {
        let names =
            [format!("`{family}`"), format!("`{family}_total`"), format!("`{family}_info`")];
        let row = rows.iter().find(|row| names.iter().any(|name| row.contains(name)));
        assert!(row.is_some(), "{family} is not in docs/operations.md");
    }
}
