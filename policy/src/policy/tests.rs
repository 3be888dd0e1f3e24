use std::collections::BTreeSet;

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::{
    BasicPart, Cidr, CredentialName, Destination, HeaderName, HostPattern, HttpRule, Methods, Mode,
    PathPattern, Paths, Placement, PolicyError, Requests, Rule, Schemes, Shape, Use,
};

mod authorities;

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn hosts(texts: &[&str]) -> Vec<HostPattern> {
    texts
        .iter()
        .map(|text| HostPattern::parse(text).unwrap())
        .collect()
}

fn header(text: &str) -> Placement {
    let name = HeaderName::parse(text).unwrap();
    Placement::Header {
        schemes: Schemes::default_for(&name),
        name,
    }
}

fn rule(to: &[&str], port: u16, mode: Mode) -> Rule {
    Rule {
        to: Destination::Hosts(hosts(to)),
        ports: vec![port],
        mode,
    }
}

fn block(text: &str, port: u16) -> Rule {
    Rule {
        to: Destination::Cidrs(vec![Cidr::parse(text).unwrap()]),
        ports: vec![port],
        mode: Mode::Tcp,
    }
}

fn only(methods: &[&str], paths: &[&str]) -> Requests {
    let methods = if methods.is_empty() {
        Methods::any()
    } else {
        Methods::listed(methods).unwrap()
    };
    let patterns: Vec<_> = paths
        .iter()
        .map(|path| PathPattern::parse(path).unwrap())
        .collect();
    let paths = if paths.is_empty() {
        Paths::any()
    } else {
        Paths::listed(patterns).unwrap()
    };
    Requests::Listed(vec![HttpRule { methods, paths }])
}

fn usage(to: &[&str], placements: Vec<Placement>) -> Use {
    Use {
        hosts: hosts(to),
        ports: vec![443],
        methods: Methods::any(),
        paths: Paths::any(),
        placements,
    }
}

fn credential(name: &str, uses: Vec<Use>) -> Arc<Credential> {
    let stub_env = Some(format!("{}_TOKEN", name.to_uppercase()));
    Arc::new(Credential {
        name: CredentialName::parse(name).unwrap(),
        stub_env,
        shape: Shape::default(),
        uses,
    })
}

fn compile(credentials: Vec<Arc<Credential>>, rules: Vec<Rule>) -> Policy {
    Policy::compile("p", credentials, rules).unwrap()
}

/// `intercept`, `passthrough` or the reason.
fn tls(policy: &Policy, host: &str, port: u16) -> String {
    match policy.tls(&name(host), port) {
        Ok(Tls::Intercept(_)) => "intercept".to_owned(),
        Ok(Tls::Passthrough(_)) => "passthrough".to_owned(),
        Err(denied) => denied.reason.to_string(),
    }
}

fn intercept(policy: &Policy, host: &str) -> InterceptPermit {
    match policy.tls(&name(host), 443) {
        Ok(Tls::Intercept(permit)) => permit,
        other => panic!("{host}: {other:?}"),
    }
}

/// What goes where in a request, or the reason of its refusal.
fn request(policy: &Policy, host: &str, method: &str, path: &str) -> Result<Vec<String>, Reason> {
    let site = intercept(policy, host);
    let permit = site.request(method, path).map_err(|denied| denied.reason)?;
    Ok(permit
        .injections()
        .map(|inject| format!("{} {}", inject.credential(), inject.placement()))
        .collect())
}

#[test]
fn an_empty_policy_denies_everything() {
    let policy = compile(vec![], vec![]);
    assert!(!policy.resolves(&name("a.com")));
    assert_eq!(tls(&policy, "a.com", 443), "host-not-allowed");
    assert_eq!(
        policy.plaintext(&name("a.com"), 80).unwrap_err().reason,
        Reason::HostNotAllowed
    );
    assert!(
        policy
            .opaque(Some(&name("a.com")), "198.18.0.1:443".parse().unwrap())
            .is_none()
    );
    assert!(
        policy
            .opaque(None, "10.0.0.1:443".parse().unwrap())
            .is_none()
    );
}

