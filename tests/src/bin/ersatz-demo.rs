//! The demonstration: `ersatz run` in a small world of its own.
//!
//! A sandbox that holds stubs clones, pushes and calls an API; then its stubs
//! and what the servers got are shown side by side, and the sandbox's
//! environment, files and `/proc` are searched for the real secrets.

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ersatz_tests::rig::{Node, Running, repository, text};

const PATIENCE: Duration = Duration::from_mins(1);

/// What is shown of a step, what runs, and whether it must succeed.
struct Step {
    shown: &'static str,
    script: &'static str,
    allowed: bool,
}

const STEPS: [Step; 5] = [
    Step {
        shown: "git clone https://agent:$GIT_PASSWORD@git.test/acme.git",
        script: "git clone -q https://agent:$GIT_PASSWORD@git.test/acme.git /tmp/ersatz-demo-$$",
        allowed: true,
    },
    Step {
        shown: "git commit -am 'by an agent' && git push origin HEAD:agent",
        script: "cd /tmp/ersatz-demo-$$ && echo agent > by && git add by \
            && git -c user.name=agent -c user.email=agent@test commit -qm 'by an agent' \
            && git push -q origin HEAD:agent; code=$?; cd /; rm -rf /tmp/ersatz-demo-$$; (exit $code)",
        allowed: true,
    },
    Step {
        shown: "curl --http2 -H \"Authorization: Bearer $API_TOKEN\" https://api.test/user",
        script: "curl -sSf --http2 -o /dev/null -H \"Authorization: Bearer $API_TOKEN\" https://api.test/user",
        allowed: true,
    },
    Step {
        shown: "curl -H \"Authorization: Bearer $API_TOKEN\" https://open.test/   # not its host",
        script: "curl -sSf -o /dev/null -H \"Authorization: Bearer $API_TOKEN\" https://open.test/",
        allowed: false,
    },
    Step {
        shown: "curl https://evil.test/                                          # not allowed",
        script: "curl -sSf -o /dev/null https://evil.test/",
        allowed: false,
    },
];

fn main() -> ExitCode {
    match show() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show() -> Result<bool> {
    let node = Node::new()?;
    repository(&node.world_directory(), 1_000_000)?;
    println!(
        "\n  ersatz run -f policy.yaml -- sh     (git.test wants Basic, api.test Bearer over HTTP/2)\n"
    );
    let output = run(&node)?;
    let steps = STEPS
        .iter()
        .map(|step| show_step(step, &output))
        .filter(|good| !good)
        .count()
        == 0;
    let swapped = show_sides(&node, &output)?;
    let clean = node.secrets().find_in(output.as_bytes()).is_none();
    let found = if clean { "not found" } else { "FOUND" };
    println!(
        "  the real secrets, searched for in the sandbox's environment, files and /proc: {found}"
    );
    show_audit(&node)?;
    Ok(steps && swapped && clean)
}

/// Runs all steps in one sandbox, then lets it print all that it can read of itself.
fn run(node: &Node) -> Result<String> {
    let steps = STEPS.iter().enumerate().map(|(number, step)| {
        format!(
            "start=$(date +%s%3N); error=$({{ {}; }} 2>&1); code=$?\n\
             echo \"step {number} $code $(($(date +%s%3N) - start)) $(echo $error | tail -c 70)\"\n",
            step.script
        )
    });
    let script = format!(
        "export HOME=/tmp\n{}\
         echo \"stub api $API_TOKEN\"; echo \"stub git $GIT_PASSWORD\"\n\
         env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null\n\
         find {} /run /dev/shm -type f -size -1000k -exec cat {{}} + 2>/dev/null; true\n",
        steps.collect::<String>(),
        node.directory().display()
    );
    let file = |name: &str| node.directory().join(name).to_string_lossy().into_owned();
    let files = [
        "config/credentials.yaml",
        "config/policy.yaml",
        "config/node.yaml",
    ]
    .map(file);
    let audit = node.audit_file().to_string_lossy().into_owned();
    let mut options: Vec<&str> = files
        .iter()
        .flat_map(|file| ["-f", file.as_str()])
        .collect();
    options.extend(["--audit", &audit]);
    let run = node.ersatz_run(&options, &["sh", "-c", &script]);
    Running::start(run)?
        .finish(PATIENCE)?
        .success()
        .context("the sandbox failed")
}

fn show_step(step: &Step, output: &str) -> bool {
    let number = STEPS
        .iter()
        .position(|other| other.shown == step.shown)
        .unwrap_or_default();
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix(&format!("step {number} ")));
    let mut words = line.unwrap_or_default().splitn(3, ' ');
    let succeeded = words.next() == Some("0");
    let took = words.next().unwrap_or("?");
    let good = succeeded == step.allowed;
    let mark = match (good, step.allowed) {
        (true, true) => paint("32", "✔"),
        (true, false) => paint("33", "✘"),
        (false, _) => paint("31", "!"),
    };
    println!("  {mark} {:<82} {took:>5} ms", step.shown);
    if !succeeded {
        println!(
            "      {}",
            paint("2", words.next().unwrap_or_default().trim())
        );
    }
    good
}

/// The stubs that the sandbox printed beside what the ledger says.
fn show_sides(node: &Node, output: &str) -> Result<bool> {
    let (held, got) = ("what the sandbox held", "what the server got");
    println!(
        "\n  {:10} {}{:23} {}",
        "",
        paint("1", held),
        "",
        paint("1", got)
    );
    let mut all_real = true;
    for (name, host, real) in [
        ("api", "api.test", &node.secrets().api),
        ("git", "git.test", &node.secrets().git),
    ] {
        let prefix = format!("stub {name} ");
        let stub = output
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or("nothing");
        let got = received(node, host)?;
        let right = got.as_ref() == Some(real) && stub != real;
        all_real &= right;
        let mark = if right {
            String::new()
        } else {
            paint("31", "   not the real one")
        };
        println!(
            "  {host:<10} {stub:<44} {}{mark}",
            got.unwrap_or_else(|| "nothing".into())
        );
    }
    println!();
    Ok(all_real)
}

/// The last credential that a server of the world got, decoded.
fn received(node: &Node, host: &str) -> Result<Option<String>> {
    let requests = node.ledger()?.with(&[("kind", "request"), ("sni", host)]);
    let credential = |headers: String| -> Option<String> {
        let headers: Vec<[String; 2]> = serde_json::from_str(&headers).ok()?;
        let [_, value] = headers
            .into_iter()
            .find(|[name, _]| name == "authorization")?;
        let (scheme, value) = value.split_once(' ')?;
        if scheme != "Basic" {
            return Some(value.to_owned());
        }
        let pair = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
        pair.split_once(':')
            .map(|(_, password)| password.to_owned())
    };
    Ok(requests
        .field("headers")
        .into_iter()
        .filter_map(credential)
        .next_back())
}

fn show_audit(node: &Node) -> Result<()> {
    let audit = node.audit()?;
    let refused = audit.with(&[("verdict", "deny")]);
    let swapped = audit
        .iter()
        .filter(|record| text(record, "credentials").contains("name"))
        .count();
    println!(
        "  the audit log: {} records, {swapped} with a swap, {} refused ({})\n",
        audit.len(),
        refused.len(),
        refused.field("reason").join(", ")
    );
    Ok(())
}

/// Text in a colour (SGR), on a terminal.
fn paint(colour: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
