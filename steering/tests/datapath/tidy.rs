//! Nothing is left, and nobody is disturbed.

use std::{fs, sync::Arc};

use ersatz_steering::{Adopt, Close, InstanceName, Kept, Steering, SteeringError};

use crate::node::{Daemon, Node, Sandbox, greeted, mounts_below, options};

#[test]
fn an_instance_that_ends_leaves_nothing() {
    let node = Node::new();
    let before = links();
    node.runtime.block_on(async {
        let daemon = Daemon::start(node.options()).await;
        let (sandbox, _) = daemon.sandbox().await;
        sandbox
            .run(|| greeted("192.0.2.1:443".parse().unwrap()).unwrap())
            .await;
        assert_eq!(links().len(), before.len() + 2);
        assert_eq!(mounts_below(node.state.path()).len(), 2);
        let steering = Arc::clone(&daemon.steering);
        daemon.end().await;
        Arc::into_inner(steering)
            .unwrap()
            .close(Close::Remove)
            .await
            .unwrap();
    });
    assert_eq!(links(), before);
    assert!(mounts_below(node.state.path()).is_empty());
    assert_eq!(fs::read_dir(node.state.path()).unwrap().count(), 0);
}

#[test]
fn the_node_gets_a_link_without_address_and_nothing_else() {
    let node = Node::new();
    let before = configuration();
    node.with_daemon(async |daemon| {
        let (_sandbox, _) = daemon.sandbox().await;
        assert_eq!(configuration(), before);
        daemon.end().await;
    });
}

#[test]
fn an_instance_runs_once() {
    let node = Node::new();
    node.runtime.block_on(async {
        let (first, _) = Steering::start(node.options()).await.unwrap();
        let second = Steering::start(node.options()).await;
        assert!(matches!(second, Err(SteeringError::Busy { .. })));
        first.close(Close::Remove).await.unwrap();
    });
}

#[test]
fn instances_side_by_side_do_not_disturb_each_other() {
    let node = Node::new();
    node.runtime.block_on(async {
        let mut daemons = Vec::new();
        for instance in [
            InstanceName::node(),
            InstanceName::run(1),
            InstanceName::run(2),
        ] {
            daemons.push(Daemon::start(options(node.state.path(), instance)).await);
        }
        let mut sandboxes = Vec::new();
        for daemon in &daemons {
            sandboxes.push(daemon.sandbox().await.0);
        }
        let last = daemons.pop().unwrap();
        let steering = Arc::clone(&last.steering);
        last.end().await;
        Arc::into_inner(steering)
            .unwrap()
            .close(Close::Remove)
            .await
            .unwrap();
        for (daemon, sandbox) in daemons.iter().zip(&sandboxes) {
            sandbox
                .run(|| greeted("192.0.2.1:443".parse().unwrap()).unwrap())
                .await;
            assert_eq!(daemon.seen.lock().unwrap().len(), 1);
        }
        for daemon in daemons {
            let steering = Arc::clone(&daemon.steering);
            daemon.end().await;
            Arc::into_inner(steering)
                .unwrap()
                .close(Close::Remove)
                .await
                .unwrap();
        }
    });
    assert_eq!(links(), ["lo"]);
}

#[test]
fn a_closed_but_kept_instance_hands_over_what_it_kept() {
    let node = Node::new();
    node.runtime.block_on(async {
        let sandbox = Sandbox::new();
        let first = Daemon::start(node.options()).await;
        let enrolled = first
            .steering
            .enrol_netns(sandbox.netns(), Adopt::Never)
            .await
            .unwrap();
        first.steering.keep(Kept::Ca, &[7; 2048]).unwrap();
        assert!(first.steering.keep(Kept::Ca, &[7; 2049]).is_err());
        let steering = Arc::clone(&first.steering);
        first.end().await;
        Arc::into_inner(steering)
            .unwrap()
            .close(Close::Keep)
            .await
            .unwrap();

        let second = Daemon::start(node.options()).await;
        assert_eq!(second.steering.kept(Kept::Ca), Some(vec![7; 2048]));
        let again = second
            .steering
            .enrol_netns(sandbox.netns(), Adopt::IfKnown)
            .await
            .unwrap();
        assert_eq!((again.id, again.adopted), (enrolled.id, true));
        sandbox
            .run(|| greeted("192.0.2.1:443".parse().unwrap()).unwrap())
            .await;
        let steering = Arc::clone(&second.steering);
        second.end().await;
        Arc::into_inner(steering)
            .unwrap()
            .close(Close::Remove)
            .await
            .unwrap();
    });
}

#[test]
fn a_failed_enrolment_leaves_nothing() {
    let node = Node::new();
    node.with_daemon(async |daemon| {
        let (sandbox, _) = daemon.sandbox().await;
        let before = links();
        // The namespace has an eth0 already.
        let again = daemon
            .steering
            .enrol_netns(sandbox.netns(), Adopt::Never)
            .await;
        assert!(again.is_err());
        assert_eq!(links(), before);
        let own = fs::File::open("/proc/thread-self/ns/net").unwrap().into();
        assert!(
            daemon
                .steering
                .enrol_netns(own, Adopt::Never)
                .await
                .is_err()
        );
        assert_eq!(links(), before);
        sandbox
            .run(|| greeted("192.0.2.1:443".parse().unwrap()).unwrap())
            .await;
        daemon.end().await;
    });
}

#[test]
fn instances_that_start_at_once_do_not_take_each_other_for_dead() {
    let node = Node::new();
    node.runtime.block_on(async {
        let mut starting = tokio::task::JoinSet::new();
        for pid in 1..=8 {
            let options = options(node.state.path(), InstanceName::run(pid));
            starting
                .spawn(async move { Steering::start(options).await.map(|(steering, _)| steering) });
        }
        for started in starting.join_all().await {
            started.unwrap().close(Close::Remove).await.unwrap();
        }
    });
    assert_eq!(links(), ["lo"]);
    assert_eq!(fs::read_dir(node.state.path()).unwrap().count(), 0);
}

/// What of the node's own configuration steering must leave alone.
fn configuration() -> String {
    let files = ["route", "ipv6_route", "fib_trie", "if_inet6", "arp"];
    files
        .map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap())
        .join("\n")
}

fn links() -> Vec<String> {
    let listing = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    listing
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
}
