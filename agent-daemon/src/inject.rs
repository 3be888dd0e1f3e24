//! The swap: a stub in the placement that its credential declares becomes the real secret.
//!
//! Nothing here decides where: an [`InjectPermit`] does, and a secret cannot be read without one.
//! After the swap the whole head is searched: a stub that still stands anywhere refuses the
//! request, because it stands where no credential says it may.

use aho_corasick::AhoCorasick;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{BufMut as _, Bytes, BytesMut};
use ersatz_policy::{
    BasicPart, CredentialName, InjectPermit, InterceptPermit, Placement, Reason, RequestPermit,
    Schemes, Stub,
};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION, request::Parts};
use smallvec::SmallVec;
use thiserror::Error;

use crate::secrets::{Secrets, Unavailable};

/// The stubs of one sandbox.
pub(crate) struct Stubs {
    by_credential: Vec<(CredentialName, Stub)>,
    finder: Option<AhoCorasick>,
}

/// The swaps that were made in one request.
pub(crate) type Swaps = SmallVec<[Swap; 1]>;

/// One swap, for the audit record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Swap {
    pub(crate) credential: CredentialName,
    pub(crate) placement: String,
}

/// Why a request with a stub is refused.
#[derive(Debug, Error)]
pub(crate) enum InjectError {
    #[error("a stub stands outside the placement of its credential")]
    Misplaced,
    #[error("a stub is sent to a host that its credential is not for")]
    WrongHost,
    #[error("a stub is sent in plaintext")]
    Plaintext,
    #[error("the field of a credential is repeated or cannot be read")]
    Malformed,
    #[error("the real value is not at hand")]
    Unavailable(#[from] Unavailable),
}

impl InjectError {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Misplaced => Reason::StubMisplaced,
            Self::WrongHost => Reason::StubWrongHost,
            Self::Plaintext => Reason::PlaintextCredential,
            Self::Malformed => Reason::CredentialMalformed,
            Self::Unavailable(_) => Reason::SecretUnavailable,
        }
    }
}

impl Stubs {
    pub(crate) fn new(by_credential: Vec<(CredentialName, Stub)>) -> Self {
        let patterns = by_credential.iter().map(|(_, stub)| stub.as_str());
        // A stub has 128 bits of randomness: the set is small, and building cannot overflow.
        let finder = AhoCorasick::builder().build(patterns).ok();
        Self {
            by_credential,
            finder,
        }
    }

    pub(crate) fn get(&self, credential: &CredentialName) -> Option<&Stub> {
        self.by_credential
            .iter()
            .find(|(name, _)| name == credential)
            .map(|(_, stub)| stub)
    }

    /// The credential whose stub stands in `text`, if one does.
    pub(crate) fn find(&self, text: &[u8]) -> Option<&CredentialName> {
        let found = self.finder.as_ref()?.find(text)?;
        self.by_credential
            .get(found.pattern().as_usize())
            .map(|(name, _)| name)
    }

    /// The credential whose stub stands in the head, raw, percent-encoded or inside Basic.
    fn find_in_head(&self, head: &Parts) -> Option<&CredentialName> {
        if self.by_credential.is_empty() {
            return None;
        }
        let target = head
            .uri
            .path_and_query()
            .map_or("", |target| target.as_str());
        self.find(target.as_bytes())
            .or_else(|| {
                target
                    .contains('%')
                    .then(|| self.find(&percent_decode(target)))?
            })
            .or_else(|| {
                head.headers
                    .values()
                    .find_map(|value| self.find(value.as_bytes()))
            })
            .or_else(|| {
                let mut values = head.headers.get_all(AUTHORIZATION).iter();
                values.find_map(|value| self.find(&basic_payload(value)?))
            })
    }
}

/// Swaps what `permit` allows in `head`, then makes sure that no stub is left in it.
pub(crate) fn swap(
    host: &InterceptPermit,
    permit: &RequestPermit<'_>,
    stubs: &Stubs,
    secrets: &Secrets,
    head: &mut Parts,
) -> Result<Swaps, InjectError> {
    let mut swaps = Swaps::new();
    for injection in permit.injections() {
        let Some(stub) = stubs.get(injection.credential()) else {
            continue;
        };
        if swap_one(&injection, stub, secrets, &mut head.headers)? {
            let credential = injection.credential().clone();
            swaps.push(Swap {
                credential,
                placement: injection.placement().to_string(),
            });
        }
    }
    match stubs.find_in_head(head) {
        None => Ok(swaps),
        Some(found) if host.binds(found) => Err(InjectError::Misplaced),
        Some(_) => Err(InjectError::WrongHost),
    }
}

