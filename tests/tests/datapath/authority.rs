//! One authority: SNI, `Host` or `:authority`, target and port all name the same
//! server, or there is no secret.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ersatz_tests::{
    client::probe::{Case, Message, Seen},
    rig::{Node, Running, text, tool},
};

const PATIENCE: Duration = Duration::from_mins(4);
/// The host that the stub belongs to.
const OWN: &str = "api.test";
const DIALLED: [&str; 2] = ["api.test", "open.test"];
const SERVER_NAMES: [Option<&str>; 6] = [
    Some("api.test"),
    Some("open.test"),
    Some("models.test"),
    Some("other.test"),
    Some("evil.test"),
    None,
];
const AUTHORITIES: [&str; 12] = [
    "api.test",
    "API.test",
    "api.test:443",
    "api.test:8443",
    "open.test",
    "models.test",
    "other.test",
    "evil.test",
    "agent@api.test",
    "api.test@evil.test",
    "api.test.evil.test",
    "10.213.0.1",
];
/// How the target is written: in origin form, or absolute with this host.
const TARGETS: [Option<&str>; 3] = [None, Some("api.test"), Some("evil.test")];

/// A case and whether all its parts name the stub's own host.
struct Probe {
    case: Case,
    diagonal: bool,
    label: String,
}

/// Whether it is another way to write the stub's own authority.
fn is_own(authority: &str) -> bool {
    let authority = authority.to_ascii_lowercase();
    authority.strip_suffix(":443").unwrap_or(&authority) == OWN
}

fn h1_cases(stub: &str) -> Vec<Probe> {
    let mut probes = Vec::new();
    for dial in DIALLED {
        for sni in SERVER_NAMES {
            for host in AUTHORITIES {
                for target in TARGETS {
                    let form = target
                        .map(|host| format!("https://{host}"))
                        .unwrap_or_default();
                    let label = format!("h1 dial={dial} sni={sni:?} host={host} target={form}");
                    let message = format!(
                        "GET {form}/matrix HTTP/1.1\r\nHost: {host}\r\n\
                         Authorization: Bearer {stub}\r\nConnection: close\r\n\r\n"
                    );
                    let own_target = target.is_none_or(is_own);
                    probes.push(Probe {
                        case: case(dial, 443, sni, Message::H1(message)),
                        diagonal: sni == Some(OWN) && is_own(host) && own_target,
                        label,
                    });
                }
            }
        }
    }
    probes
}

fn h2_cases(stub: &str) -> Vec<Probe> {
    const HOSTS: [Option<&str>; 3] = [None, Some("api.test"), Some("evil.test")];
    let mut probes = Vec::new();
    for dial in DIALLED {
        for sni in SERVER_NAMES {
            for authority in AUTHORITIES
                .into_iter()
                .filter(|authority| !authority.contains('@'))
            {
                for host in HOSTS {
                    let mut headers = vec![("authorization".into(), format!("Bearer {stub}"))];
                    headers.extend(host.map(|host| ("host".into(), host.to_owned())));
                    let message = Message::H2 {
                        method: "GET".into(),
                        uri: format!("https://{authority}/matrix"),
                        headers,
                    };
                    let own_host = host.is_none_or(is_own);
                    probes.push(Probe {
                        case: case(dial, 443, sni, message),
                        diagonal: sni == Some(OWN) && is_own(authority) && own_host,
                        label: format!(
                            "h2 dial={dial} sni={sni:?} :authority={authority} host={host:?}"
                        ),
                    });
                }
            }
        }
    }
    probes
}

