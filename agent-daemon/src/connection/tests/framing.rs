//! Requests that two readers could read in two ways: refused, or written anew in one.

use std::sync::Mutex;

use super::*;

/// A server that takes everything down and answers each head with 200.
struct Witness {
    rig: Rig,
    port: u16,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Witness {
    async fn start() -> Witness {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let taken = seen.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let taken = taken.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        taken.lock().unwrap().extend_from_slice(&buffer[..read]);
                        let ok =
                            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                        let _ = stream.write_all(ok).await;
                    }
                });
            }
        });
        let policy = format!(
            "{{apiVersion: ersatz.dev/v1alpha1, kind: EgressPolicy, metadata: {{name: p}}, \
             spec: {{allow: [{{hosts: [localhost], scheme: http, ports: [{port}], \
             http: [{{methods: [GET, POST], paths: [/open]}}]}}]}}}}"
        );
        let rig = Rig::with(Limits::default(), &policy).await;
        Witness { rig, port, seen }
    }

    /// What the server got when the sandbox sent `octets`, and what the sandbox was answered.
    async fn send(&self, octets: &str) -> (String, String) {
        let (mut client, serving) = self.rig.dial("localhost", self.port).await;
        let octets = octets.replace("HOST", &format!("localhost:{}", self.port));
        let _ = client.write_all(octets.as_bytes()).await;
        if !octets.contains("connection: close") {
            let _ = client.shutdown().await;
        }
        let answer = rest(&mut client).await;
        in_time(serving).await.unwrap();
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        (String::from_utf8_lossy(&seen).into_owned(), answer)
    }
}

/// Heads that the server got, as their lines.
fn heads(seen: &str) -> Vec<Vec<&str>> {
    let starts = seen.match_indices(" HTTP/1.1\r\n").filter_map(|(at, _)| {
        let start = seen.get(..at)?.rfind("\r\n").map_or(0, |end| end + 2);
        seen.get(start..)?
            .split_once("\r\n\r\n")
            .map(|(head, _)| head)
    });
    starts.map(|head| head.split("\r\n").collect()).collect()
}

fn fields<'a>(head: &[&'a str], name: &str) -> Vec<&'a str> {
    let named = |line: &&'a str| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    };
    head.iter().skip(1).filter_map(named).collect()
}

const SECOND: &str = "GET /smuggled HTTP/1.1\r\nhost: HOST\r\n\r\n";

fn post(fields: &str, body: &str) -> String {
    format!("POST /open HTTP/1.1\r\nhost: HOST\r\n{fields}\r\n\r\n{body}")
}

