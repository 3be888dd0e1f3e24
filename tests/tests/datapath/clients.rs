//! Unmodified clients hold a stub; the server sees the real secret.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use ersatz_tests::rig::{Node, python, text};

/// Runs a client with a stub against `api.test` and looks at all that it left.
fn succeeds(node: &Node, client: &str, command: &[&str], version: &str) -> Result<()> {
    let before = node.ledger()?.with(&[("kind", "request")]).len();
    let answer = node
        .run(command)?
        .success()
        .with_context(|| format!("{client} failed"))?;
    ensure!(answer.contains("\"ok\":true"), "{client}: {answer}");

    let real = format!("Bearer {}", node.secrets().api);
    let requests = node.ledger()?.with(&[("kind", "request")]);
    let request = requests
        .iter()
        .nth(before)
        .context("the server saw no request")?;
    ensure!(
        text(request, "headers").contains(&real),
        "{client}: no real secret in {request}"
    );
    ensure!(text(request, "version") == version, "{client}: {request}");

    let path = text(request, "target");
    let path = path
        .strip_prefix("https://api.test")
        .unwrap_or(&path)
        .to_owned();
    let record = node.audit_with(|record| text(record, "path") == path)?;
    ensure!(text(&record, "verdict") == "allow", "{client}: {record}");
    ensure!(text(&record, "status") == "200", "{client}: {record}");
    ensure!(
        text(&record, "credentials").contains(r#""name":"api""#),
        "{client}: {record}"
    );
    ensure!(
        !record.to_string().contains(&node.secrets().api),
        "{client}: a secret in the audit"
    );
    Ok(())
}

/// Runs each as `sh -c`, with a path of its own to be found by.
fn all_succeed(clients: &[(&str, &str, &str)]) -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    for (number, (client, script, version)) in clients.iter().enumerate() {
        let script = script.replace("URL", &format!("https://api.test/client/{number}"));
        succeeds(&node, client, &["sh", "-c", &script], version)?;
    }
    let swaps = daemon.metric("ersatz_swaps_total", &[r#"credential="api""#])?;
    ensure!(swaps >= clients.len() as u64, "{swaps} swaps were counted");
    let allowed = daemon.metric("ersatz_requests_total", &[r#"verdict="allow""#])?;
    ensure!(
        allowed >= clients.len() as u64,
        "{allowed} requests were counted"
    );
    Ok(())
}

const H1: &str = "HTTP/1.1";
const H2: &str = "HTTP/2.0";

#[test]
fn curl_succeeds_with_both_protocols_over_both_families() -> Result<()> {
    const CURL: &str = r#"-sS --max-time 20 -H "Authorization: Bearer $API_TOKEN" URL"#;
    all_succeed(&[
        ("curl h1 v4", &format!("curl -4 --http1.1 {CURL}"), H1),
        ("curl h1 v6", &format!("curl -6 --http1.1 {CURL}"), H1),
        ("curl h2 v4", &format!("curl -4 --http2 {CURL}"), H2),
        ("curl h2 v6", &format!("curl -6 --http2 {CURL}"), H2),
        (
            "curl tls 1.2",
            &format!("curl --tls-max 1.2 --http2 {CURL}"),
            H2,
        ),
    ])
}

#[test]
fn wget_succeeds() -> Result<()> {
    let script = r#"wget -q -T 20 -t 1 -O - --header "Authorization: Bearer $API_TOKEN" URL"#;
    all_succeed(&[("wget", script, H1)])
}

#[test]
fn python_clients_succeed() -> Result<()> {
    let python = python();
    let run = |code: &str| format!("{python} -c '{}'", code.replace('\'', "\""));
    let requests = run("import os, requests
print(requests.get('URL', headers={'Authorization': 'Bearer ' + os.environ['API_TOKEN']}, timeout=20).text)");
    let httpx = run("import os, httpx
with httpx.Client(http2=True, timeout=20) as c:
    print(c.get('URL', headers={'Authorization': 'Bearer ' + os.environ['API_TOKEN']}).text)");
    let aiohttp = run("import os, asyncio, aiohttp
async def main():
    async with aiohttp.ClientSession() as s:
        async with s.get('URL', headers={'Authorization': 'Bearer ' + os.environ['API_TOKEN']}) as r:
            print(await r.text())
asyncio.run(main())");
    all_succeed(&[
        ("requests", &requests, H1),
        ("httpx", &httpx, H2),
        ("aiohttp", &aiohttp, H1),
    ])
}

#[test]
fn node_fetch_succeeds() -> Result<()> {
    let script = r#"node -e '
fetch("URL", {headers: {authorization: "Bearer " + process.env.API_TOKEN}})
  .then((r) => r.text()).then(console.log)'"#;
    all_succeed(&[("node fetch", script, H1)])
}

#[test]
fn go_succeeds() -> Result<()> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("main.go"), GO)?;
    let mut build = Command::new("go");
    build
        .args(["build", "-o", "client", "main.go"])
        .current_dir(directory.path());
    ensure!(
        build.env("CGO_ENABLED", "0").status()?.success(),
        "go build failed"
    );
    let client = directory.path().join("client");
    all_succeed(&[("go net/http", &format!("{} URL", client.display()), H2)])
}

const GO: &str = r#"package main

import (
	"io"
	"net/http"
	"os"
)

func main() {
	request, _ := http.NewRequest("GET", os.Args[1], nil)
	request.Header.Set("Authorization", "Bearer "+os.Getenv("API_TOKEN"))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	io.Copy(os.Stdout, response.Body)
}
"#;

#[test]
fn the_sandbox_holds_no_secret_in_environment_files_and_proc() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let script = format!(
        "env
         cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/maps 2>/dev/null
         cat /proc/self/mountinfo
         find {0} /run /dev/shm /etc/ersatz -type f -size -4M -exec cat {{}} + 2>/dev/null
         true",
        node.directory().display()
    );
    let seen = node.shell(&script)?;
    let (stdout, stderr) = (seen.stdout.clone(), seen.stderr.clone());
    seen.success()?;
    assert!(
        stdout.contains("API_TOKEN=ghp_"),
        "the stub is there, in its shape: {stdout}"
    );
    for output in [stdout, stderr] {
        assert_eq!(node.secrets().find_in(output.as_bytes()), None);
    }
    Ok(())
}

#[test]
fn stubs_differ_from_sandbox_to_sandbox() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let print = "echo $API_TOKEN $GIT_PASSWORD $MODELS_KEY";
    let first = node.shell(print)?.success()?;
    let second = node.shell(print)?.success()?;
    let words: Vec<&str> = first
        .split_whitespace()
        .chain(second.split_whitespace())
        .collect();
    let distinct: std::collections::BTreeSet<&&str> = words.iter().collect();
    assert_eq!((words.len(), distinct.len()), (6, 6), "{first}{second}");
    Ok(())
}
