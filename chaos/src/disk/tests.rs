//! The disk as a process sees it, through kills and losses of power.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use mainstay_world::Disk;

use super::SimulatedDisk;
use crate::trace::Trace;

fn disk() -> SimulatedDisk {
    SimulatedDisk::new(1, 1, Trace::default())
}

async fn write_synced(lane: &Arc<dyn Disk>, name: &str, text: &'static [u8]) {
    let file = lane.create(name).await.expect("creates");
    lane.write_at(file, 0, Bytes::from_static(text)).await.expect("writes");
    lane.sync_data(file).await.expect("syncs");
    lane.sync_directory().await.expect("syncs the folder");
}

async fn read(lane: &Arc<dyn Disk>, name: &str) -> io::Result<Bytes> {
    let file = lane.open(name).await?;
    lane.read_at(file, 0, 1000).await
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_leaves_its_page_cache_behind() {
    let disk = disk();
    let lane = disk.lane();
    let file = lane.create("a").await.expect("creates");
    lane.write_at(file, 0, Bytes::from_static(b"cached")).await.expect("writes");
    disk.kill();
    assert!(lane.list().await.is_err(), "the dead process still reaches the disk");
    assert_eq!(read(&disk.lane(), "a").await.expect("reads"), &b"cached"[..]);
}

#[tokio::test(start_paused = true)]
async fn what_was_synced_survives_the_loss_of_power() {
    let disk = disk();
    write_synced(&disk.lane(), "a", b"durable").await;
    disk.lose_power();
    assert_eq!(read(&disk.lane(), "a").await.expect("reads"), &b"durable"[..]);
}

#[tokio::test(start_paused = true)]
async fn a_name_without_a_sync_of_the_folder_may_be_lost_with_its_synced_content() {
    let mut lost = false;
    for seed in 0..50 {
        let disk = SimulatedDisk::new(seed, 1, Trace::default());
        let lane = disk.lane();
        let file = lane.create("a").await.expect("creates");
        lane.sync_data(file).await.expect("syncs");
        disk.lose_power();
        lost |= disk.lane().list().await.expect("lists").is_empty();
    }
    assert!(lost);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_sync_ends_when_the_stall_does_and_nothing_overtakes_it() {
    let disk = disk();
    let lane = disk.lane();
    let file = lane.create("a").await.expect("creates");
    disk.set(|hardship| hardship.stalled = true);
    let sync = lane.sync_data(file);
    let list = lane.list();
    let early = tokio::time::timeout(Duration::from_secs(5), list).await;
    assert!(early.is_err(), "a call overtook a stalled sync");
    disk.set(|hardship| hardship.stalled = false);
    sync.await.expect("syncs");
}

#[tokio::test(start_paused = true)]
async fn a_write_after_the_sync_began_is_not_covered_by_it() {
    let mut lost = false;
    for seed in 0..50 {
        let disk = SimulatedDisk::new(seed, 1, Trace::default());
        let (lane, other) = (disk.lane(), disk.lane());
        write_synced(&lane, "a", b"one").await;
        let file = lane.open("a").await.expect("opens");
        disk.set(|hardship| hardship.stalled = true);
        let sync = lane.sync_data(file);
        tokio::time::sleep(Duration::from_millis(10)).await;
        let file = other.open("a").await.expect("opens");
        other.write_at(file, 0, Bytes::from_static(b"two")).await.expect("writes");
        disk.set(|hardship| hardship.stalled = false);
        sync.await.expect("syncs");
        disk.lose_power();
        lost |= read(&disk.lane(), "a").await.expect("reads") == b"one"[..];
    }
    assert!(lost);
}

#[tokio::test(start_paused = true)]
async fn errors_are_those_of_the_operating_system() {
    let disk = disk();
    let lane = disk.lane();
    let file = lane.create("a").await.expect("creates");
    disk.set(|hardship| hardship.failing_syncs = 1);
    let failed = lane.sync_data(file).await.expect_err("the sync fails");
    assert_eq!(failed.raw_os_error(), Some(5));
    disk.set(|hardship| hardship.failing_writes = 1);
    let failed = lane.write_at(file, 0, Bytes::from_static(b"x")).await.expect_err("fails");
    assert_eq!(failed.raw_os_error(), Some(5));
    disk.set(|hardship| hardship.failing_reads = 1);
    assert_eq!(lane.read_at(file, 0, 1).await.expect_err("fails").raw_os_error(), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_what_grows_it_and_takes_it_when_there_is_room() {
    let disk = disk();
    let lane = disk.lane();
    write_synced(&lane, "a", b"1234").await;
    disk.set(|hardship| hardship.capacity_bytes = 6);
    let file = lane.open("a").await.expect("opens");
    lane.write_at(file, 0, Bytes::from_static(b"abcd")).await.expect("needs no room");
    let full = lane.allocate(file, 8).await.expect_err("there is no room");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(lane.free_bytes().await.expect("tells"), 2);
    lane.remove("a").await.expect("removes");
    assert_eq!(lane.free_bytes().await.expect("tells"), 6);
}

#[tokio::test(start_paused = true)]
async fn a_lost_disk_is_empty_and_rot_stays() {
    let disk = disk();
    write_synced(&disk.lane(), "a", b"sound").await;
    let rot = disk.rot().expect("there is something to rot");
    assert_eq!(rot.file, "a");
    assert_ne!(read(&disk.lane(), "a").await.expect("reads"), &b"sound"[..]);
    disk.lose_everything();
    assert!(disk.lane().list().await.expect("lists").is_empty());
    assert!(disk.rot().is_none());
}
