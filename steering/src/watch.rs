//! Notices that a sandbox's link ended, with its namespace or without.

use std::{collections::HashSet, sync::Arc};

use futures_util::StreamExt as _;
use rtnetlink::{
    MulticastGroup, new_multicast_connection, packet_core::NetlinkPayload,
    packet_route::RouteNetlinkMessage,
};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::{
    SandboxId, SteeringError,
    error::system,
    link::Netlink,
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
        tokio::join!(connection, watching);
    }))
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
    let Some((id, _, served)) = inner.table().on_link(ifindex) else {
        return;
    };
    if served {
        report(inner, id);
        return;
    }
    let own = Arc::clone(inner);
    let freed = blocking(move || own.forget(&mut own.kernel(), id, ifindex)).await;
    if let Err(error) = freed {
        warn!(%error, sandbox = %id, "could not free an ended sandbox");
    }
}

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
