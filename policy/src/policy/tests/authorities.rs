//! Every spelling of an authority, in every place where a client can name one.

use super::*;

/// What a client may claim to talk to, in each of the places where it can claim it.
const CLAIMS: &[&str] = &[
    "bound.com",
    "BOUND.com",
    "bound.com.",
    "bound.com:443",
    "bound.com:8443",
    "bound.com:80",
    "bound.com:0443",
    "bound.com:",
    "bound.com..",
    "bound.com\0",
    " bound.com",
    "bound.com.evil.com",
    "evil.com",
    "evil.com:443",
    "evilbound.com",
    "x.bound.com",
    "user@bound.com",
    "bound.com@evil.com",
    "bound%2ecom",
    "bound.com#evil.com",
    "allowed.com",
    "allowed.com:443",
    "93.184.216.34",
    "[::1]",
    "xn--bound.com",
    "",
];

/// The daemon's check in small: server name, `Host` or `:authority`, and an absolute target are parsed, must be
/// one authority, and that authority is what the policy is asked about.
fn injected(
    policy: &Policy,
    sni: &str,
    port: u16,
    host: &str,
    target: Option<&str>,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(sni) = Name::parse(sni.as_bytes()) else {
        return found;
    };
    let Ok(Tls::Intercept(site)) = policy.tls(&sni, port) else {
        return found;
    };
    let same =
        |claim: &str| Authority::parse(claim.as_bytes(), 443).as_ref() == Ok(site.authority());
    if !same(host) || target.is_some_and(|target| !same(target)) {
        return found;
    }
    if let Ok(permit) = site.request("GET", "/") {
        found.extend(
            permit
                .injections()
                .map(|inject| inject.authority().to_string()),
        );
    }
    found
}

#[test]
fn a_credential_is_injected_on_the_diagonal_of_the_authorities_only() {
    let policy = compile(
        vec![credential(
            "c",
            vec![usage(&["bound.com"], vec![header("authorization")])],
        )],
        vec![rule(&["allowed.com"], 443, Mode::Intercept(Requests::Any))],
    );
    let bound =
        |claim: &&str| ["bound.com", "BOUND.com", "bound.com.", "bound.com:443"].contains(claim);
    let (mut cases, mut swaps) = (0, 0);
    for sni in CLAIMS {
        for host in CLAIMS {
            for target in CLAIMS.iter().map(Some).chain([None]) {
                for port in [443, 80, 8443, 0, 65535] {
                    let expected = bound(sni)
                        && !sni.contains(':')
                        && bound(host)
                        && target.is_none_or(&bound)
                        && port == 443;
                    let found = injected(&policy, sni, port, host, target.copied());
                    assert_eq!(
                        !found.is_empty(),
                        expected,
                        "{sni:?} {port} {host:?} {target:?}"
                    );
                    assert!(found.iter().all(|authority| authority == "bound.com"));
                    cases += 1;
                    swaps += usize::from(expected);
                }
            }
        }
    }
    assert_eq!((cases, swaps), (91_260, 60));
}