/// Makes sure that a request in plaintext carries no stub at all.
pub(crate) fn forbid(stubs: &Stubs, head: &Parts) -> Result<(), InjectError> {
    stubs
        .find_in_head(head)
        .map_or(Ok(()), |_| Err(InjectError::Plaintext))
}

fn swap_one(
    permit: &InjectPermit<'_>,
    stub: &Stub,
    secrets: &Secrets,
    headers: &mut HeaderMap,
) -> Result<bool, InjectError> {
    let name = match permit.placement() {
        Placement::Header { name, .. } => name.as_http(),
        Placement::Basic(_) => &AUTHORIZATION,
    };
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(false);
    };
    let repeated = values.next().is_some();
    let Some(found) = locate(permit.placement(), value, stub.as_str()) else {
        return Ok(false);
    };
    if repeated {
        return Err(InjectError::Malformed);
    }
    let secret = secrets.secret(permit.credential())?;
    let real = found
        .with(secret.expose(permit))
        .ok_or(InjectError::Malformed)?;
    if let Some(value) = headers.get_mut(name) {
        *value = real;
    }
    Ok(true)
}

/// Where in a field's value the stub stands.
enum Found {
    /// `prefix` and then the stub: a bare value, or one after its scheme.
    After(Bytes),
    /// Basic credentials, decoded; the other half is kept.
    User {
        password: Vec<u8>,
    },
    Password {
        user: Vec<u8>,
    },
}

fn locate(placement: &Placement, value: &HeaderValue, stub: &str) -> Option<Found> {
    match placement {
        Placement::Header { schemes, .. } => {
            let prefix = value.as_bytes().strip_suffix(stub.as_bytes())?;
            admits(schemes, prefix).then(|| Found::After(Bytes::copy_from_slice(prefix)))
        }
        Placement::Basic(part) => {
            let decoded = basic_payload(value)?;
            let colon = decoded.iter().position(|b| *b == b':')?;
            let (user, password) = decoded.split_at_checked(colon)?;
            let password = password.get(1..)?;
            match part {
                BasicPart::User if user == stub.as_bytes() => Some(Found::User {
                    password: password.to_vec(),
                }),
                BasicPart::Password if password == stub.as_bytes() => Some(Found::Password {
                    user: user.to_vec(),
                }),
                _ => None,
            }
        }
    }
}

/// Whether what stands before the stub is nothing, or one scheme and one space, as declared.
fn admits(schemes: &Schemes, prefix: &[u8]) -> bool {
    match prefix.strip_suffix(b" ") {
        None => prefix.is_empty() && schemes.bare(),
        Some(scheme) => std::str::from_utf8(scheme).is_ok_and(|scheme| schemes.admits(scheme)),
    }
}

impl Found {
    /// The value with the secret in the stub's place, marked sensitive: hidden from `Debug` and
    /// never indexed by HPACK (RFC 7541 §7.1.3).
    fn with(self, secret: &[u8]) -> Option<HeaderValue> {
        let mut value = BytesMut::new();
        match self {
            Self::After(prefix) => {
                value.reserve(prefix.len() + secret.len());
                value.put(prefix);
                value.put(secret);
            }
            Self::User { password } => encode_basic(&mut value, secret, &password),
            Self::Password { user } => encode_basic(&mut value, &user, secret),
        }
        let mut value = HeaderValue::from_maybe_shared(value.freeze()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

fn encode_basic(value: &mut BytesMut, user: &[u8], password: &[u8]) {
    let pair = zeroize::Zeroizing::new([user, b":", password].concat());
    value.put(&b"Basic "[..]);
    value.put(BASE64_STANDARD.encode(&*pair).as_bytes());
}

/// The decoded `user:password` of a Basic field (RFC 7617), if it is one in canonical base64.
fn basic_payload(value: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, rest) = value.as_bytes().split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    BASE64_STANDARD.decode(rest.trim_ascii()).ok()
}

fn percent_decode(text: &str) -> Vec<u8> {
    let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}
