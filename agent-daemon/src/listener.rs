//! Takes connections out of the gate, tells whose they are, and deals them to the workers in turn.
//!
//! Both listeners live on the first worker; on a machine with one core a connection never changes
//! threads at all. Being out of descriptors pauses accepting for a moment and ends nothing.

use std::{
    io,
    net::{IpAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use ersatz_policy::Reason;
use ersatz_steering::Steering;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    audit::{Protocol, Verdict},
    connection::{Accepted, reset, serve_connection},
    node::Node,
    sandboxes::Sandbox,
};

/// Pause after an error of accept that is ours: descriptors or memory have run out.
const BACK_OFF: Duration = Duration::from_millis(50);

/// What takes connections in: the gate's listeners, and who tells whose they are.
pub(crate) struct Gate {
    pub(crate) node: Arc<Node>,
    pub(crate) steering: Arc<Steering>,
    pub(crate) workers: Vec<Handle>,
    pub(crate) stop: CancellationToken,
}

impl Gate {
    /// Accepts on `listener` until told to stop; to be spawned on the first worker.
    pub(crate) async fn accept(self: Arc<Self>, listener: StdListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        for worker in (0..self.workers.len()).cycle() {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => self.deal(tcp, peer.ip(), worker),
                Err(error) if is_of_peer(&error) => {}
                Err(error) => {
                    warn!(%error, "cannot accept");
                    time::sleep(BACK_OFF).await;
                }
            }
        }
        Ok(())
    }

    fn deal(&self, tcp: TcpStream, peer: IpAddr, worker: usize) {
        let Some(sandbox) = self.identify(peer) else {
            self.node
                .metrics
                .accepted(Protocol::Tcp, Verdict::Deny, Some(Reason::SandboxUnknown));
            return reset(&tcp);
        };
        let Ok(dialled) = tcp.local_addr() else {
            return;
        };
        if let Err(error) = tcp.set_nodelay(true) {
            debug!(%error, "cannot switch off delayed sending");
        }
        let Some(handle) = self.workers.get(worker) else {
            return;
        };
        let node = self.node.clone();
        if worker == 0 {
            handle.spawn(serve_connection(
                node,
                Accepted {
                    tcp,
                    sandbox,
                    dialled,
                    worker,
                },
            ));
            return;
        }
        // The socket moves to the other worker's reactor.
        let Ok(tcp) = tcp.into_std() else { return };
        handle.spawn(async move {
            if let Ok(tcp) = TcpStream::from_std(tcp) {
                serve_connection(
                    node,
                    Accepted {
                        tcp,
                        sandbox,
                        dialled,
                        worker,
                    },
                )
                .await;
            }
        });
    }

    /// Whose connection this is: the kernel put it into the peer address, the tenant cannot.
    fn identify(&self, peer: IpAddr) -> Option<Arc<Sandbox>> {
        self.node.sandboxes.find(self.steering.identify(peer)?)
    }
}

/// Errors of one connection that is already gone (accept(2), "Error handling").
fn is_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | NotConnected
    )
}