#[rstest]
#[case("open.com", 443, "intercept")]
#[case("open.com", 8443, "port-not-allowed")]
#[case("pass.com", 443, "passthrough")]
#[case("plain.com", 80, "protocol-not-allowed")]
#[case("plain.com", 443, "port-not-allowed")]
#[case("db.com", 5432, "protocol-not-allowed")]
#[case("bound.com", 443, "intercept")]
#[case("bound.com", 80, "port-not-allowed")]
#[case("bound.com.", 443, "intercept")]
#[case("x.bound.com", 443, "host-not-allowed")]
#[case("a.wild.com", 443, "intercept")]
#[case("a.b.wild.com", 443, "host-not-allowed")]
#[case("wild.com", 443, "host-not-allowed")]
#[case("a.b.deep.com", 443, "passthrough")]
fn tls_is_decided_by_name_and_port(#[case] host: &str, #[case] port: u16, #[case] expected: &str) {
    assert_eq!(tls(&varied(), host, port), expected);
}

#[rstest]
#[case("plain.com", 80, None)]
#[case("plain.com", 8080, Some(Reason::PortNotAllowed))]
#[case("open.com", 80, Some(Reason::PlaintextNotAllowed))]
#[case("open.com", 443, Some(Reason::PlaintextNotAllowed))]
#[case("bound.com", 80, Some(Reason::PlaintextNotAllowed))]
#[case("pass.com", 80, Some(Reason::PlaintextNotAllowed))]
#[case("other.com", 80, Some(Reason::HostNotAllowed))]
fn plaintext_needs_a_rule_of_its_own(
    #[case] host: &str,
    #[case] port: u16,
    #[case] reason: Option<Reason>,
) {
    assert_eq!(
        varied()
            .plaintext(&name(host), port)
            .err()
            .map(|denied| denied.reason),
        reason
    );
}

#[rstest]
#[case(Some("db.com"), "198.18.0.1:5432", Some("db.com:5432"))]
#[case(Some("db.com"), "198.18.0.1:443", None)]
#[case(Some("open.com"), "198.18.0.1:443", None)]
#[case(Some("open.com"), "10.1.2.3:9092", None)]
#[case(None, "10.1.2.3:9092", Some("10.1.2.3:9092"))]
#[case(None, "10.1.2.3:9093", None)]
#[case(None, "10.1.99.3:9093", Some("10.1.99.3:9093"))]
#[case(None, "10.2.2.3:9092", None)]
#[case(None, "[fd00::5]:9092", Some("[fd00::5]:9092"))]
#[case(None, "[::ffff:10.1.2.3]:9092", None)]
#[case(None, "198.18.0.1:5432", None)]
fn opaque_tcp_needs_a_rule_for_the_name_or_the_address(
    #[case] host: Option<&str>,
    #[case] address: &str,
    #[case] expected: Option<&str>,
) {
    let host = host.map(name);
    let permit = varied().opaque(host.as_ref(), address.parse().unwrap());
    let target = permit.map(|permit| match permit.target() {
        TcpTarget::Name(authority) => authority.to_string(),
        TcpTarget::Address(address) => address.to_string(),
    });
    assert_eq!(target.as_deref(), expected);
}

/// One rule of every kind.
fn varied() -> Policy {
    compile(
        vec![credential(
            "c",
            vec![usage(
                &["bound.com", "*.wild.com"],
                vec![header("authorization")],
            )],
        )],
        vec![
            rule(&["open.com"], 443, Mode::Intercept(Requests::Any)),
            rule(&["pass.com", "**.deep.com"], 443, Mode::Passthrough),
            rule(&["plain.com"], 80, Mode::Plaintext(Requests::Any)),
            rule(&["db.com"], 5432, Mode::Tcp),
            block("10.1.0.0/16", 9092),
            block("10.1.99.0/24", 9093),
            block("fd00::/8", 9092),
        ],
    )
}

