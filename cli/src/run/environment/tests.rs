//! What the command is told, and what it is not.

use std::net::{IpAddr, Ipv4Addr};

use clap::Parser;

use super::*;

const SECRET: &str = "ghp_real_0123456789";
const STUB: &str = "ghp_stub_9876543210";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

struct Case {
    options: Options,
    user: User,
    secrets: Vec<Known>,
    enrolled: Enrolled,
}

impl Case {
    fn new(line: &str) -> Case {
        let words = format!("run {line}");
        Case {
            options: Line::parse_from(words.split_whitespace()).options,
            user: User {
                uid: 1234,
                gid: 1234,
                groups: vec![1234],
                name: Some("agent".to_owned()),
                home: Some("/home/agent".into()),
                shell: Some("/bin/sh".into()),
            },
            secrets: vec![Known {
                credential: "github".to_owned(),
                value: Zeroizing::new(SECRET.into()),
                variable: Some("REAL_TOKEN".to_owned()),
            }],
            enrolled: Enrolled {
                env: [("GITHUB_TOKEN".to_owned(), STUB.to_owned())].into(),
                stubs: [("github".to_owned(), STUB.to_owned())].into(),
                ca_pem: String::new(),
                resolver: IpAddr::V4(Ipv4Addr::new(100, 64, 0, 1)),
                hidden: Vec::new(),
            },
        }
    }

    fn assemble(&self, inherited: &[(&str, &str)]) -> anyhow::Result<BTreeMap<String, String>> {
        let inherited = inherited
            .iter()
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        let inputs = Inputs {
            inherited,
            options: &self.options,
            user: &self.user,
            secrets: &self.secrets,
            enrolled: &self.enrolled,
            path: None,
        };
        let text = |text: OsString| text.into_string().expect("the cases are UTF-8");
        Ok(inputs
            .assemble()?
            .into_iter()
            .map(|(n, v)| (text(n), text(v)))
            .collect())
    }
}

#[test]
fn stubs_are_there_and_secrets_are_not() {
    let inherited = [
        ("REAL_TOKEN", SECRET),
        ("GH_TOKEN", SECRET),
        ("DATABASE", "postgres://me:ghp_real_0123456789@db/x"),
        ("HARMLESS", "ghp_real"),
    ];
    let environment = Case::new("-- x").assemble(&inherited).expect("assembled");
    assert_eq!(
        environment.get("GITHUB_TOKEN").map(String::as_str),
        Some(STUB)
    );
    assert_eq!(environment.get("GH_TOKEN").map(String::as_str), Some(STUB));
    assert!(!environment.contains_key("REAL_TOKEN") && !environment.contains_key("DATABASE"));
    assert_eq!(
        environment.get("HARMLESS").map(String::as_str),
        Some("ghp_real")
    );
    assert!(!environment.values().any(|value| value.contains(SECRET)));
}

#[test]
fn a_stub_takes_the_place_of_an_inherited_variable() {
    let environment = Case::new("-- x")
        .assemble(&[("GITHUB_TOKEN", "old")])
        .expect("assembled");
    assert_eq!(
        environment.get("GITHUB_TOKEN").map(String::as_str),
        Some(STUB)
    );
}

#[test]
fn a_short_secret_is_looked_for_as_a_whole_value_only() {
    let mut case = Case::new("-- x");
    case.secrets = vec![Known {
        credential: "github".to_owned(),
        value: Zeroizing::new(b"abc".to_vec()),
        variable: None,
    }];
    let environment = case
        .assemble(&[("A", "abc"), ("B", "xabcx")])
        .expect("assembled");
    assert_eq!(environment.get("A").map(String::as_str), Some(STUB));
    assert_eq!(environment.get("B").map(String::as_str), Some("xabcx"));
}

#[test]
fn a_command_line_with_a_secret_is_refused() {
    let case = Case::new(&format!("-- curl -H Authorization:{SECRET}"));
    let error = case.assemble(&[]).expect_err("refused").to_string();
    assert!(
        error.contains("credential github") && !error.contains(SECRET),
        "{error}"
    );
}

#[test]
fn proxies_agents_and_sessions_are_removed() {
    let inherited = [
        "http_proxy",
        "HTTPS_PROXY",
        "no_proxy",
        "SSH_AUTH_SOCK",
        "SUDO_UID",
        "TMUX",
    ];
    let inherited: Vec<_> = inherited.iter().map(|name| (*name, "x")).collect();
    let environment = Case::new("-- x").assemble(&inherited).expect("assembled");
    assert!(
        inherited
            .iter()
            .all(|(name, _)| !environment.contains_key(*name))
    );
}

#[test]
fn the_user_is_the_sandboxes() {
    let inherited = [("HOME", "/root"), ("USER", "root"), ("PATH", "/opt/bin")];
    let environment = Case::new("-- x").assemble(&inherited).expect("assembled");
    assert_eq!(
        environment.get("HOME").map(String::as_str),
        Some("/home/agent")
    );
    assert_eq!(environment.get("USER").map(String::as_str), Some("agent"));
    assert_eq!(
        environment.get("PATH").map(String::as_str),
        Some("/opt/bin")
    );
}

#[test]
fn every_tool_is_told_whom_to_trust() {
    let environment = Case::new("-- x")
        .assemble(&[("JAVA_TOOL_OPTIONS", "-Xmx1g")])
        .expect("assembled");
    for name in BUNDLE.iter().chain(ADDED).chain(&["SSL_CERT_DIR"]) {
        let value = environment.get(*name).expect("every variable is set");
        assert!(value.starts_with(DIRECTORY), "{name}={value}");
    }
    let java = environment.get("JAVA_TOOL_OPTIONS").expect("set");
    assert!(
        java.starts_with("-Xmx1g -Djavax.net.ssl.trustStore="),
        "{java}"
    );
}

#[test]
fn no_env_keeps_what_is_essential_or_asked_for() {
    let inherited = [
        ("LANG", "C"),
        ("LC_ALL", "C"),
        ("EDITOR", "vi"),
        ("MINE", "1"),
        ("TERM", "vt100"),
    ];
    let case = Case::new("--no-env --keep-env MINE -- x");
    let environment = case.assemble(&inherited).expect("assembled");
    for name in ["LANG", "LC_ALL", "MINE", "TERM", "PATH", "HOME"] {
        assert!(environment.contains_key(name), "{name}");
    }
    assert!(!environment.contains_key("EDITOR"));
}
