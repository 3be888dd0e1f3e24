//! Somebody with the right to do so comes between a link and its programs.

use std::{fs, path::Path};

use aya::{
    EbpfLoader,
    programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};

use crate::{
    inbound::Pod,
    node::{Node, eventually, greeted},
    program::OBJECT,
};

const LINK: &str = "v-pod";

#[test]
fn a_foreign_program_does_not_stay_in_front() {
    Node::new().with_daemon(async |daemon| {
        let pod = Pod::new(LINK);
        pod.enrol(&daemon).await;
        let ours = first();
        // It drops all, as it knows no link.
        let mut ebpf = EbpfLoader::new().load(OBJECT).unwrap();
        let program = ebpf.program_mut("sandbox_ingress").unwrap();
        let foreign: &mut SchedClassifier = program.try_into().unwrap();
        foreign.load().unwrap();
        let front = TcAttachOptions::TcxOrder(LinkOrder::first());
        foreign
            .attach_with_options(LINK, TcAttachType::Ingress, front)
            .unwrap();
        assert_ne!(first(), ours);
        eventually("the foreign program stayed", || first() == ours).await;
        pod.sandbox
            .run(|| greeted("192.0.2.1:443".parse().unwrap()).unwrap())
            .await;
        daemon.end().await;
    });
}

#[test]
fn a_removed_pin_opens_nothing_and_comes_back() {
    let node = Node::new();
    let pins = node.state.path().join("node/bpf");
    node.with_daemon(async |daemon| {
        let pod = Pod::new(LINK);
        let enrolled = pod.enrol(&daemon).await;
        for pin in pins_of(&pins, enrolled.ifindex) {
            fs::remove_file(&pin).unwrap();
            assert_eq!(attached(), 1, "the link was opened");
            eventually("the pin did not come back", || pin.exists()).await;
        }
        pod.sandbox
            .run(|| greeted("192.0.2.1:443".parse().unwrap()).unwrap())
            .await;
        daemon.end().await;
    });
}

fn pins_of(pins: &Path, ifindex: u32) -> [std::path::PathBuf; 2] {
    [format!("in-{ifindex}"), format!("eg-{ifindex}")].map(|pin| pins.join(pin))
}

/// The program that sees the sandbox's frames first.
fn first() -> u32 {
    let (_, programs) = SchedClassifier::query_tcx(LINK, TcAttachType::Ingress).unwrap();
    programs[0].id()
}

fn attached() -> usize {
    let (_, programs) = SchedClassifier::query_tcx(LINK, TcAttachType::Ingress).unwrap();
    programs.len()
}
