use std::time::Duration;

use ersatz_policy::{Name, Tls};
use proptest::prelude::*;
use rstest::rstest;

use super::*;

const DESIGN: &str = include_str!("../../testdata/design.yaml");

/// A policy and a credential around the spec of one of them.
fn credential(spec: &str) -> String {
    format!(
        "apiVersion: ersatz.dev/v1alpha1\nkind: Credential\nmetadata: {{name: c}}\nspec:\n{spec}"
    )
}

fn policy(allow: &str) -> String {
    format!(
        "apiVersion: ersatz.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: p}}\nspec:\n  allow:\n{allow}"
    )
}

/// Each error as `line:column field: message | hint`.
fn errors(text: &str) -> Vec<String> {
    let Err(errors) = Resources::parse("f.yaml", text) else {
        return Vec::new();
    };
    let line = |error: &LoadError| {
        let hint = error
            .hint
            .as_ref()
            .map_or_else(String::new, |hint| format!(" | {hint}"));
        let place = error.place.to_string();
        format!(
            "{} {}: {}{hint}",
            place.trim_start_matches("f.yaml:"),
            error.field,
            error.message
        )
    };
    errors.iter().map(line).collect()
}

#[test]
fn the_example_of_the_documentation_is_valid_and_means_what_it_says() {
    let resources = Resources::parse("/etc/ersatz/design.yaml", DESIGN).unwrap();
    let (policy, sources) = resources.policy(None).unwrap();
    assert_eq!(policy.name(), "coding-agents");
    assert_eq!(policy.credentials().len(), 2);
    assert_eq!(
        sources
            .iter()
            .map(|granted| &granted.source)
            .collect::<Vec<_>>(),
        [
            &Source::Env {
                name: "REAL_GITHUB_TOKEN".into()
            },
            &Source::Exec {
                command: vec!["pass".into(), "show".into(), "anthropic".into()],
                timeout: Duration::from_secs(5),
                ttl: Duration::from_mins(5),
            },
        ]
    );
    let name = |text: &str| Name::parse(text.as_bytes()).unwrap();
    assert!(matches!(
        policy.tls(&name("api.github.com"), 443),
        Ok(Tls::Intercept(_))
    ));
    assert!(matches!(
        policy.tls(&name("a.cdn.example.com"), 443),
        Ok(Tls::Passthrough(_))
    ));
    assert!(
        policy
            .opaque(
                Some(&name("db.example.com")),
                "198.18.0.1:5432".parse().unwrap()
            )
            .is_some()
    );
    assert!(
        policy
            .opaque(None, "10.20.1.1:9092".parse().unwrap())
            .is_some()
    );
    assert!(!policy.resolves(&name("example.org")));
    let node = resources.node().unwrap();
    assert_eq!(node.audit_file, Some("/var/log/ersatz/audit.jsonl".into()));
    assert!(node.public_roots && node.resolvers.is_empty());
}

#[test]
fn resources_travel_as_json() {
    let resources = Resources::parse("design.yaml", DESIGN).unwrap();
    let json = serde_json::to_string(&resources).unwrap();
    let back: Resources = serde_json::from_str(&json).unwrap();
    assert_eq!(back, resources);
    assert!(back.policy(Some("coding-agents")).is_ok());
}

#[test]
fn grants_are_found_in_the_file() {
    let resources = Resources::parse("design.yaml", DESIGN).unwrap();
    let place = |grantor: &Grantor| {
        resources
            .place_of("coding-agents", grantor)
            .unwrap()
            .to_string()
    };
    assert_eq!(place(&Grantor::Rule(1)), "design.yaml:27:5");
    let credential = CredentialName::parse("github").unwrap();
    assert_eq!(
        place(&Grantor::Use {
            credential,
            index: 1
        }),
        "design.yaml:9:5"
    );
}