type Case = (&'static str, String);

fn ambiguous() -> Vec<Case> {
    let mut cases = of_lengths();
    cases.extend(of_codings());
    cases.extend(of_lines());
    cases
}

fn of_lengths() -> Vec<Case> {
    let twice = |second: &str| {
        post(
            &format!("content-length: 4\r\ncontent-length: {second}"),
            "abcde",
        )
    };
    let mut cases = vec![
        ("two lengths", twice("5")),
        ("two equal lengths", twice("4")),
        ("a list of lengths", post("content-length: 4, 4", "abcd")),
    ];
    let lengths = [
        "+4",
        "-4",
        "0x4",
        "4 4",
        "4;",
        "\u{b}4",
        "99999999999999999999",
        "4.0",
        "",
    ];
    let odd = lengths.map(|length| {
        (
            "odd length",
            post(&format!("content-length: {length}"), "abcd"),
        )
    });
    cases.extend(odd);
    cases
}

fn of_codings() -> Vec<Case> {
    const LENGTH: &str = "content-length: 4";
    const CHUNKED: &str = "transfer-encoding: chunked";
    let end = format!("0\r\n\r\n{SECOND}");
    let chunked = |first: &str| post(CHUNKED, &format!("{first}\r\n{end}"));
    let mut cases = vec![
        (
            "length and chunks",
            post(&format!("{LENGTH}\r\n{CHUNKED}"), &end),
        ),
        (
            "chunks and length",
            post(&format!("{CHUNKED}\r\n{LENGTH}"), &end),
        ),
        ("chunks of 1.0", post(CHUNKED, &end).replace("1.1", "1.0")),
        ("a large chunk size", chunked("10000000000000001\r\na")),
        ("a chunk size with a sign", chunked("+1\r\na")),
        ("a chunk size in hex notation", chunked("0x1\r\na")),
        ("a chunk that ends early", chunked("1\r\nab")),
        ("a chunk with an extension", chunked("1;a=b\r\na")),
    ];
    let codings = [
        "identity",
        "chunked, identity",
        "xchunked",
        "gzip",
        "chunked\u{b}",
        "\"chunked\"",
        "chunk",
    ];
    for coding in codings {
        let field = format!("transfer-encoding: {coding}");
        cases.push(("odd coding", post(&field, &end)));
        cases.push((
            "odd coding and a length",
            post(&format!("{field}\r\n{LENGTH}"), &end),
        ));
    }
    cases
}

fn of_lines() -> Vec<Case> {
    let hidden = |before: &str| {
        let fields = format!("{before}transfer-encoding: chunked\r\ncontent-length: 4");
        post(&fields, &format!("0\r\n\r\n{SECOND}"))
    };
    let get = |fields: &str| format!("GET /open HTTP/1.1\r\n{fields}\r\n{SECOND}");
    vec![
        ("a folded field", hidden("x: a\r\n ")),
        ("a bare line feed", hidden("x: a\n")),
        ("a bare carriage return", hidden("x: a\r")),
        ("NUL", hidden("x: a\0b\r\n")),
        (
            "a space before the colon",
            hidden("x: a\r\n").replace("ing:", "ing :"),
        ),
        ("two hosts", get("host: HOST\r\nhost: evil.test\r\n")),
        ("no host", get("x: a\r\n")),
    ]
}

#[tokio::test]
async fn no_request_is_read_in_two_ways() {
    let witness = Witness::start().await;
    for (what, octets) in ambiguous() {
        let (seen, answer) = witness.send(&octets).await;
        let heads = heads(&seen);
        let context =
            format!("{what}: {octets:?}\n the server got {seen:?}\n the sandbox got {answer:?}");
        assert!(
            heads
                .iter()
                .all(|head| head[0] == "POST /open HTTP/1.1" || head[0] == "GET /open HTTP/1.1"),
            "{context}"
        );
        for head in &heads {
            let (lengths, codings) = (
                fields(head, "content-length"),
                fields(head, "transfer-encoding"),
            );
            assert!(lengths.len() + codings.len() <= 1, "{context}");
            assert!(
                codings.iter().all(|coding| *coding == "chunked"),
                "{context}"
            );
            assert!(
                lengths
                    .iter()
                    .all(|length| length.bytes().all(|b| b.is_ascii_digit())),
                "{context}"
            );
            assert_eq!(fields(head, "host").len(), 1, "{context}");
            let clean = |line: &&str| {
                line.contains(':')
                    && !line.contains(['\r', '\n', '\0'])
                    && !line.starts_with([' ', '\t'])
            };
            assert!(head.iter().skip(1).all(clean), "{context}");
        }
    }
}

#[tokio::test]
async fn a_second_request_is_judged_as_the_first_was() {
    let witness = Witness::start().await;
    let first = "GET /open HTTP/1.1\r\nhost: HOST\r\n\r\n";
    for second in [
        "GET /smuggled HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n",
        "GET /open HTTP/1.1\r\nhost: evil.test\r\nconnection: close\r\n\r\n",
        "DELETE /open HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n",
    ] {
        let (seen, answer) = witness.send(&format!("{first}{second}")).await;
        assert_eq!(heads(&seen).len(), 1, "{seen:?}");
        assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 1, "{answer}");
        assert_eq!(answer.matches("x-ersatz-reason: ").count(), 1, "{answer}");
    }
}
