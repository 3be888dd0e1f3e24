use rstest::rstest;

use super::*;

const DESIGN: &str = include_str!("../../../../api/testdata/design.yaml");

fn ask(question: &Question) -> Explanation {
    let resources = Resources::parse("design.yaml", DESIGN).unwrap();
    let (policy, _) = resources.policy(None).unwrap();
    explain(&resources, &policy, question)
}

#[rstest]
#[case::ruled("GET https://api.github.com/repos/acme/x", None, &["credential github at header:authorization (Bearer, token)", "allow[1]  design.yaml:27:5"])]
#[case::other_path("GET https://api.github.com/user", Some("path-not-allowed"), &["names the host: credential github use[0]  design.yaml:8:5"])]
#[case::other_method("POST https://api.github.com/repos/acme/x", Some("method-not-allowed"), &["names the host: allow[1]"])]
#[case::ambiguous("GET https://api.github.com/repos/acme/../x", Some("path-ambiguous"), &[])]
#[case::basic("GET https://github.com/acme/x.git/info/refs?service=git-upload-pack", None, &["credential github at basic:password"])]
#[case::two_placements("POST https://api.anthropic.com/v1/messages", None, &["header:x-api-key (the value alone)", "header:authorization (Bearer)"])]
#[case::plaintext("GET http://github.com/", Some("plaintext-not-allowed"), &[])]
#[case::port("GET https://github.com:8443/", Some("port-not-allowed"), &["names the host: credential github use[1]"])]
#[case::unknown("GET https://example.org/", Some("host-not-allowed"), &["nothing in the policy \"coding-agents\" names it"])]
#[case::suffix("GET https://api.github.com.example.org/", Some("host-not-allowed"), &[])]
#[case::trace("TRACE https://github.com/", Some("method-not-allowed"), &[])]
#[case::passthrough("GET https://packages.example.com/", None, &["passed through undecrypted", "no credential is put in"])]
#[case::address("GET https://10.20.0.1/", Some("address-not-allowed"), &["names the host: allow[3]"])]
fn requests(#[case] request: &str, #[case] reason: Option<&str>, #[case] says: &[&str]) {
    let explanation = ask(&Question::request(request).unwrap());
    let text = explanation.render(Paint::never());
    assert_eq!(
        (explanation.allowed(), explanation.reason),
        (reason.is_none(), reason),
        "{text}"
    );
    assert!(says.iter().all(|part| text.contains(part)), "{text}");
}

#[rstest]
#[case("db.example.com:5432", None, "as opaque TCP")]
#[case(
    "db.example.com:443",
    Some("port-not-allowed"),
    "allow[2]  design.yaml:28:5"
)]
#[case("10.20.9.9:9092", None, "allow[3]")]
#[case("10.20.9.9:9093", Some("address-not-allowed"), "allow[3]")]
#[case("10.21.0.1:9092", Some("address-not-allowed"), "nothing in the policy")]
#[case("github.com:443", None, "decrypted and judged")]
#[case("a.cdn.example.com:443", None, "passed through")]
fn connections(#[case] to: &str, #[case] reason: Option<&str>, #[case] says: &str) {
    let explanation = ask(&Question::connect(to).unwrap());
    let text = explanation.render(Paint::never());
    assert_eq!(explanation.reason, reason, "{text}");
    assert!(text.contains(says), "{text}");
}

#[rstest]
#[case("GitHub.com.", true)]
#[case("x.cdn.example.com", true)]
#[case("cdn.example.com", false)]
#[case("example.org", false)]
fn names(#[case] name: &str, #[case] allowed: bool) {
    assert_eq!(ask(&Question::resolve(name).unwrap()).allowed(), allowed);
}

#[test]
fn a_program_can_read_the_answer() {
    let answer = ask(&Question::request("GET https://api.github.com/repos/acme/x").unwrap());
    let expected = serde_json::json!({
        "policy": "coding-agents",
        "subject": "GET https://api.github.com/repos/acme/x",
        "verdict": "allowed",
        "handling": "intercept",
        "decidedBy": [{"rule": "allow[1]", "place": {"file": "design.yaml", "line": 27, "column": 5}}],
        "credentials": [{"credential": "github", "placement": "header:authorization", "schemes": ["Bearer", "token"]}],
    });
    assert_eq!(serde_json::to_value(&answer).unwrap(), expected);
}