#[test]
fn all_errors_of_a_file_are_reported_at_once() {
    let text = "\
apiVersion: ersatz.dev/v1alpha1
kind: Credential
metadata: {name: github, nmae: x}
spec:
  from: {env: {name: 1BAD}, file: {path: /x}}
  stub: {env: PATH, shape: short}
  use:
  - {hosts: [api.github.com, 'https://x/', 7], in: [{headr: authorization}]}
  - {host: [github.com], in: []}
---
apiVersion: ersatz.dev/v1alpha1
kind: EgressPolicy
metadata: {name: p}
spec:
  allow:
  - {hosts: [], cidrs: [10.0.0.1/8], ports: [0], mode: tpc}
  - {hosts: ['*'], http: []}
";
    assert_each(
        &errors(text),
        &[
            "3:26 metadata.nmae: unknown field `nmae` | did you mean `name`?",
            "5:9 spec.from: exactly one of `env`, `file`, `exec` is needed",
            "6:15 spec.stub.env: a stub in PATH would break",
            "6:28 spec.stub.shape: stubs would have 0 bits",
            "8:44 spec.use[0].hosts[2]: integer `7` is here, but a text is needed | write it in quotes",
            "8:55 spec.use[0].in[0].headr: unknown field `headr` | did you mean `header`?",
            "9:6 spec.use[1].host: unknown field `host` | did you mean `hosts`?",
            "16:5 spec.allow[0].mode: unknown value \"tpc\" | did you mean `tcp`?",
            "17:12 spec.allow[1].hosts[0]: a wildcard for every host",
            "17:19 spec.allow[1].http: the list is empty",
        ],
    );
}

/// Each expected text must be the beginning of some error, in the same place; order within a line is free.
fn assert_each(found: &[String], expected: &[&str]) {
    for expected in expected {
        let (place, rest) = expected.split_once(' ').unwrap();
        let line = place.split(':').next().unwrap();
        let (message, hint) = rest.split_once(" | ").unwrap_or((rest, ""));
        let matches = |error: &&String| {
            error.starts_with(&format!("{line}:"))
                && error.contains(message)
                && error.contains(hint)
        };
        assert!(
            found.iter().any(|error| matches(&error)),
            "no {expected:?} in\n{}",
            found.join("\n")
        );
    }
}

#[test]
fn errors_that_only_follow_from_another_are_left_out() {
    let misspelt = errors(&policy(
        "  - {host: [a.com]}\n  - {cidrs: [10.0.0.0/8], ports: [1], mode: tpc}",
    ));
    assert_eq!(
        misspelt,
        [
            "6:6 spec.allow[0].host: unknown field `host` | did you mean `hosts`?",
            "7:45 spec.allow[1].mode: unknown value \"tpc\" | did you mean `tcp`?",
        ]
    );
}

#[rstest]
#[case::scalar("5", "1:1 : the document is not a resource")]
#[case::no_version("kind: Credential", "1:1 apiVersion: the field is missing")]
#[case::old_version(
    "apiVersion: v1\nkind: Credential",
    "1:13 apiVersion: \"v1\" is not known"
)]
#[case::no_kind("apiVersion: ersatz.dev/v1alpha1", "1:1 kind: the field is missing")]
#[case::kind(
    "apiVersion: ersatz.dev/v1alpha1\nkind: credential",
    "2:7 kind: \"credential\" is not a kind of resource | did you mean `Credential`?"
)]
#[case::no_metadata(
    "apiVersion: ersatz.dev/v1alpha1\nkind: EgressPolicy\nspec: {}",
    "1:1 metadata: the field is missing"
)]
#[case::bad_name(
    "apiVersion: ersatz.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: A_B}\nspec: {}",
    "3:18 metadata.name: a name has lower-case"
)]
#[case::syntax("a: [b\nc: d", "2:")]
#[case::twice(
    "apiVersion: ersatz.dev/v1alpha1\nkind: EgressPolicy\nkind: EgressPolicy\nmetadata: {name: p}\nspec: {}",
    "3:1 : duplicate"
)]
#[case::anchor("a: &x 1\nb: *x", "1:")]
#[case::tag("a: !!python/object:os.system 1", "1:")]
#[case::merge("a: {<<: {b: 1}}", "1:")]
fn documents_that_are_no_resources(#[case] text: &str, #[case] expected: &str) {
    let found = errors(text);
    assert!(
        found.first().is_some_and(
            |error| error.starts_with(expected) || error.to_lowercase().starts_with(expected)
        ),
        "{found:?}"
    );
}