#[test]
fn the_most_specific_pattern_decides_how_a_connection_is_handled() {
    let policy = compile(
        vec![],
        vec![
            rule(&["**.example.com"], 443, Mode::Intercept(Requests::Any)),
            rule(&["*.example.com"], 443, Mode::Passthrough),
            rule(
                &["judged.example.com", "*.b.example.com"],
                443,
                Mode::Intercept(Requests::Any),
            ),
            rule(&["opaque.b.example.com"], 443, Mode::Tcp),
        ],
    );
    assert_eq!(tls(&policy, "a.example.com", 443), "passthrough");
    assert_eq!(tls(&policy, "judged.example.com", 443), "intercept");
    assert_eq!(tls(&policy, "a.a.example.com", 443), "intercept");
    assert_eq!(tls(&policy, "a.b.example.com", 443), "intercept");
    assert_eq!(
        tls(&policy, "opaque.b.example.com", 443),
        "protocol-not-allowed"
    );
}

#[test]
fn what_is_granted_for_another_handling_does_not_count() {
    let mut wild = usage(&["*.example.com"], vec![header("authorization")]);
    wild.ports = vec![8080];
    let policy = compile(
        vec![credential("c", vec![wild])],
        vec![
            rule(&["*.example.com"], 443, Mode::Plaintext(Requests::Any)),
            rule(
                &["a.example.com"],
                443,
                Mode::Intercept(only(&["GET"], &["/v1/**"])),
            ),
            rule(&["a.example.com"], 8080, Mode::Plaintext(Requests::Any)),
        ],
    );
    assert_eq!(
        request(&policy, "a.example.com", "GET", "/v2"),
        Err(Reason::PathNotAllowed)
    );
    let plain = policy.plaintext(&name("a.example.com"), 8080).unwrap();
    assert_eq!(plain.request("GET", "/").unwrap().injections().count(), 0);
    assert_eq!(plain.grantors().collect::<Vec<_>>(), [&Grantor::Rule(2)]);
}

#[test]
fn the_longest_prefix_is_named_as_the_grantor() {
    let policy = compile(
        vec![],
        vec![
            block("10.0.0.0/8", 1),
            block("10.1.0.0/16", 1),
            block("10.1.1.0/24", 2),
        ],
    );
    let permit = policy.opaque(None, "10.1.1.1:1".parse().unwrap()).unwrap();
    assert_eq!(permit.grantor(), &Grantor::Rule(1));
    let holding = policy.holding("10.1.1.1".parse().unwrap());
    assert_eq!(
        holding,
        [Grantor::Rule(2), Grantor::Rule(1), Grantor::Rule(0)]
    );
}

#[test]
fn a_connection_is_judged_before_it_says_anything() {
    let policy = varied();
    let reason = |host: Option<&str>, port| {
        policy
            .reaches(host.map(name).as_ref(), port)
            .err()
            .map(|denied| denied.reason)
    };
    assert_eq!(reason(Some("open.com"), 443), None);
    assert_eq!(reason(Some("open.com"), 80), Some(Reason::PortNotAllowed));
    assert_eq!(reason(Some("evil.com"), 443), Some(Reason::HostNotAllowed));
    assert_eq!(reason(None, 443), None);
    assert_eq!(reason(None, 22), Some(Reason::AddressNotAllowed));
    assert_eq!(reason(None, 5432), Some(Reason::AddressNotAllowed));
}

#[test]
fn rules_that_disagree_about_the_same_pattern_are_refused() {
    let modes = [
        Mode::Intercept(Requests::Any),
        Mode::Plaintext(Requests::Any),
        Mode::Passthrough,
        Mode::Tcp,
    ];
    for (first, second) in modes
        .iter()
        .flat_map(|first| modes.iter().map(move |second| (first, second)))
    {
        let rules = vec![
            rule(&["a.com"], 443, first.clone()),
            rule(&["A.com."], 443, second.clone()),
        ];
        let conflict = Policy::compile("p", vec![], rules).err();
        let expected = (first != second).then(|| PolicyError::Conflict {
            pattern: HostPattern::Exact(name("a.com")),
            port: 443,
            first: Grantor::Rule(0),
            second: Grantor::Rule(1),
        });
        assert_eq!(conflict, expected, "{first:?} {second:?}");
    }
    let apart = vec![
        rule(&["a.com"], 443, Mode::Passthrough),
        rule(&["a.com"], 80, Mode::Plaintext(Requests::Any)),
    ];
    assert!(Policy::compile("p", vec![], apart).is_ok());
}

