//! Fields that belong to one connection and are not forwarded (RFC 9110 §7.6.1), by an own list.
//!
//! What `Connection` names beyond that list is not believed: `Connection: authorization` must not
//! take away what we inject. The order of all other fields stays as it was sent.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
};

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// Would send the client to another host, port or protocol, past the names it was decided on.
static ALT_SVC: HeaderName = HeaderName::from_static("alt-svc");

/// Takes out of a request what is not for the upstream. `upgrade` says that this is a WebSocket
/// handshake, whose `Connection` and `Upgrade` are part of it.
pub(super) fn strip_request(headers: &mut HeaderMap, upgrade: bool) {
    let goes = |name: &HeaderName, value: &HeaderValue| {
        if *name == CONNECTION {
            !upgrade && !value.as_bytes().eq_ignore_ascii_case(b"keep-alive")
        } else if *name == UPGRADE {
            !upgrade
        } else if *name == TE {
            !value.as_bytes().eq_ignore_ascii_case(b"trailers")
        } else {
            // Expect: we have answered it ourselves when the upstream gets the request.
            *name == EXPECT
                || *name == PROXY_AUTHORIZATION
                || *name == KEEP_ALIVE
                || *name == PROXY_CONNECTION
                || *name == HTTP2_SETTINGS
        }
    };
    strip(headers, goes);
}

/// Takes out of an answer what is not for the sandbox.
pub(super) fn strip_response(headers: &mut HeaderMap, upgrade: bool) {
    let goes = |name: &HeaderName, _: &HeaderValue| {
        ((*name == CONNECTION || *name == UPGRADE) && !upgrade)
            || *name == ALT_SVC
            || *name == KEEP_ALIVE
            || *name == PROXY_AUTHENTICATE
            || *name == PROXY_CONNECTION
    };
    strip(headers, goes);
}

/// Removes fields and keeps the order of the rest, which `HeaderMap::remove` does not.
fn strip(headers: &mut HeaderMap, goes: impl Fn(&HeaderName, &HeaderValue) -> bool) {
    if !headers.iter().any(|(name, value)| goes(name, value)) {
        return;
    }
    let mut current = None;
    for (name, value) in std::mem::take(headers) {
        current = name.or(current);
        if let Some(name) = current.as_ref().filter(|name| !goes(name, &value)) {
            headers.append(name.clone(), value);
        }
    }
}

/// Whether a request asks for a WebSocket (RFC 6455 §4.1).
pub(super) fn wants_websocket(headers: &HeaderMap) -> bool {
    let Some(upgrade) = headers.get(UPGRADE) else {
        return false;
    };
    upgrade.as_bytes().eq_ignore_ascii_case(b"websocket")
        && headers
            .get_all(CONNECTION)
            .iter()
            .any(|value| names_upgrade(value.as_bytes()))
        && !headers.contains_key(TRANSFER_ENCODING)
}

fn names_upgrade(value: &[u8]) -> bool {
    value
        .split(|b| *b == b',')
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(n, v)| (n.parse().expect("a name"), v.parse().expect("a value")))
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn strips_only_its_own_list_and_keeps_the_order() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "close, authorization"),
            ("authorization", "x"),
            ("proxy-authorization", "x"),
            ("te", "gzip"),
            ("accept", "*/*"),
            ("x-last", "1"),
        ]);
        strip_request(&mut headers, false);
        assert_eq!(
            names(&headers),
            ["host", "authorization", "accept", "x-last"]
        );
    }

    #[test]
    fn leaves_a_plain_keep_alive_where_it_stands() {
        let mut headers = map(&[("connection", "keep-alive"), ("te", "trailers"), ("a", "b")]);
        strip_request(&mut headers, false);
        assert_eq!(names(&headers), ["connection", "te", "a"]);
    }

    #[test]
    fn an_answer_cannot_send_the_client_elsewhere() {
        let mut headers = map(&[("alt-svc", "h3=\":443\""), ("content-type", "text/plain")]);
        strip_response(&mut headers, false);
        assert_eq!(names(&headers), ["content-type"]);
    }

    #[test]
    fn knows_a_websocket_handshake() {
        assert!(wants_websocket(&map(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
        ])));
        assert!(!wants_websocket(&map(&[
            ("connection", "upgrade"),
            ("upgrade", "h2c")
        ])));
        assert!(!wants_websocket(&map(&[("upgrade", "websocket")])));
    }
}
