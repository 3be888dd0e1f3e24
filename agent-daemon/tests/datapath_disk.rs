//! The audit log on a disk that fills up and gets room again.

use std::{fs, time::Duration};

use ersatz_daemon::sink::{Share, Sink, Target};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;
use tokio::time::timeout;

/// A file system of 16 KiB, gone with the test.
struct Small(TempDir);

impl Small {
    fn mount() -> Small {
        let dir = TempDir::new().expect("a directory");
        let none = None::<&str>;
        let size = Some("size=16k");
        mount(none, dir.path(), Some("tmpfs"), MsFlags::empty(), size)
            .expect("this needs root: sudo cargo xtask test datapath");
        Small(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // The directory is removed afterwards, and says so when it cannot be.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn goes_on_where_it_stopped_once_there_is_room() {
    let small = Small::mount();
    let (log, ballast) = (small.0.path().join("log"), small.0.path().join("ballast"));
    fs::write(&ballast, vec![0; 8 << 10]).expect("room for ballast");
    let sink = Sink::open("disk-test", Target::File(log.clone()), |lost| {
        format!("lost {lost}\n")
    })
    .expect("a sink");
    let expected: String = (0..100).map(|i| format!("{i:0>99}\n")).collect();
    for line in expected.split_inclusive('\n') {
        assert!(sink.append(line.as_bytes(), &Share::default()));
    }
    let stuck = timeout(Duration::from_millis(50), sink.flush()).await;
    assert!(stuck.is_err(), "10 KB found room in 8 KiB");
    fs::remove_file(&ballast).expect("the ballast was there");
    timeout(Duration::from_secs(10), sink.flush())
        .await
        .expect("there is room");
    assert_eq!(fs::read_to_string(&log).expect("the log"), expected);
    assert_eq!(sink.lost(), 0);
}
