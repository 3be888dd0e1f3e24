//! Why something was refused: one closed set for the answer to the agent, the audit record, the metrics and
//! `ersatz policy explain`.

use std::fmt;

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The client sent what it must not.
    Sandbox,
    /// The server, or the way to it.
    Upstream,
    /// The policy does not allow it.
    Policy,
    /// The daemon, its configuration or its node.
    Us,
}

/// One table: variant, label, status, fault, hint.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $label:literal $status:literal $fault:ident $hint:literal;)*) => {
        /// The reason of a refusal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All reasons, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The label, in kebab case, as in `x-ersatz-reason`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The status of the answer, where one can be given.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Who has to act.
            pub fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }

            /// What the agent, or its operator, should do.
            pub fn hint(self) -> &'static str {
                match self { $(Self::$variant => $hint,)* }
            }
        }
    };
}

reasons! {
    /// No rule and no credential names the host.
    HostNotAllowed "host-not-allowed" 403 Policy
        "the policy does not name this host; do not retry; ask the operator to add it to the policy's `allow`";
    /// Some rule names the host, but not on this port.
    PortNotAllowed "port-not-allowed" 403 Policy
        "the policy allows this host on other ports only; use one of those or ask the operator to add the port";
    MethodNotAllowed "method-not-allowed" 403 Policy
        "the policy does not allow this method on this host; do not retry it";
    PathNotAllowed "path-not-allowed" 403 Policy
        "the policy does not allow this path with this method on this host; do not retry it";
    /// The path can be read in more than one way, and the policy limits paths.
    PathAmbiguous "path-ambiguous" 403 Sandbox
        "write the path without dot segments, empty segments, encoded slashes, backslashes, semicolons and double encoding";
    /// Server name, Host, :authority and target do not all name the same host and port.
    AuthorityMismatch "authority-mismatch" 421 Sandbox
        "the request names another host than the connection was opened to; open a connection to that host";
    /// The address that was dialled is not allowed, or is not the one our DNS gave for the name.
    AddressNotAllowed "address-not-allowed" 403 Policy
        "connect by a host name that the policy allows; plain addresses need a rule with `cidrs`";
    NoServerName "no-server-name" 403 Sandbox
        "the TLS handshake has no server name; connect by name, not by address";
    ServerNameInvalid "server-name-invalid" 403 Sandbox
        "the server name of the TLS handshake is not a valid host name";
    PlaintextNotAllowed "plaintext-not-allowed" 403 Policy
        "plain HTTP is not allowed to this host; use https";
    /// A stub was sent over plain HTTP.
    PlaintextCredential "plaintext-credential" 403 Sandbox
        "a credential is never sent over plain HTTP; use https";
    /// A stub stands where its credential has no placement.
    StubMisplaced "stub-misplaced" 403 Sandbox
        "a credential's value may stand only in the header that its policy names; remove it from everywhere else";
    /// A stub was sent to a host that is not its credential's.
    StubWrongHost "stub-wrong-host" 403 Sandbox
        "this credential does not belong to this host; do not send it there";
    CredentialMalformed "credential-malformed" 400 Sandbox
        "the header that holds the credential is malformed or there more than once";
    SecretUnavailable "secret-unavailable" 503 Us
        "the real credential cannot be read at the moment; the operator should check its source; retry later";
    RequestMalformed "request-malformed" 400 Sandbox
        "the request is not valid HTTP, or can be read in more than one way";
    RequestTooLarge "request-too-large" 431 Sandbox
        "the head of the request is too large; send fewer or shorter headers";
    ProtocolNotAllowed "protocol-not-allowed" 403 Policy
        "this protocol is not allowed to this host; use HTTPS, or ask the operator for a rule with `mode: tcp`";
    /// A DNS name is allowed but does not exist, or has no address of that kind.
    NameNotFound "name-not-found" 502 Upstream
        "the name does not resolve; check its spelling";
    /// The name resolves to addresses of a kind that is never dialled.
    AddressForbidden "address-forbidden" 403 Policy
        "the name resolves to a private or special address; the operator can allow the range in `upstream.allowPrivate`";
    UpstreamUnreachable "upstream-unreachable" 502 Upstream
        "no connection to the server was possible; retry later";
    UpstreamTimeout "upstream-timeout" 504 Upstream
        "the server did not answer in time; retry later";
    UpstreamCertificate "upstream-certificate" 502 Upstream
        "the server's certificate is not valid for this name, so nothing was sent; do not retry; tell the operator";
    UpstreamProtocol "upstream-protocol" 502 Upstream
        "the server broke the protocol or the connection";
    TlsHandshake "tls-handshake" 400 Sandbox
        "the TLS handshake failed; trust the sandbox's CA (SSL_CERT_FILE) and use TLS 1.2 or 1.3";
    Timeout "timeout" 408 Sandbox
        "the request was not sent in time";
    Overloaded "overloaded" 503 Us
        "a limit of this sandbox or of the node is reached; use fewer connections at once and retry later";
    SandboxUnknown "sandbox-unknown" 403 Us
        "the connection belongs to no sandbox that is known here";
    /// The sandbox has no policy that could be asked, or it was withdrawn.
    PolicyUnavailable "policy-unavailable" 503 Us
        "the sandbox has no valid policy at the moment; ask the operator";
    ShuttingDown "shutting-down" 503 Us
        "the daemon is being replaced; retry at once";
    Internal "internal" 500 Us
        "a fault of the daemon; its log says more";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_are_kebab_case_and_differ() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert!(labels.iter().all(|label| {
            label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        }));
    }

    #[test]
    fn every_reason_has_an_error_status_and_a_hint() {
        for reason in Reason::ALL {
            assert!((400..600).contains(&reason.status()), "{reason}");
            assert!(reason.hint().len() > 20, "{reason}");
            let server_side = matches!(reason.fault(), Fault::Us | Fault::Upstream);
            assert!(server_side || reason.status() < 500, "{reason}");
        }
    }
}