/// Other ports, other heads: what it is, the port, the request line, the host lines.
const ODD: &[(&str, u16, &str, &str)] = &[
    ("other port", 8443, GET, "Host: api.test\r\n"),
    ("other port, named", 8443, GET, "Host: api.test:8443\r\n"),
    ("no host", 443, GET, ""),
    ("empty host", 443, GET, "Host: \r\n"),
    (
        "two hosts",
        443,
        GET,
        "Host: api.test\r\nHost: evil.test\r\n",
    ),
    (
        "two equal hosts",
        443,
        GET,
        "Host: api.test\r\nHost: api.test\r\n",
    ),
    (
        "absolute http",
        443,
        "GET http://api.test/ HTTP/1.1",
        "Host: api.test\r\n",
    ),
    (
        "absolute, port",
        443,
        "GET https://api.test:8443/ HTTP/1.1",
        "Host: api.test\r\n",
    ),
    (
        "absolute, user",
        443,
        "GET https://a@api.test/ HTTP/1.1",
        "Host: api.test\r\n",
    ),
    (
        "connect",
        443,
        "CONNECT evil.test:443 HTTP/1.1",
        "Host: api.test\r\n",
    ),
    (
        "connect own",
        443,
        "CONNECT api.test:443 HTTP/1.1",
        "Host: api.test\r\n",
    ),
    ("trace", 443, "TRACE / HTTP/1.1", "Host: api.test\r\n"),
    ("http/1.0 without host", 443, "GET / HTTP/1.0", ""),
    (
        "obsolete fold",
        443,
        GET,
        "Host: api.test\r\n evil.test\r\n",
    ),
    ("space before colon", 443, GET, "Host : api.test\r\n"),
    (
        "forwarded host",
        443,
        GET,
        "Host: evil.test\r\nX-Forwarded-Host: api.test\r\n",
    ),
    ("zone", 443, GET, "Host: [fe80::1%25eth0]\r\n"),
    ("backslash", 443, GET, "Host: api.test\\@evil.test\r\n"),
    ("tab", 443, GET, "Host: api.test\tevil.test\r\n"),
    ("comma", 443, GET, "Host: api.test, evil.test\r\n"),
];
const GET: &str = "GET /matrix HTTP/1.1";

/// None of them may carry the secret.
fn odd_cases(stub: &str) -> Vec<Probe> {
    let probes = ODD.iter().map(|(label, port, line, hosts)| {
        let message =
            format!("{line}\r\n{hosts}Authorization: Bearer {stub}\r\nConnection: close\r\n\r\n");
        Probe {
            case: case(OWN, *port, Some(OWN), Message::H1(message)),
            diagonal: false,
            label: (*label).into(),
        }
    });
    probes.collect()
}

fn case(dial: &str, port: u16, sni: Option<&str>, message: Message) -> Case {
    Case {
        dial: dial.into(),
        port,
        sni: sni.map(str::to_owned),
        plain: false,
        message,
        cut: None,
        fragment: None,
    }
}

/// What the client in the sandbox reads instead of the stub that it holds.
const STUB: &str = "@STUB@";

