//! Many connections, each to the right destination.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use ersatz_tests::{
    client::connections::{Plan, Report},
    rig::{Node, Running, Settings, tool},
    world::names::{self, GREETING_PORT},
};

const PATIENCE: Duration = Duration::from_mins(4);

/// Any address of the world, as opaque TCP, so that each connection can be told
/// by the address that it was dialled to.
fn node() -> Result<Node> {
    let rule = format!(
        "  - {{cidrs: [\"{}\", \"{}\"], ports: [{GREETING_PORT}], mode: tcp}}\n",
        names::PREFIX_V4,
        names::PREFIX_V6
    );
    Node::with(Settings::default().allowing(&rule))
}

/// Two addresses of each of many names, IPv4 and IPv6.
fn targets() -> Result<Vec<SocketAddr>> {
    let mut targets = Vec::new();
    for number in 0..500 {
        let addresses =
            names::addresses(&format!("h{number}.many.test")).context("no such name")?;
        targets.extend(
            addresses
                .into_iter()
                .map(|ip| SocketAddr::new(ip, GREETING_PORT)),
        );
    }
    Ok(targets)
}

fn run(node: &Node, plan: &Plan) -> Result<Report> {
    let client = tool("ersatz-client");
    let script = format!("ulimit -n 16000 && exec {} connections", client.display());
    let mut running = Running::start(node.sandboxed(&["sh", "-c", &script]))?;
    running.feed(&serde_json::to_vec(plan)?)?;
    let report: Report = serde_json::from_str(&running.finish(PATIENCE)?.success()?)?;
    println!("{report:?}");
    ensure!(
        report.failed == 0 && report.right == plan.count,
        "{report:?}"
    );
    Ok(report)
}

#[test]
fn three_thousand_connections_are_open_at_once() -> Result<()> {
    let node = node()?;
    let daemon = node.daemon()?;
    let plan = Plan {
        targets: targets()?,
        count: 3_000,
        at_once: 3_000,
    };
    run(&node, &plan)?;
    daemon.reaches("ersatz_connections_total", &[r#"protocol="tcp""#], 3_000)
}

#[test]
fn twenty_thousand_connections_follow_each_other() -> Result<()> {
    let node = node()?;
    let daemon = node.daemon()?;
    let plan = Plan {
        targets: targets()?,
        count: 20_000,
        at_once: 64,
    };
    run(&node, &plan)?;
    let tcp = node.ledger()?.with(&[("kind", "tcp")]).len();
    assert_eq!(tcp, 20_000, "the world saw each once");
    let counted = daemon.reaches("ersatz_connections_total", &[r#"protocol="tcp""#], 20_000);
    let open = daemon.metric("ersatz_open_connections", &[])?;
    let audited = node.audit()?.with(&[("protocol", "tcp")]).len();
    counted.with_context(|| format!("{open} are open, {audited} are audited"))
}