#[rstest]
#[case::null_is_not_absent(
    "  - {hosts: [a.com], ports: }",
    "spec.allow[0].ports: the field has no value"
)]
#[case::null_paths(
    "  - {hosts: [a.com], http: [{paths: ~, methods: [GET]}]}",
    "http[0].paths: the field has no value"
)]
#[case::empty_hosts("  - {hosts: []}", "spec.allow[0].hosts: the list is empty")]
#[case::empty_ports(
    "  - {hosts: [a.com], ports: []}",
    "spec.allow[0].ports: the list is empty"
)]
#[case::empty_cidrs(
    "  - {cidrs: [], ports: [1], mode: tcp}",
    "spec.allow[0].cidrs: the list is empty"
)]
#[case::empty_http(
    "  - {hosts: [a.com], http: []}",
    "spec.allow[0].http: the list is empty"
)]
#[case::empty_http_entry(
    "  - {hosts: [a.com], http: [{}]}",
    "spec.allow[0].http[0]: `methods` or `paths` is needed"
)]
#[case::empty_methods(
    "  - {hosts: [a.com], http: [{methods: []}]}",
    "http[0].methods: the list is empty"
)]
#[case::empty_paths(
    "  - {hosts: [a.com], http: [{paths: []}]}",
    "http[0].paths: the list is empty"
)]
#[case::nothing("  - {}", "spec.allow[0]: exactly one of `hosts` and `cidrs`")]
#[case::both(
    "  - {hosts: [a.com], cidrs: [10.0.0.0/8], mode: tcp, ports: [1]}",
    "spec.allow[0]: exactly one of"
)]
#[case::cidr_by_tls(
    "  - {cidrs: [10.0.0.0/8]}",
    "spec.allow[0].cidrs: addresses are for `mode: tcp` only"
)]
#[case::everything(
    "  - {cidrs: [0.0.0.0/0], mode: tcp, ports: [1]}",
    "spec.allow[0].cidrs[0]: a prefix of no bits"
)]
#[case::tcp_without_port(
    "  - {hosts: [a.com], mode: tcp}",
    "spec.allow[0].ports: `mode: tcp` needs its ports"
)]
#[case::passthrough_judged(
    "  - {hosts: [a.com], mode: passthrough, http: [{methods: [GET]}]}",
    "spec.allow[0].http: requests cannot be judged"
)]
#[case::port_too_large(
    "  - {hosts: [a.com], ports: [65536]}",
    "spec.allow[0].ports[0]: integer `65536` cannot be here; a number from 0 to 65535"
)]
#[case::port_negative(
    "  - {hosts: [a.com], ports: [-1]}",
    "spec.allow[0].ports[0]: integer `-1`"
)]
#[case::port_zero(
    "  - {hosts: [a.com], ports: [0]}",
    "spec.allow[0].ports[0]: port 0 does not exist"
)]
#[case::hosts_not_a_list(
    "  - {hosts: a.com}",
    "spec.allow[0].hosts: the text \"a.com\" is here, but a list is needed"
)]
#[case::wildcard(
    "  - {hosts: ['*.com']}",
    "spec.allow[0].hosts[0]: the wildcard covers the whole"
)]
#[case::lower_method(
    "  - {hosts: [a.com], http: [{methods: [get]}]}",
    "methods: \"get\" is not a method"
)]
#[case::trace(
    "  - {hosts: [a.com], http: [{methods: [TRACE]}]}",
    "methods: TRACE is never admitted"
)]
#[case::relative_path(
    "  - {hosts: [a.com], http: [{paths: [repos]}]}",
    "paths[0]: a path begins with a slash"
)]
#[case::conflict(
    "  - {hosts: [a.com]}\n  - {hosts: [a.com], mode: passthrough}",
    "spec.allow[1]: a.com on port 443 is handled otherwise by allow[0] (f.yaml:6:5)"
)]
fn rules_that_are_refused(#[case] rules: &str, #[case] expected: &str) {
    let found = errors(&policy(rules));
    assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
}

