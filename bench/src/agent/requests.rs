//! Closed loops of small requests on connections that are kept.

use std::{rc::Rc, time::Instant};

use anyhow::Result;
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::task::JoinSet;

use super::{Endpoint, h1, h2 as http2, recorder::Recorder};
use crate::{
    job::{Job, Outcome},
    tls::Protocol,
};

/// HTTP/1.1: one request at a time on each connection.
pub(crate) async fn h1(
    job: &Job,
    endpoint: &Endpoint,
    connections: usize,
    body: usize,
) -> Result<Outcome> {
    let (method, path) = target(body);
    let request: Rc<[u8]> = h1::request(job, method, path, body)?.into();
    let recorder = Rc::new(Recorder::default());
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let connection = h1::Connection::new(endpoint.connect(Protocol::H1).await?);
        tasks.spawn_local(h1_loop(
            connection,
            Rc::clone(&request),
            Rc::clone(&recorder),
        ));
    }
    let window = recorder.window(job).await?;
    tasks.shutdown().await;
    Ok(recorder.outcome(window))
}

async fn h1_loop(mut connection: h1::Connection, request: Rc<[u8]>, recorder: Rc<Recorder>) {
    while !recorder.over() {
        let begin = Instant::now();
        match connection.exchange(&request).await {
            Ok(()) => recorder.done(begin.elapsed()),
            Err(error) => return recorder.failed(&error),
        }
    }
}

/// HTTP/2: `streams` requests at a time on each connection.
pub(crate) async fn h2(
    job: &Job,
    endpoint: &Endpoint,
    connections: usize,
    streams: usize,
    body: usize,
) -> Result<Outcome> {
    let (method, path) = target(body);
    let request = Rc::new(http2::request(job, method, path)?);
    let body = Bytes::from(vec![b'x'; body]);
    let recorder = Rc::new(Recorder::default());
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let client = http2::connect(endpoint).await?;
        for _ in 0..streams {
            let (client, request) = (client.clone(), Rc::clone(&request));
            tasks.spawn_local(h2_loop(client, request, body.clone(), Rc::clone(&recorder)));
        }
    }
    let window = recorder.window(job).await?;
    tasks.shutdown().await;
    Ok(recorder.outcome(window))
}

async fn h2_loop(
    mut client: SendRequest<Bytes>,
    request: Rc<Request<()>>,
    body: Bytes,
    recorder: Rc<Recorder>,
) {
    while !recorder.over() {
        let begin = Instant::now();
        match http2::exchange(&mut client, &request, &body).await {
            Ok(_) => recorder.done(begin.elapsed()),
            Err(error) => return recorder.failed(&error),
        }
    }
}

fn target(body: usize) -> (&'static str, &'static str) {
    if body == 0 {
        ("GET", "/small")
    } else {
        ("POST", "/sink")
    }
}
