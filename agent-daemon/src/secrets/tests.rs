use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use rstest::rstest;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::*;

/// Longest wait for anything that has to happen.
const DEADLINE: Duration = Duration::from_secs(5);

fn credential() -> CredentialName {
    CredentialName::parse("github").expect("a name")
}

fn file(path: &Path) -> Source {
    Source::File {
        path: path.to_owned(),
    }
}

fn exec(script: &str, limit: Duration, ttl: Duration) -> Source {
    Source::Exec {
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        timeout: limit,
        ttl,
    }
}

fn slow_exec(script: &str) -> Source {
    exec(script, DEADLINE, Duration::from_hours(1))
}

async fn load(source: Source) -> Arc<Secrets> {
    Secrets::load([(credential(), source)], EnvValues::default()).await
}

/// The value in force, as text.
fn value(secrets: &Secrets) -> Result<String, Unavailable> {
    let secret = secrets.secret(&credential())?;
    Ok(String::from_utf8(secret.octets().to_vec()).expect("visible ASCII"))
}

/// Watches `secrets` until the end of the test.
struct Watched(Arc<Secrets>, CancellationToken);

impl Watched {
    async fn load(source: Source) -> Self {
        let (secrets, shutdown) = (load(source).await, CancellationToken::new());
        tokio::spawn(Arc::clone(&secrets).watch(shutdown.clone()));
        Self(secrets, shutdown)
    }

    async fn becomes(&self, expected: &str) {
        self.until(|secrets| value(secrets).as_deref() == Ok(expected))
            .await;
    }

    async fn complains(&self, problem: Unavailable) {
        self.until(|secrets| secrets.conditions()[0].problem == Some(problem))
            .await;
    }

    async fn until(&self, holds: impl Fn(&Secrets) -> bool) {
        let waiting = async {
            while !holds(&self.0) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let held = timeout(DEADLINE, waiting).await;
        assert!(
            held.is_ok(),
            "now {:?}, {:?}",
            value(&self.0),
            self.0.conditions()
        );
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.cancel();
    }
}

/// A directory with a file `token` that has `content`.
fn directory(content: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    fs::write(&path, content).expect("a file");
    (directory, path)
}

fn rename_over(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).expect("a file");
    fs::rename(beside, path).expect("renamed");
}

#[tokio::test]
async fn takes_a_variable_as_it_was_at_the_start() {
    let env = [(
        "TOKEN".to_owned(),
        SecretText(Zeroizing::new("abc".to_owned())),
    )];
    let of = |name: &str| Source::Env {
        name: name.to_owned(),
    };
    let other = CredentialName::parse("other").expect("a name");
    let sources = [(credential(), of("TOKEN")), (other.clone(), of("ABSENT"))];
    let secrets = Secrets::load(sources, env.into_iter().collect()).await;
    assert_eq!(value(&secrets).as_deref(), Ok("abc"));
    assert_eq!(secrets.secret(&other).err(), Some(Unavailable::NotSet));
    let unknown = CredentialName::parse("unknown").expect("a name");
    assert_eq!(secrets.secret(&unknown).err(), Some(Unavailable::Unknown));
}

#[tokio::test]
async fn refuses_a_variable_with_a_line_end() {
    let env = [(
        "TOKEN".to_owned(),
        SecretText(Zeroizing::new("abc\n".to_owned())),
    )];
    let source = Source::Env {
        name: "TOKEN".to_owned(),
    };
    let secrets = Secrets::load([(credential(), source)], env.into_iter().collect()).await;
    assert_eq!(value(&secrets), Err(Invalid::Character.into()));
}

#[tokio::test]
async fn reads_a_file_again_when_it_is_replaced_or_written() {
    let (_directory, path) = directory("one\n");
    let watched = Watched::load(file(&path)).await;
    assert_eq!(value(&watched.0).as_deref(), Ok("one"));
    rename_over(&path, "two\n");
    watched.becomes("two").await;
    fs::write(&path, "three").expect("written in place");
    watched.becomes("three").await;
    fs::remove_file(&path).expect("removed");
    watched
        .complains(Unavailable::File(io::ErrorKind::NotFound))
        .await;
    assert_eq!(value(&watched.0).as_deref(), Ok("three"));
    fs::write(&path, "four").expect("written anew");
    watched.becomes("four").await;
}

/// A mounted Secret is a symlink to a symlink to a directory, and the middle one is swapped.
#[tokio::test]
async fn follows_the_symlink_that_kubernetes_swaps() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    for (name, content) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(at(name)).expect("a directory");
        fs::write(at(name).join("token"), content).expect("a file");
    }
    symlink("..1", at("..data")).expect("a link");
    symlink("..data/token", at("token")).expect("a link");
    let watched = Watched::load(file(&at("token"))).await;
    assert_eq!(value(&watched.0).as_deref(), Ok("one"));
    symlink("..2", at("..data_tmp")).expect("a link");
    fs::rename(at("..data_tmp"), at("..data")).expect("renamed");
    watched.becomes("two").await;
}

