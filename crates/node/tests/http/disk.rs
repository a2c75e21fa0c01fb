//! What clients see when the disk is full or fails.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mainstay_node::ExitReason;
use mainstay_world::{Disk, DiskCall, InterposedDisk, Interposer, Intervention};

use crate::harness::{Node, with_node_on};

/// What is wrong with the disk right now.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    full: AtomicBool,
    failing: AtomicBool,
}

/// Puts a trouble in front of a disk.
struct InFront(Arc<Trouble>);

impl Interposer for InFront {
    fn intervene(&self, call: DiskCall) -> Intervention {
        let failing = self.0.failing.load(Ordering::Relaxed);
        let full = self.0.full.load(Ordering::Relaxed);
        match call {
            DiskCall::Write | DiskCall::SyncData if failing => {
                Intervention::Fail(io::Error::other("the disk is broken"))
            }
            DiskCall::Write | DiskCall::FreeBytes if full => {
                Intervention::Fail(io::ErrorKind::StorageFull.into())
            }
            _ => Intervention::Pass,
        }
    }
}

fn troubled(trouble: &Arc<Trouble>) -> impl Fn(Arc<dyn Disk>) -> Arc<dyn Disk> {
    let trouble = Arc::clone(trouble);
    move |disk| Arc::new(InterposedDisk::new(disk, InFront(Arc::clone(&trouble))))
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_recovers_by_itself() {
    let trouble = Arc::new(Trouble::default());
    with_node_on(troubled(&trouble), async |node: Node| {
        node.put("/v1/kv/a", "1").await;
        trouble.full.store(true, Ordering::Relaxed);
        node.until("writes are refused", async |node| {
            let refused =
                node.send("PUT", "/v1/kv/a", &[("mainstay-timeout-ms", "300")], "2").await;
            refused.status == 503 && refused.json()["reason"] == "disk_reserve"
        })
        .await;
        let refused = node.put("/v1/kv/a", "3").await;
        assert_eq!(refused.code(), "read_only");
        assert_eq!(refused.json()["took_effect"], "no");
        assert!(refused.json()["detail"].as_str().is_some_and(|d| d.contains("the data is safe")));
        assert_eq!(node.get("/v1/kv/a?consistency=stale").await.status, 200);
        let health = node.get("/health").await;
        assert_eq!((health.status.as_u16(), &health.json()["status"]), (200, &"degraded".into()));
        assert_eq!(health.json()["health"], "false");

        trouble.full.store(false, Ordering::Relaxed);
        node.until("writes go on", async |node| node.put("/v1/kv/a", "4").await.status == 200)
            .await;
        assert_eq!(node.get("/v1/kv/a").await.body, "4");
        node
    });
}

#[test]
fn a_node_whose_disk_failed_serves_from_memory_and_asks_to_be_started_again() {
    let trouble = Arc::new(Trouble::default());
    let reason = with_node_on(troubled(&trouble), async |node: Node| {
        node.put("/v1/kv/a", "1").await;
        trouble.failing.store(true, Ordering::Relaxed);
        let unknown = node.send("PUT", "/v1/kv/a", &[("mainstay-timeout-ms", "500")], "2").await;
        assert!([503, 504].contains(&unknown.status.as_u16()), "{:?}", unknown.body);
        node.until("the failure is known", async |node| {
            let refused = node.put("/v1/kv/b", "1").await;
            refused.status == 503 && refused.json()["reason"] == "storage_failed"
        })
        .await;
        let stale = node.get("/v1/kv/a?consistency=stale").await;
        assert_eq!(stale.status, 200);
        assert_ne!(stale.header("mainstay-staleness-ms"), "");
        assert_eq!(node.get("/livez").await.status, 200);
        let ready = node.get("/readyz").await;
        assert_eq!(ready.status, 503);
        assert!(String::from_utf8_lossy(&ready.body).contains("[-]storage failed"), "{ready:?}");
        let health = node.get("/health").await.json();
        assert_eq!((&health["status"], &health["health"]), (&"degraded".into(), &"false".into()));
        node
    });
    assert!(matches!(reason, ExitReason::StorageFailed { .. }), "{reason:?}");
    assert_eq!(reason.exit_code(), 74);
}
