//! Notices that a sandbox's link ended, with its namespace or without, and
//! that somebody came between a link and its programs.

use std::{collections::HashSet, fmt::Display, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use rtnetlink::{
    MulticastGroup, new_multicast_connection, packet_core::NetlinkPayload,
    packet_route::RouteNetlinkMessage,
};
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use tracing::warn;

use crate::{
    SandboxId, SteeringError,
    error::system,
    link::{Netlink, name_of},
    steering::{Inner, blocking},
};

/// Subscribes to the kernel's link events, and looks once for itself.
pub(crate) fn spawn(inner: &Arc<Inner>) -> Result<JoinHandle<()>, SteeringError> {
    let (connection, _, mut events) = new_multicast_connection(&[MulticastGroup::Link])
        .map_err(system("subscribe to link events"))?;
    let inner = Arc::clone(inner);
    Ok(tokio::spawn(async move {
        let watching = async {
            rescan(&inner).await;
            while let Some((event, _)) = events.next().await {
                match event.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                        ended(&inner, link.header.index).await;
                    }
                    NetlinkPayload::Overrun(_) => rescan(&inner).await,
                    _ => {}
                }
            }
        };
        tokio::join!(connection, watching, reassert(&inner));
    }))
}

/// Looks after the order of the programs: the first that gives a verdict wins.
async fn reassert(inner: &Arc<Inner>) {
    let mut due = tokio::time::interval(REASSERT_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let own = Arc::clone(inner);
        let looked = blocking(move || {
            own.reassert();
            Ok(())
        });
        if let Err(error) = looked.await {
            warn!(%error, "could not look after the kernel programs");
        }
    }
}

/// Looks at every link, as events may have been missed.
async fn rescan(inner: &Arc<Inner>) {
    let found = blocking(|| Netlink::open()?.links()).await;
    let present: HashSet<u32> = match found {
        Ok(links) => links.into_iter().map(|(_, index)| index).collect(),
        Err(error) => return warn!(%error, "could not look for ended sandboxes"),
    };
    let live = inner.table().live();
    for (_, record, _) in live {
        if !present.contains(&record.ifindex) {
            ended(inner, record.ifindex).await;
        }
    }
}

/// Reports the end of a served sandbox; one that nobody serves is freed.
async fn ended(inner: &Arc<Inner>, ifindex: u32) {
    let known = inner.table().on_link(ifindex);
    if let Some((id, _, true)) = known {
        report(inner, id);
        return;
    }
    let own = Arc::clone(inner);
    let freed = blocking(move || {
        let mut programs = own.programs();
        let Some((id, ..)) = known else {
            // One whose sandbox was removed before, or none of ours.
            programs.forget(ifindex);
            return Ok(());
        };
        own.forget(&mut programs, id, ifindex)
    });
    if let Err(error) = freed.await {
        warn!(%error, link = ifindex, "could not free an ended sandbox");
    }
}

impl Inner {
    /// Puts the programs of every link first again where they are not.
    fn reassert(&self) {
        let gate = self.instance_name().gate_link();
        told(&gate, self.programs().reassert_gate(&gate));
        let links = self.programs().links();
        for ifindex in links {
            let mut programs = self.programs();
            // It may have ended since the list was made.
            if programs.attached(ifindex) && name_of(ifindex).is_ok() {
                let done = programs.reassert_sandbox(ifindex);
                drop(programs);
                told(&ifindex, done);
            }
        }
    }
}

fn told(link: &dyn Display, outcome: Result<bool, SteeringError>) {
    match outcome {
        Ok(false) => {}
        Ok(true) => warn!(%link, "the kernel programs were not first or not pinned, now they are"),
        Err(error) => warn!(%link, %error, "could not look after the kernel programs"),
    }
}

/// How long somebody else's program can be in front of ours.
const REASSERT_EVERY: Duration = Duration::from_millis(500);

fn report(inner: &Inner, id: SandboxId) {
    inner
        .watchers()
        .retain(|watcher| match watcher.try_send(id) {
            Ok(()) => true,
            Err(error) => {
                warn!(sandbox = %id, %error, "nobody takes note of ended sandboxes");
                false
            }
        });
}