/// What the kernel does not tell of: the file is in a directory that is not watched.
#[tokio::test]
async fn sees_a_change_behind_a_symlink_within_a_second() {
    let (_elsewhere, target) = directory("one");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    symlink(&target, &path).expect("a link");
    let watched = Watched::load(file(&path)).await;
    fs::write(&target, "two").expect("written in place");
    watched.becomes("two").await;
}

#[rstest]
#[case::empty("", Invalid::Empty)]
#[case::truncated("\n", Invalid::Empty)]
#[case::two_lines("two\nx-evil: 1\n", Invalid::Character)]
#[tokio::test]
async fn keeps_the_last_good_value_when_a_file_breaks(#[case] broken: &str, #[case] why: Invalid) {
    let (_directory, path) = directory("good");
    let watched = Watched::load(file(&path)).await;
    fs::write(&path, broken).expect("written in place");
    watched.complains(why.into()).await;
    assert_eq!(value(&watched.0).as_deref(), Ok("good"));
    assert!(watched.0.conditions()[0].ready);
    fs::write(&path, "mended").expect("written in place");
    watched.becomes("mended").await;
    assert_eq!(watched.0.conditions()[0].problem, None);
}

#[tokio::test]
async fn never_takes_a_part_of_a_file_that_is_being_written() {
    let (_directory, path) = directory("0000000000");
    let watched = Watched::load(file(&path)).await;
    let writer = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut file = fs::File::create(&path).expect("truncated");
        for _ in 0..10 {
            file.write_all(b"1").expect("written");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    watched
        .until(|secrets| {
            let now = value(secrets).expect("a value");
            assert!(["0000000000", "1111111111"].contains(&&*now), "{now}");
            now == "1111111111"
        })
        .await;
    writer.await.expect("ended");
}

#[tokio::test]
async fn finds_a_file_that_comes_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    let watched = Watched::load(file(&path)).await;
    let absent = Unavailable::File(io::ErrorKind::NotFound);
    assert_eq!(value(&watched.0), Err(absent));
    assert!(!watched.0.conditions()[0].ready);
    fs::write(&path, "late").expect("a file");
    watched.becomes("late").await;
}

#[rstest]
#[case::directory("/", io::ErrorKind::InvalidInput)]
#[case::device("/dev/zero", io::ErrorKind::InvalidInput)]
#[case::absent("/nonexistent/token", io::ErrorKind::NotFound)]
#[tokio::test]
async fn refuses_what_is_no_file(#[case] path: &str, #[case] kind: io::ErrorKind) {
    let secrets = load(file(Path::new(path))).await;
    assert_eq!(value(&secrets), Err(Unavailable::File(kind)));
}

#[tokio::test]
async fn refuses_a_fifo_without_waiting_for_a_writer() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let secrets = timeout(DEADLINE, load(file(&path))).await.expect("no wait");
    assert_eq!(
        value(&secrets),
        Err(Unavailable::File(io::ErrorKind::InvalidInput))
    );
}

#[tokio::test]
async fn refuses_a_file_that_is_too_long() {
    let (_directory, path) = directory(&"a".repeat(Secret::MOST_READ + 1));
    let secrets = load(file(&path)).await;
    assert_eq!(
        value(&secrets),
        Err(Unavailable::File(io::ErrorKind::FileTooLarge))
    );
}

#[tokio::test]
async fn takes_what_a_command_writes() {
    let secrets = load(slow_exec("echo from-a-command; echo noise >&2")).await;
    assert_eq!(value(&secrets).as_deref(), Ok("from-a-command"));
}

#[tokio::test]
async fn gives_a_command_a_bare_environment_and_no_input() {
    let script = r#"test -z "$(cat)" && env | cut -d= -f1 | sort | tr '\n' ,"#;
    let secrets = load(slow_exec(script)).await;
    let names = value(&secrets).expect("a value");
    let unexpected: Vec<_> = names
        .split_terminator(',')
        .filter(|name| {
            ![
                "HOME", "LANG", "PATH", "PWD", "TZ", "USER", "_", "SHLVL", "OLDPWD",
            ]
            .contains(name)
        })
        .collect();
    assert_eq!(unexpected, Vec::<&str>::new());
}

#[rstest]
#[case("exit 3", ExecError::Failed(Some(3)))]
#[case("echo secret; exit 1", ExecError::Failed(Some(1)))]
#[case("kill -9 $$", ExecError::Failed(None))]
#[case("head -c 70000 /dev/zero | tr '\\0' a", ExecError::TooLong)]
#[case("yes", ExecError::TooLong)]
#[tokio::test]
async fn refuses_a_command_that_fails(#[case] script: &str, #[case] error: ExecError) {
    let secrets = timeout(DEADLINE, load(slow_exec(script)))
        .await
        .expect("no wait");
    assert_eq!(value(&secrets), Err(error.into()));
}