#[test]
fn a_swap_happens_only_where_all_names_agree() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let probes = [h1_cases(STUB), h2_cases(STUB), odd_cases(STUB)]
        .into_iter()
        .flatten();
    let probes: Vec<Probe> = probes.collect();
    assert!(probes.len() > 200, "{}", probes.len());

    let seen = run(&node, &probes)?;
    for (probe, seen) in probes.iter().zip(&seen) {
        check(probe, seen).with_context(|| probe.label.clone())?;
    }

    let expected = probes.iter().filter(|probe| probe.diagonal).count();
    let requests = node.ledger()?.with(&[("kind", "request")]);
    let real = |record: &&serde_json::Value| {
        node.secrets()
            .find_in(record.to_string().as_bytes())
            .is_some()
    };
    assert_eq!(
        requests.iter().filter(real).count(),
        expected,
        "swaps on the diagonal, no other"
    );
    for request in requests.iter().filter(real) {
        assert_eq!(text(request, "sni"), OWN, "{request}");
        assert!(text(request, "local").ends_with(":443"), "{request}");
    }
    let swaps = daemon.metric("ersatz_swaps_total", &[r#"credential="api""#])?;
    assert!(
        swaps == expected as u64,
        "{swaps} swaps counted, {expected} expected"
    );
    let refused = seen.iter().filter(|seen| seen.status == Some(421)).count();
    let counted = daemon.metric("ersatz_requests_total", &[r#"reason="authority-mismatch""#])?;
    assert!(
        counted == refused as u64,
        "{counted} counted, {refused} seen"
    );
    let audited = node
        .audit()?
        .with(&[("reason", "authority-mismatch")])
        .len();
    assert_eq!(audited, refused, "a record for each");
    Ok(())
}

fn run(node: &Node, probes: &[Probe]) -> Result<Vec<Seen>> {
    let cases: Vec<&Case> = probes.iter().map(|probe| &probe.case).collect();
    let client = format!(
        "sed \"s/{STUB}/$API_TOKEN/g\" | {} probe",
        tool("ersatz-client").display()
    );
    let mut running = Running::start(node.sandboxed(&["sh", "-c", &client]))?;
    running.feed(&serde_json::to_vec(&cases)?)?;
    let output = running.finish(PATIENCE)?.success()?;
    let seen: Vec<Seen> = serde_json::from_str(&output)?;
    ensure!(
        seen.len() == probes.len(),
        "{} answers to {} probes",
        seen.len(),
        probes.len()
    );
    Ok(seen)
}

fn check(probe: &Probe, seen: &Seen) -> Result<()> {
    ensure!(seen.error.as_deref() != Some("hang"), "hung");
    if probe.diagonal {
        ensure!(seen.status == Some(200), "not served: {seen:?}");
        return Ok(());
    }
    ensure!(seen.status != Some(200), "served: {seen:?}");
    let allowed = [OWN, "open.test", "models.test", "other.test"];
    let Some(sni) = &probe.case.sni else {
        return Ok(());
    };
    if !allowed.contains(&sni.as_str()) {
        ensure!(
            seen.status.is_none(),
            "a handshake for a name that is not allowed: {seen:?}"
        );
    }
    Ok(())
}

#[test]
fn a_hello_in_pieces_is_a_hello_still() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {OWN}\r\nAuthorization: Bearer {STUB}\r\nConnection: close\r\n\r\n"
    );
    let whole = case(OWN, 443, Some(OWN), Message::H1(request));
    // Within the record's header, the handshake's, the random, the extensions.
    let cuts = [
        1, 2, 4, 5, 6, 9, 11, 43, 44, 77, 100, 120, 150, 180, 200, 230,
    ];
    let cut = cuts.map(|at| Case {
        cut: Some(at),
        ..whole.clone()
    });
    let fragmented = [32, 33, 40, 64, 100].map(|size| Case {
        fragment: Some(size),
        ..whole.clone()
    });
    let probes: Vec<Probe> = cut
        .into_iter()
        .chain(fragmented)
        .map(|case| Probe {
            label: format!("cut={:?} fragment={:?}", case.cut, case.fragment),
            case,
            diagonal: true,
        })
        .collect();
    for (probe, seen) in probes.iter().zip(&run(&node, &probes)?) {
        check(probe, seen).with_context(|| probe.label.clone())?;
    }
    Ok(())
}

#[test]
fn a_server_name_in_disguise_is_no_way_to_another_host() -> Result<()> {
    let node = Node::new()?;
    let mut daemon = node.daemon()?;
    let script = r#"python3 - <<'END'
import os, socket, ssl
names = ["API.TEST", "api.test.", "api.test..", ".api.test", "api..test", "api.test.evil.test", "evil.test",
    "xapi.test", "api_.test", "-api.test", "xn--api.test", "a" * 63 + ".test", "wild.test", "a.b.wild.test",
    "10.213.0.1", "127.0.0.1", "localhost", "test", "api.test\x00.evil.test", "evil.test\x00api.test", "api.test evil.test"]
address = socket.getaddrinfo("api.test", 443, socket.AF_INET)[0][4]
for name in names:
    context = ssl._create_unverified_context()
    try:
        with context.wrap_socket(socket.create_connection(address, 10), server_hostname=name) as s:
            host = name.replace("\x00", "")
            head = "GET /disguise HTTP/1.1|Host: " + host + "|Authorization: Bearer " + os.environ["API_TOKEN"]
            s.sendall((head + "|Connection: close||").replace("|", chr(13)+chr(10)).encode())
            print(repr(name), s.recv(4096)[:15])
    except (OSError, ValueError, TypeError) as error:
        print(repr(name), type(error).__name__)
END"#;
    let answer = node.shell(script)?.success()?;
    let served: Vec<&str> = answer
        .lines()
        .filter(|line| line.contains(" 200 "))
        .collect();
    let own = |line: &&str| {
        line.to_ascii_lowercase().starts_with("'api.test'") || line.starts_with("'api.test.'")
    };
    assert!(served.iter().all(own), "{served:#?}");
    for request in &node.ledger()?.with(&[("kind", "request")]) {
        assert_eq!(text(request, "sni"), OWN, "{request}");
    }
    assert!(daemon.is_alive());
    Ok(())
}

#[test]
fn every_request_of_a_connection_is_judged_for_itself() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let request = |host: &str, end: &str| {
        format!("GET /each HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {STUB}\r\n{end}\r\n")
    };
    let pipeline = [
        request(OWN, ""),
        request("evil.test", ""),
        request(OWN, "Connection: close\r\n"),
    ];
    let probe = Probe {
        case: case(OWN, 443, Some(OWN), Message::H1(pipeline.concat())),
        diagonal: true,
        label: "pipelined".into(),
    };
    let seen = run(&node, &[probe])?;
    let answer = &seen.first().context("no answer")?.answer;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("HTTP/1.1 421"), "{answer}");
    let requests = node.ledger()?.with(&[("kind", "request")]);
    assert!(
        requests.iter().all(|request| text(request, "sni") == OWN),
        "{requests}"
    );
    assert!(requests.len() <= 2, "{requests}");
    Ok(())
}
