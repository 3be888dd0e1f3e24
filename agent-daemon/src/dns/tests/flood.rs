//! Many queries of one sandbox, and its neighbour's.

use super::*;

/// A sandbox for each address of loopback.
#[derive(Default)]
struct Neighbours(Mutex<HashMap<IpAddr, Arc<Sandbox>>>);

impl Zones for Neighbours {
    fn sandbox(&self, peer: IpAddr) -> Option<Arc<dyn View>> {
        let mut sandboxes = self.0.lock().expect("no panic");
        Some(Arc::clone(sandboxes.entry(peer).or_default()) as _)
    }
}

/// 20,000 queries a second from one sandbox, for a second: its neighbour is served as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_sandbox_costs_its_neighbour_little() {
    let udp4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .await
        .expect("a socket");
    let udp6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))
        .await
        .expect("a socket");
    let at = SocketAddr::new(
        Ipv4Addr::LOCALHOST.into(),
        udp4.local_addr().expect("an address").port(),
    );
    let (zones, shutdown) = (Arc::new(Neighbours::default()), CancellationToken::new());
    tokio::spawn(serve(zones.clone(), udp4, udp6, shutdown.clone()));
    let query = question("allowed.example.", RecordType::A)
        .to_vec()
        .expect("a query");

    let flooded = shutdown.clone();
    let flood = tokio::spawn({
        let query = query.clone();
        async move {
            let socket = UdpSocket::bind("127.0.0.2:0").await.expect("a socket");
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            let mut sent = 0;
            while !flooded.is_cancelled() {
                tick.tick().await;
                for _ in 0..100 {
                    sent += usize::from(socket.send_to(&query, at).await.is_ok());
                }
            }
            sent
        }
    });
    let neighbour = UdpSocket::bind("127.0.0.3:0").await.expect("a socket");
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let mut late = 0;
    for _ in 0..100 {
        tick.tick().await;
        neighbour.send_to(&query, at).await.expect("sent");
        let answered = timeout(Duration::from_millis(50), neighbour.recv(&mut [0; 512])).await;
        late += usize::from(answered.is_err());
    }
    shutdown.cancel();
    let sent = flood.await.expect("ended");
    assert_eq!(late, 0, "with {sent} queries of the flood");
    assert!(sent > 10_000, "{sent}");
}