#[rstest]
#[case("true", Invalid::Empty)]
#[case("printf 'a\\nb'", Invalid::Character)]
#[case("head -c 20000 /dev/zero | tr '\\0' a", Invalid::TooLong)]
#[tokio::test]
async fn refuses_what_a_command_must_not_write(#[case] script: &str, #[case] why: Invalid) {
    let secrets = load(slow_exec(script)).await;
    assert_eq!(value(&secrets), Err(why.into()));
}

#[tokio::test]
async fn refuses_a_command_that_is_not_there() {
    for (command, kind) in [
        (vec![], io::ErrorKind::NotFound),
        (
            vec!["/nonexistent/command".to_owned()],
            io::ErrorKind::NotFound,
        ),
        (
            vec!["/etc/passwd".to_owned()],
            io::ErrorKind::PermissionDenied,
        ),
    ] {
        let source = Source::Exec {
            command,
            timeout: DEADLINE,
            ttl: DEADLINE,
        };
        let secrets = load(source).await;
        assert_eq!(value(&secrets), Err(ExecError::Start(kind).into()));
    }
}

/// The command and what it has started are gone when its time is over, also what has our pipe open.
#[tokio::test]
async fn kills_a_command_that_takes_too_long_with_all_it_has_started() {
    let (_directory, path) = directory("");
    let script = format!("sleep 1000 & echo $! > {}; wait", path.display());
    let secrets = load(exec(&script, Duration::from_millis(300), DEADLINE)).await;
    assert_eq!(value(&secrets), Err(ExecError::TimedOut.into()));
    let child = fs::read_to_string(&path).expect("a process id");
    let stat = PathBuf::from(format!("/proc/{}/stat", child.trim()));
    let gone = || match fs::read_to_string(&stat) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    let waiting = async {
        while !gone() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.expect("the child is gone");
}

#[tokio::test]
async fn runs_a_command_again_before_its_value_ends() {
    let (_directory, path) = directory("x");
    let script = format!("printf x >> {0}; cat {0}", path.display());
    let watched = Watched::load(exec(&script, DEADLINE, Duration::from_millis(400))).await;
    assert_eq!(value(&watched.0).as_deref(), Ok("xx"));
    watched.becomes("xxx").await;
    watched.becomes("xxxx").await;
}

#[tokio::test]
async fn keeps_a_commands_value_until_twice_its_time_to_live() {
    let (_directory, path) = directory("good");
    let script = format!("cat {}", path.display());
    let ttl = Duration::from_millis(400);
    let watched = Watched::load(exec(&script, DEADLINE, ttl)).await;
    fs::remove_file(&path).expect("removed");
    watched.complains(ExecError::Failed(Some(1)).into()).await;
    assert_eq!(value(&watched.0).as_deref(), Ok("good"));
    watched
        .until(|secrets| value(secrets) == Err(Unavailable::Expired))
        .await;
    assert!(!watched.0.conditions()[0].ready);
    fs::write(&path, "again").expect("written anew");
    watched.becomes("again").await;
}

#[tokio::test]
async fn a_changed_source_is_read_and_an_unchanged_one_keeps_its_value() {
    let (_directory, path) = directory("old");
    let script = format!("cat {}", path.display());
    let watched = Watched::load(slow_exec(&script)).await;
    fs::write(&path, "new").expect("written");
    watched
        .0
        .replace([(credential(), slow_exec(&script))])
        .await;
    assert_eq!(value(&watched.0).as_deref(), Ok("old"));
    watched.0.replace([(credential(), file(&path))]).await;
    assert_eq!(value(&watched.0).as_deref(), Ok("new"));
    fs::write(&path, "newer").expect("written");
    watched.becomes("newer").await;
    watched.0.replace([]).await;
    assert_eq!(value(&watched.0), Err(Unavailable::Unknown));
}

/// Rotation under load: who reads meets the old value or the new one, and never anything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_is_never_seen_half_done() {
    let (_directory, path) = directory(&"0".repeat(64));
    let watched = Watched::load(file(&path)).await;
    let secrets = Arc::clone(&watched.0);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let mut reads = 0_u64;
        while !stopped.is_cancelled() {
            let now = secrets.secret(&credential()).expect("a value");
            let first = now.octets()[0];
            assert!(now.octets().len() == 64 && now.octets().iter().all(|octet| *octet == first));
            reads += 1;
        }
        reads
    });
    for digit in 1..=5 {
        let content = digit.to_string().repeat(64);
        rename_over(&path, &content);
        watched.becomes(&content).await;
    }
    stop.cancel();
    assert!(reader.await.expect("no mixture") > 0);
}