#[rstest]
#[case("GET", "/repos/acme/x", None)]
#[case("GET", "/repos/evil/x", Some(Reason::PathNotAllowed))]
#[case("GET", "/repos/acme/../evil", Some(Reason::PathAmbiguous))]
#[case("POST", "/graphql", None)]
#[case("POST", "/repos/acme/x", Some(Reason::PathNotAllowed))]
#[case("DELETE", "/repos/acme/x", Some(Reason::MethodNotAllowed))]
#[case("get", "/repos/acme/x", Some(Reason::MethodNotAllowed))]
#[case("TRACE", "/repos/acme/x", Some(Reason::MethodNotAllowed))]
#[case("GET", "*", Some(Reason::PathAmbiguous))]
fn requests_are_admitted_by_any_rule_with_method_and_path_together(
    #[case] method: &str,
    #[case] path: &str,
    #[case] reason: Option<Reason>,
) {
    let policy = compile(
        vec![],
        vec![
            rule(
                &["api.com"],
                443,
                Mode::Intercept(only(&["GET", "HEAD"], &["/repos/acme/**"])),
            ),
            rule(
                &["*.com.example", "api.com"],
                443,
                Mode::Intercept(only(&["POST"], &["/graphql"])),
            ),
        ],
    );
    assert_eq!(request(&policy, "api.com", method, path).err(), reason);
}

#[test]
fn a_host_without_limits_takes_any_path_as_it_is() {
    let policy = varied();
    for path in ["/", "/a//b", "/a%2Fb", "/../x", "*", ""] {
        assert_eq!(
            request(&policy, "open.com", "GET", path),
            Ok(vec![]),
            "{path}"
        );
    }
    assert_eq!(
        request(&policy, "open.com", "TRACE", "/"),
        Err(Reason::MethodNotAllowed)
    );
    assert_eq!(
        request(&policy, "open.com", "CONNECT", "/"),
        Err(Reason::MethodNotAllowed)
    );
}

#[test]
fn a_credential_goes_where_its_use_says_and_nowhere_else() {
    let mut read = usage(
        &["api.com"],
        vec![header("authorization"), header("x-api-key")],
    );
    read.methods = Methods::listed(&["GET"]).unwrap();
    read.paths = Paths::listed(vec![PathPattern::parse("/v1/**").unwrap()]).unwrap();
    let git = usage(&["git.com"], vec![Placement::Basic(BasicPart::Password)]);
    let policy = compile(
        vec![
            credential("c", vec![read, git]),
            credential(
                "d",
                vec![usage(&["api.com"], vec![header("authorization")])],
            ),
        ],
        vec![rule(&["open.com"], 443, Mode::Intercept(Requests::Any))],
    );
    let c_and_d = [
        "c header:authorization",
        "c header:x-api-key",
        "d header:authorization",
    ];
    assert_eq!(
        request(&policy, "api.com", "GET", "/v1/x").unwrap(),
        c_and_d
    );
    assert_eq!(
        request(&policy, "api.com", "GET", "/v2/x").unwrap(),
        ["d header:authorization"]
    );
    assert_eq!(
        request(&policy, "api.com", "POST", "/v1/x").unwrap(),
        ["d header:authorization"]
    );
    assert_eq!(
        request(&policy, "api.com", "GET", "/v1/../x").unwrap(),
        ["d header:authorization"]
    );
    assert_eq!(
        request(&policy, "git.com", "GET", "/x").unwrap(),
        ["c basic:password"]
    );
    assert_eq!(
        request(&policy, "open.com", "GET", "/v1/x").unwrap(),
        [""; 0]
    );
    let c = CredentialName::parse("c").unwrap();
    assert!(intercept(&policy, "api.com").binds(&c) && !intercept(&policy, "open.com").binds(&c));
}

