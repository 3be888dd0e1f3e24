//! The bare swap: the least that tokio, hyper and rustls can do the job with.
//!
//! No policy, no steering, no audit, one host. It shows what the libraries
//! cost, and so what is left to win or lose for ersatz.

use std::{cell::RefCell, net::SocketAddr, path::PathBuf, rc::Rc, sync::Arc};

use anyhow::{Context, Result};
use http::{
    HeaderValue, Request, Response,
    header::{AUTHORIZATION, HOST},
};
use hyper::{
    body::Incoming,
    client::conn::{http1 as client1, http2 as client2},
    server::conn::{http1 as server1, http2 as server2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::tls::{self, Protocol};

/// What the bare swap is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    #[arg(long)]
    pub(crate) upstream: SocketAddr,
    #[arg(long)]
    pub(crate) certificates: PathBuf,
    #[arg(long)]
    pub(crate) stub: String,
    #[arg(long)]
    pub(crate) real: String,
}

struct Proxy {
    upstream: SocketAddr,
    stub: HeaderValue,
    real: HeaderValue,
    h1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    idle1: RefCell<Vec<client1::SendRequest<Incoming>>>,
    shared2: RefCell<Option<client2::SendRequest<Incoming>>>,
}

/// Serves for ever.
pub(crate) async fn run(settings: Settings) -> Result<()> {
    let mut server = tls::server(&settings.certificates, "proxy")?;
    server.send_tls13_tickets = 0;
    server.ignore_client_order = true;
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let ca = settings.certificates.join("ca.pem");
    let proxy = Rc::new(Proxy {
        upstream: settings.upstream,
        stub: settings.stub.parse()?,
        real: settings.real.parse()?,
        h1: tls::client(&ca, Protocol::H1)?,
        h2: tls::client(&ca, Protocol::H2)?,
        idle1: RefCell::default(),
        shared2: RefCell::default(),
    });
    let listener = TcpListener::bind(settings.listen).await?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tokio::task::spawn_local(serve(tcp, acceptor.clone(), Rc::clone(&proxy)));
    }
}

async fn serve(tcp: TcpStream, acceptor: TlsAcceptor, proxy: Rc<Proxy>) -> Result<()> {
    tcp.set_nodelay(true)?;
    let io = acceptor.accept(tcp).await?;
    let protocol = match io.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::H2,
        _ => Protocol::H1,
    };
    let service = service_fn(|request| forward(Rc::clone(&proxy), request, protocol));
    match protocol {
        Protocol::H1 => {
            server1::Builder::new()
                .max_buf_size(BUFFER)
                .serve_connection(TokioIo::new(io), service)
                .await?;
        }
        Protocol::H2 => {
            server2::Builder::new(Local)
                .max_frame_size(64 << 10)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .serve_connection(TokioIo::new(io), service)
                .await?;
        }
    }
    Ok(())
}

async fn forward(
    proxy: Rc<Proxy>,
    mut request: Request<Incoming>,
    protocol: Protocol,
) -> Result<Response<Incoming>> {
    if request.headers().get(AUTHORIZATION) == Some(&proxy.stub) {
        request
            .headers_mut()
            .insert(AUTHORIZATION, proxy.real.clone());
    }
    match protocol {
        Protocol::H1 => proxy.send1(request).await,
        Protocol::H2 => proxy.send2(request).await,
    }
}

impl Proxy {
    async fn send1(self: &Rc<Self>, request: Request<Incoming>) -> Result<Response<Incoming>> {
        let mut client = loop {
            let idle = self.idle1.borrow_mut().pop();
            match idle {
                Some(client) if client.is_ready() => break client,
                Some(_) => {}
                None => break self.dial1().await?,
            }
        };
        let response = client.send_request(request).await?;
        let proxy = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if client.ready().await.is_ok() {
                proxy.idle1.borrow_mut().push(client);
            }
        });
        Ok(response)
    }

    async fn dial1(&self) -> Result<client1::SendRequest<Incoming>> {
        let io = TokioIo::new(self.dial(&self.h1).await?);
        let (client, connection) = client1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(io)
            .await?;
        tokio::task::spawn_local(connection);
        Ok(client)
    }

    async fn send2(self: &Rc<Self>, mut request: Request<Incoming>) -> Result<Response<Incoming>> {
        request.headers_mut().remove(HOST);
        let shared = self
            .shared2
            .borrow()
            .clone()
            .filter(|client| !client.is_closed());
        let mut client = match shared {
            Some(client) => client,
            None => self.dial2().await?,
        };
        client.ready().await?;
        Ok(client.send_request(request).await?)
    }

    async fn dial2(&self) -> Result<client2::SendRequest<Incoming>> {
        let io = TokioIo::new(self.dial(&self.h2).await?);
        let (client, connection) = client2::Builder::new(Local)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .handshake(io)
            .await?;
        tokio::task::spawn_local(connection);
        *self.shared2.borrow_mut() = Some(client.clone());
        Ok(client)
    }

    async fn dial(
        &self,
        config: &Arc<ClientConfig>,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.upstream).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(crate::HOST)?;
        TlsConnector::from(Arc::clone(config))
            .connect(name, tcp)
            .await
            .context("upstream")
    }
}

/// One TLS record: larger ones only cost memory.
const BUFFER: usize = 16 << 10;

/// What may be under way on one HTTP/2 stream.
const WINDOW: u32 = 1 << 20;

/// Runs hyper's own tasks on the one thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