#[rstest]
#[case::no_source("{}", "[{header: authorization}]", "spec.from: exactly one of")]
#[case::two_sources(
    "{env: {name: A}, file: {path: b}}",
    "[{header: authorization}]",
    "spec.from: exactly one of"
)]
#[case::bad_variable(
    "{env: {name: 'A B'}}",
    "[{header: authorization}]",
    "spec.from.env.name: this is not the name"
)]
#[case::no_command(
    "{exec: {command: []}}",
    "[{header: authorization}]",
    "spec.from.exec.command: the list is empty"
)]
#[case::command_text(
    "{exec: {command: pass show x}}",
    "[{header: authorization}]",
    "spec.from.exec.command: the text \"pass show x\" is here, but a list is needed"
)]
#[case::bad_timeout(
    "{exec: {command: [a], timeout: 10}}",
    "[{header: authorization}]",
    "spec.from.exec.timeout: integer `10` is here, but a text"
)]
#[case::long_timeout(
    "{exec: {command: [a], timeout: 6m}}",
    "[{header: authorization}]",
    "spec.from.exec.timeout: the command may run"
)]
#[case::bad_unit(
    "{exec: {command: [a], timeout: 10sec}}",
    "[{header: authorization}]",
    "spec.from.exec.timeout: not a span of time"
)]
#[case::empty_in("{env: {name: A}}", "[]", "spec.use[0].in: the list is empty")]
#[case::empty_placement(
    "{env: {name: A}}",
    "[{}]",
    "spec.use[0].in[0]: exactly one of `header` and `basic`"
)]
#[case::two_placements(
    "{env: {name: A}}",
    "[{header: a, basic: user}]",
    "spec.use[0].in[0]: exactly one of"
)]
#[case::basic_part(
    "{env: {name: A}}",
    "[{basic: pasword}]",
    "spec.use[0].in[0].basic: unknown value \"pasword\" | did you mean `password`?"
)]
#[case::host_header(
    "{env: {name: A}}",
    "[{header: Host}]",
    "spec.use[0].in[0].header: the header \"host\" frames or routes"
)]
#[case::basic_scheme(
    "{env: {name: A}}",
    "[{header: authorization, scheme: [Basic]}]",
    "spec.use[0].in[0].scheme: Basic is a placement"
)]
#[case::no_scheme(
    "{env: {name: A}}",
    "[{header: authorization, scheme: []}]",
    "spec.use[0].in[0].scheme: the list of schemes is empty"
)]
#[case::no_scheme_bare(
    "{env: {name: A}}",
    "[{header: authorization, scheme: [], bare: true}]",
    "spec.use[0].in[0].scheme: the list of schemes is empty"
)]
fn credentials_that_are_refused(
    #[case] source: &str,
    #[case] placements: &str,
    #[case] expected: &str,
) {
    let found = errors(&credential(&format!(
        "  from: {source}\n  use: [{{hosts: [a.com], in: {placements}}}]"
    )));
    assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
}

#[test]
fn a_policy_that_allows_nothing_is_valid_and_denies() {
    let resources = Resources::parse("f.yaml", &policy("    []")).unwrap();
    let (policy, sources) = resources.policy(None).unwrap();
    assert!(sources.is_empty() && !policy.resolves(&Name::parse(b"a.com").unwrap()));
}

#[test]
fn unknown_credentials_are_named_with_their_place() {
    let text = format!(
        "{DESIGN}---\napiVersion: ersatz.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: q}}\nspec: {{credentials: [githb]}}\n"
    );
    assert_eq!(
        errors(&text),
        ["41:22 spec.credentials[0]: there is no Credential \"githb\" | did you mean `github`?"]
    );
}

#[test]
fn the_same_stub_variable_twice_is_an_error() {
    let one = credential(
        "  from: {env: {name: A}}\n  stub: {env: TOKEN}\n  use: [{hosts: [a.com], in: [{basic: user}]}]\n",
    );
    let other = one.replace("name: c", "name: d");
    let policy = policy("  []").replace("  allow:\n  []", "  credentials: [c, d]");
    let found = errors(&format!("{one}---\n{other}---\n{policy}"));
    assert!(
        found.len() == 1 && found[0].contains("14:15 spec.stub.env: the stubs of c and d"),
        "{found:?}"
    );
}

