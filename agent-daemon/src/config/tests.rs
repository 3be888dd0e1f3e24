use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Longest wait for anything that has to happen.
const DEADLINE: Duration = Duration::from_secs(5);

fn policy(name: &str, host: &str) -> String {
    format!(
        "apiVersion: ersatz.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec:\n  allow:\n  - {{hosts: [{host}]}}\n"
    )
}

fn allows(resources: &Resources, policy: &str, host: &str) -> bool {
    let name = ersatz_policy::Name::parse(host.as_bytes()).expect("a name");
    resources
        .policy(Some(policy))
        .is_ok_and(|(policy, _)| policy.resolves(&name))
}

/// A directory that is followed until the end of the test.
struct Followed {
    directory: TempDir,
    config: Arc<Config>,
    shutdown: CancellationToken,
}

impl Followed {
    fn start(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("a file");
        }
        let config = Config::load(vec![directory.path().to_path_buf()]).expect("good resources");
        let shutdown = CancellationToken::new();
        tokio::spawn(Arc::clone(&config).follow(shutdown.clone()));
        Self {
            directory,
            config,
            shutdown,
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).expect("written");
    }

    async fn until(&self, holds: impl Fn(&Config) -> bool) {
        let waiting = async {
            while !holds(&self.config) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(DEADLINE, waiting).await.expect("it comes to hold");
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[test]
fn a_broken_file_is_an_error_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("policy.yaml");
    fs::write(&path, "kind: EgressPolicy\nspec: {allowed: []}\n").expect("a file");
    let errors = Config::load(vec![path]).err().expect("errors");
    assert!(errors.to_string().contains("policy.yaml:"), "{errors}");
    assert!(Config::load(vec![directory.path().join("absent")]).is_err());
}

#[tokio::test]
async fn takes_over_changed_added_and_removed_files() {
    let followed = Followed::start(&[("a.yaml", &policy("a", "one.example"))]);
    let mut changes = followed.config.watch();
    assert!(allows(&changes.borrow_and_update(), "a", "one.example"));
    followed.write("a.yaml", &policy("a", "two.example"));
    timeout(DEADLINE, changes.changed())
        .await
        .expect("in time")
        .expect("a change");
    assert!(allows(&changes.borrow_and_update(), "a", "two.example"));
    followed.write("b.yml", &policy("b", "three.example"));
    followed
        .until(|config| allows(&config.current(), "b", "three.example"))
        .await;
    fs::remove_file(followed.directory.path().join("a.yaml")).expect("removed");
    followed
        .until(|config| !allows(&config.current(), "a", "two.example"))
        .await;
    assert!(allows(&followed.config.current(), "b", "three.example"));
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_state_and_says_so() {
    let followed = Followed::start(&[("a.yaml", &policy("a", "one.example"))]);
    followed.write("a.yaml", "apiVersion: ersatz.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: a}\nspec: {alow: []}\n");
    followed.until(|config| config.problem().is_some()).await;
    let problem = followed.config.problem().expect("a problem").to_string();
    assert!(problem.contains("a.yaml:4:"), "{problem}");
    assert!(allows(&followed.config.current(), "a", "one.example"));
    followed.write("a.yaml", &policy("a", "two.example"));
    followed.until(|config| config.problem().is_none()).await;
    assert!(allows(&followed.config.current(), "a", "two.example"));
}

#[tokio::test]
async fn a_change_that_says_the_same_is_none() {
    let followed = Followed::start(&[("a.yaml", &policy("a", "one.example"))]);
    let mut changes = followed.config.watch();
    changes.mark_unchanged();
    let again = followed.directory.path().join("a.new");
    fs::write(&again, policy("a", "one.example")).expect("a file");
    fs::rename(again, followed.directory.path().join("a.yaml")).expect("renamed");
    followed.write("b.yaml", &policy("b", "two.example"));
    followed
        .until(|config| allows(&config.current(), "b", "two.example"))
        .await;
    assert!(changes.has_changed().expect("a sender"));
    changes.mark_unchanged();
    followed.write("a.yaml", &policy("a", "one.example"));
    assert!(
        timeout(Duration::from_millis(1500), changes.changed())
            .await
            .is_err()
    );
}

/// A mounted `ConfigMap`: the files are symlinks into a directory that is swapped whole.
#[tokio::test]
async fn follows_a_directory_that_kubernetes_swaps() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    for (version, host) in [("..1", "one.example"), ("..2", "two.example")] {
        fs::create_dir(at(version)).expect("a directory");
        fs::write(at(version).join("a.yaml"), policy("a", host)).expect("a file");
    }
    symlink("..1", at("..data")).expect("a link");
    symlink("..data/a.yaml", at("a.yaml")).expect("a link");
    let config = Config::load(vec![directory.path().to_path_buf()]).expect("good resources");
    let shutdown = CancellationToken::new();
    let following = tokio::spawn(Arc::clone(&config).follow(shutdown.clone()));
    symlink("..2", at("..new")).expect("a link");
    fs::rename(at("..new"), at("..data")).expect("renamed");
    let mut changes = config.watch();
    let swapped = changes.wait_for(|resources| allows(resources, "a", "two.example"));
    timeout(DEADLINE, swapped)
        .await
        .expect("in time")
        .expect("a change");
    shutdown.cancel();
    following.await.expect("ended");
}
