use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use rstest::rstest;
use tempfile::TempDir;

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

fn mark(lost: u64) -> String {
    format!("lost {lost}\n")
}

fn open(path: &Path) -> Sink {
    Sink::open("sink-test", Target::File(path.to_owned()), mark).unwrap()
}

async fn flushed(sink: &Sink) {
    tokio::time::timeout(LIMIT, sink.flush()).await.unwrap();
}

/// A pipe with a path, whose reader reads nothing until it is asked to.
fn pipe(dir: &TempDir) -> (std::path::PathBuf, File) {
    let path = dir.path().join("pipe");
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&path, mode).unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let reader = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
    let blocking = rustix::fs::OFlags::empty();
    rustix::fs::fcntl_setfl(&reader, blocking).unwrap();
    (path, reader.into())
}

#[tokio::test]
async fn writes_lines_in_order_to_a_file_of_its_own() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    let sink = open(&path);
    let expected: String = (0..1000).map(|i| format!("line {i}\n")).collect();
    for line in expected.split_inclusive('\n') {
        assert!(sink.append(line.as_bytes(), &Share::default()));
    }
    flushed(&sink).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(sink.lost(), 0);
}

#[tokio::test]
async fn writes_the_rest_when_the_last_handle_goes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    let sink = open(&path);
    sink.append(b"last words\n", &Share::default());
    drop(sink);
    assert_eq!(fs::read_to_string(&path).unwrap(), "last words\n");
}

#[tokio::test]
async fn blocked_reader_costs_lines_but_no_time() {
    let dir = TempDir::new().unwrap();
    let (path, mut reader) = pipe(&dir);
    let sink = open(&path);
    let line = [b"x".repeat(1023), vec![b'\n']].concat();
    let lines = 3 * BUFFER_BYTES / line.len();
    // Shares of their own, so that the whole buffer is what limits.
    let taken = (0..lines)
        .filter(|_| sink.append(&line, &Share::default()))
        .count();
    assert!(taken < lines);
    assert_eq!(usize::try_from(sink.lost()).unwrap(), lines - taken);

    let whole = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    flushed(&sink).await;
    // The next line comes with the mark of what was lost before it.
    sink.append(b"after\n", &Share::default());
    flushed(&sink).await;
    drop(sink);
    let text = whole.join().unwrap();
    let (marks, whole): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("lost "));
    assert_eq!(whole.len(), taken + 1);
    assert!(
        whole
            .iter()
            .all(|line| line.len() == 1023 || *line == "after")
    );
    let marked: usize = marks
        .iter()
        .map(|mark| mark.trim_start_matches("lost ").parse::<usize>().unwrap())
        .sum();
    assert_eq!(marked, lines - taken);
}

#[tokio::test]
async fn flood_of_one_leaves_room_for_others() {
    let dir = TempDir::new().unwrap();
    let (path, _reader) = pipe(&dir);
    let sink = open(&path);
    let (flood, neighbour) = (Share::default(), Share::default());
    let line = [b"x".repeat(1023), vec![b'\n']].concat();
    // The writer may take batches until the pipe is full: go on until one stays.
    while (0..2 * SHARE_BYTES / line.len()).all(|_| sink.append(&line, &flood)) {}
    assert!(!sink.append(&line, &flood));
    assert!(sink.append(&line, &neighbour));
}

#[tokio::test]
async fn follows_a_rotated_file() {
    let dir = TempDir::new().unwrap();
    let (path, rotated) = (dir.path().join("log"), dir.path().join("log.1"));
    let sink = open(&path);
    sink.append(b"old\n", &Share::default());
    flushed(&sink).await;
    fs::rename(&path, &rotated).unwrap();
    sink.reopen();
    sink.append(b"new\n", &Share::default());
    flushed(&sink).await;
    assert_eq!(fs::read_to_string(&rotated).unwrap(), "old\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
}

#[tokio::test]
async fn notices_a_renamed_file_without_being_told() {
    let dir = TempDir::new().unwrap();
    let (path, rotated) = (dir.path().join("log"), dir.path().join("log.1"));
    let sink = open(&path);
    sink.append(b"old\n", &Share::default());
    flushed(&sink).await;
    fs::rename(&path, &rotated).unwrap();
    let deadline = std::time::Instant::now() + LIMIT;
    while !path.exists() {
        assert!(std::time::Instant::now() < deadline);
        sink.append(b"more\n", &Share::default());
        flushed(&sink).await;
    }
    assert!(fs::read_to_string(&rotated).unwrap().starts_with("old\n"));
    assert!(fs::read_to_string(&path).unwrap().starts_with("more\n"));
}

#[tokio::test]
async fn is_not_diverted_by_a_link_put_in_the_place_of_its_file() {
    let dir = TempDir::new().unwrap();
    let (path, victim) = (dir.path().join("log"), dir.path().join("victim"));
    fs::write(&victim, "").unwrap();
    let sink = open(&path);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    sink.reopen();
    sink.append(b"secret\n", &Share::default());
    flushed(&sink).await;
    assert_eq!(fs::read_to_string(&victim).unwrap(), "");
}

#[rstest]
#[case::symbolic_link(|victim: &Path, path: &Path| std::os::unix::fs::symlink(victim, path).unwrap())]
#[case::second_name(|victim: &Path, path: &Path| fs::hard_link(victim, path).unwrap())]
#[case::directory(|_: &Path, path: &Path| fs::create_dir(path).unwrap())]
#[case::pipe_without_reader(|_: &Path, path: &Path| {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
})]
fn refuses(#[case] put: fn(&Path, &Path)) {
    let dir = TempDir::new().unwrap();
    let (path, victim) = (dir.path().join("log"), dir.path().join("victim"));
    fs::write(&victim, "").unwrap();
    put(&victim, &path);
    let refused = Sink::open("sink-test", Target::File(path), mark);
    assert!(refused.is_err());
}

#[test]
fn missing_directory_is_an_error_that_names_the_file() {
    let path = Path::new("/nonexistent/log");
    let Err(error) = Sink::open("sink-test", Target::File(path.to_owned()), mark) else {
        panic!("opened a file in a directory that is not there");
    };
    assert_eq!(error.to_string(), "cannot open /nonexistent/log");
}

#[test]
fn counts_what_is_left_at_the_end_as_lost() {
    let sink = open(Path::new("/dev/full"));
    let shared = sink.handle.shared.clone();
    for i in 0..1000 {
        sink.append(format!("{i:0>99}\n").as_bytes(), &Share::default());
    }
    drop(sink);
    assert_eq!(shared.lost.load(Ordering::Relaxed), 1000);
}