#[test]
fn a_rule_with_requests_bounds_a_use_without_any() {
    let bound = || {
        credential(
            "c",
            vec![usage(&["api.com"], vec![header("authorization")])],
        )
    };
    let ruled = compile(
        vec![bound()],
        vec![rule(
            &["api.com"],
            443,
            Mode::Intercept(only(&["GET"], &["/v1/**"])),
        )],
    );
    assert_eq!(
        request(&ruled, "api.com", "GET", "/v1/x").unwrap(),
        ["c header:authorization"]
    );
    assert_eq!(
        request(&ruled, "api.com", "GET", "/v2/x"),
        Err(Reason::PathNotAllowed)
    );
    assert_eq!(
        request(&ruled, "api.com", "POST", "/v1/x"),
        Err(Reason::MethodNotAllowed)
    );
    let alone = compile(vec![bound()], vec![]);
    assert_eq!(
        request(&alone, "api.com", "POST", "/v2/x").unwrap(),
        ["c header:authorization"]
    );
}

#[test]
fn a_use_that_says_which_requests_it_is_for_allows_these() {
    let mut by_method = usage(&["api.com"], vec![header("authorization")]);
    by_method.methods = Methods::listed(&["POST"]).unwrap();
    let mut by_path = usage(&["api.com"], vec![header("x-api-key")]);
    by_path.paths = Paths::listed(vec![PathPattern::parse("/v2/**").unwrap()]).unwrap();
    let rule = rule(
        &["api.com"],
        443,
        Mode::Intercept(only(&["GET"], &["/v1/**"])),
    );
    let policy = compile(vec![credential("c", vec![by_method, by_path])], vec![rule]);
    assert_eq!(
        request(&policy, "api.com", "GET", "/v1/x").unwrap(),
        [""; 0]
    );
    assert_eq!(
        request(&policy, "api.com", "POST", "/v1/x").unwrap(),
        ["c header:authorization"]
    );
    assert_eq!(
        request(&policy, "api.com", "PUT", "/v2/x").unwrap(),
        ["c header:x-api-key"]
    );
    assert_eq!(
        request(&policy, "api.com", "PUT", "/v1/x"),
        Err(Reason::PathNotAllowed)
    );
}

#[test]
fn a_host_that_two_patterns_of_one_use_name_gets_the_credential_once() {
    let both = usage(
        &["a.example.com", "*.example.com", "**.example.com"],
        vec![header("authorization")],
    );
    let policy = compile(vec![credential("c", vec![both])], vec![]);
    assert_eq!(
        request(&policy, "a.example.com", "GET", "/").unwrap(),
        ["c header:authorization"]
    );
}

#[test]
fn nothing_is_injected_on_plaintext() {
    let policy = compile(
        vec![credential(
            "c",
            vec![usage(&["a.com"], vec![header("authorization")])],
        )],
        vec![rule(&["a.com"], 80, Mode::Plaintext(Requests::Any))],
    );
    let permit = policy.plaintext(&name("a.com"), 80).unwrap();
    assert_eq!(permit.request("GET", "/").unwrap().injections().count(), 0);
}

#[test]
fn a_refusal_names_the_policy_and_the_host() {
    let denied = varied().tls(&name("evil.com"), 443).unwrap_err();
    assert_eq!(
        (&*denied.policy, denied.host),
        ("p", Some(Host::Name(name("evil.com"))))
    );
}

#[rstest]
#[case::hosts(rule(&[], 443, Mode::Passthrough), "hosts")]
#[case::ports(Rule { ports: vec![], ..rule(&["a.com"], 443, Mode::Passthrough) }, "ports")]
#[case::http(rule(&["a.com"], 443, Mode::Intercept(Requests::Listed(vec![]))), "http")]
#[case::cidrs(Rule { to: Destination::Cidrs(vec![]), ..rule(&["a.com"], 443, Mode::Tcp) }, "cidrs")]
fn an_empty_list_is_an_error_and_never_all(#[case] rule: Rule, #[case] list: &'static str) {
    let error = Policy::compile("p", vec![], vec![rule]).unwrap_err();
    assert_eq!(
        error,
        PolicyError::Empty {
            grantor: Grantor::Rule(0),
            list
        }
    );
}