#[test]
fn several_files_are_one_set_and_duplicates_name_both_places() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    file("a.yaml", DESIGN);
    file("b.yml", &policy("    []"));
    file(".hidden.yaml", "x");
    file("notes.txt", "x");
    let resources = Resources::load(&[directory.path()]).unwrap();
    assert_eq!(
        resources.policy_names().collect::<Vec<_>>(),
        ["coding-agents", "p"]
    );
    assert!(
        resources
            .policy(None)
            .unwrap_err()
            .to_string()
            .contains("there are several policies; name one")
    );
    assert!(resources.policy(Some("p")).is_ok());

    file("c.yaml", &policy("    []"));
    let error = Resources::load(&[directory.path()])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("c.yaml:3:18: metadata.name: there is a EgressPolicy \"p\" already, at "),
        "{error}"
    );
    assert!(error.contains("b.yml:3:18"), "{error}");
}

#[test]
fn relative_paths_start_from_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let text = credential(
        "  from: {file: {path: secrets/token}}\n  use: [{hosts: [a.com], in: [{basic: user}]}]\n---\n",
    );
    let text = text + &policy("    []").replace("  allow:\n    []", "  credentials: [c]");
    fs::write(directory.path().join("f.yaml"), text).unwrap();
    let (_, sources) = Resources::load(&[directory.path().join("f.yaml")])
        .unwrap()
        .policy(None)
        .unwrap();
    assert_eq!(
        sources[0].source,
        Source::File {
            path: directory.path().join("secrets/token")
        }
    );
}

#[test]
fn unreadable_files_are_errors_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("binary.yaml"), [0xff, 0xfe, 0xfd]).unwrap();
    fs::write(directory.path().join("large.yaml"), "# \n".repeat(400_000)).unwrap();
    let error = Resources::load(&[
        directory.path().to_owned(),
        directory.path().join("none.yaml"),
    ])
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("binary.yaml: the file is not UTF-8"),
        "{error}"
    );
    assert!(
        error.contains("large.yaml: the file is larger than 1 MiB"),
        "{error}"
    );
    assert!(error.contains("none.yaml: No such file"), "{error}");
    assert!(Resources::load(&["/dev/zero"]).is_err());
}

#[test]
fn bombs_are_refused_quickly() {
    let laughs = (0..20).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        text + &format!("a{}: &a{} [*a{n}, *a{n}]\n", n + 1, n + 1)
    });
    for bomb in [
        laughs,
        "[".repeat(100_000),
        "- ".repeat(100_000),
        "a: ".repeat(50_000),
        "{".repeat(500_000),
        "? ".repeat(100_000),
        "---\n".repeat(200_000),
    ] {
        let start = std::time::Instant::now();
        let _ = Resources::parse("f.yaml", &bomb);
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{}",
            bomb.chars().take(10).collect::<String>()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn mutated_documents_never_panic(at in 0_usize..1600, length in 0_usize..40, insert in "[ -~\\n]{0,12}") {
        let mut text: Vec<char> = DESIGN.chars().collect();
        let from = at.min(text.len());
        let to = (from + length).min(text.len());
        text.splice(from..to, insert.chars());
        let text: String = text.into_iter().collect();
        if let Ok(resources) = Resources::parse("f.yaml", &text) {
            for name in resources.policy_names() {
                prop_assert!(resources.policy(Some(name)).is_ok());
            }
        }
    }

    #[test]
    fn words_of_the_language_in_any_order_never_panic(words in proptest::collection::vec("(apiVersion|ersatz.dev/v1alpha1|kind|Credential|spec|use|in|hosts|\\[|\\]|\\{|\\}|: |, |- |\n|\n  |\n    |&a|\\*a|<<|!!str|'|\"|~|7|a.com)", 0..60)) {
        let _ = Resources::parse("f.yaml", &words.concat());
    }

    #[test]
    fn every_error_has_a_place_in_the_file(at in 0_usize..1500, word in "(hosts|xx|\\[\\]|7|~|\\{\\})") {
        let text: String = DESIGN.chars().enumerate().map(|(n, c)| if n == at { format!("{word}{c}") } else { c.to_string() }).collect();
        if let Err(errors) = Resources::parse("f.yaml", &text) {
            let lines = u32::try_from(text.lines().count()).unwrap();
            for error in errors.iter() {
                prop_assert!(error.place.mark.is_none_or(|mark| mark.line >= 1 && mark.line <= lines + 1), "{}", error);
            }
        }
    }
}