#[test]
fn credentials_that_contradict_each_other_are_refused() {
    let named =
        |name: &str| credential(name, vec![usage(&["a.com"], vec![header("authorization")])]);
    let twice = Policy::compile("p", vec![named("c"), named("c")], vec![]);
    assert_eq!(
        twice.unwrap_err(),
        PolicyError::Twice(CredentialName::parse("c").unwrap())
    );
    let same = Arc::new(Credential {
        stub_env: Some("C_TOKEN".to_owned()),
        ..(*named("d")).clone()
    });
    assert!(matches!(
        Policy::compile("p", vec![named("c"), same], vec![]),
        Err(PolicyError::Variable { .. })
    ));
    assert!(matches!(
        Policy::compile("p", vec![credential("c", vec![])], vec![]),
        Err(PolicyError::Unused(_))
    ));
    let nowhere = credential("c", vec![usage(&["a.com"], vec![])]);
    assert!(matches!(
        Policy::compile("p", vec![nowhere], vec![]),
        Err(PolicyError::Empty { list: "in", .. })
    ));
    let user = credential(
        "c",
        vec![usage(&["a.com"], vec![Placement::Basic(BasicPart::User)])],
    );
    let colon = Arc::new(Credential {
        shape: Shape::parse("bot:[a-z]{40}").unwrap(),
        ..(*user).clone()
    });
    assert!(matches!(
        Policy::compile("p", vec![colon], vec![]),
        Err(PolicyError::Colon(_))
    ));
    assert!(Policy::compile("p", vec![user], vec![]).is_ok());
    let block_by_tls = Rule {
        mode: Mode::Passthrough,
        ..block("10.0.0.0/8", 443)
    };
    assert!(matches!(
        Policy::compile("p", vec![], vec![block_by_tls]),
        Err(PolicyError::BlockNotTcp(_))
    ));
    assert!(matches!(
        Policy::compile("p", vec![], vec![rule(&["a.com"], 0, Mode::Tcp)]),
        Err(PolicyError::PortZero(_))
    ));
}

/// The decision as it would be made by looking at every rule in turn.
fn scan(rules: &[Rule], name: &Name) -> Option<&'static str> {
    let rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(exact) => (exact.labels() + 1, 1),
        HostPattern::OneLabel(suffix) => (suffix.labels(), 1),
        HostPattern::Below(suffix) => (suffix.labels(), 0),
    };
    let named = rules.iter().flat_map(|rule| match &rule.to {
        Destination::Hosts(hosts) => hosts.iter().map(move |pattern| (pattern, &rule.mode)),
        Destination::Cidrs(_) => panic!("hosts only"),
    });
    let best = named
        .filter(|(pattern, _)| pattern.matches(name))
        .max_by_key(|(pattern, _)| rank(pattern))?;
    Some(if *best.1 == Mode::Passthrough {
        "passthrough"
    } else {
        "intercept"
    })
}

proptest! {
    #[test]
    fn the_index_decides_as_a_scan_of_all_rules_would(
        patterns in proptest::collection::vec(("(\\*\\.|\\*\\*\\.|)(a\\.|b\\.){0,2}[ab]\\.com", any::<bool>()), 1..12),
        host in "(a\\.|b\\.){0,4}[ab]\\.com",
    ) {
        let mut seen = BTreeSet::new();
        let rules: Vec<Rule> = patterns.iter().filter(|(pattern, _)| seen.insert(pattern.clone())).map(|(pattern, pass)| {
            rule(&[pattern], 443, if *pass { Mode::Passthrough } else { Mode::Intercept(Requests::Any) })
        }).collect();
        let policy = compile(vec![], rules.clone());
        let expected = scan(&rules, &name(&host)).unwrap_or("host-not-allowed");
        prop_assert_eq!(tls(&policy, &host, 443), expected);
        prop_assert_eq!(policy.resolves(&name(&host)), expected != "host-not-allowed");
    }
}
