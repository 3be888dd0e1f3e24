//! Which request methods a rule or a credential admits.

/// A set of methods. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods(Option<Box<[Box<str>]>>);

/// Why a list of methods is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    #[error("the list is empty, which would admit nothing; leave it out to admit any method")]
    Empty,
    #[error("{0:?} is not a method: methods are written in capitals, as in GET")]
    Token(String),
    #[error("{0} is never admitted: it would reflect a credential or open a tunnel")]
    Forbidden(String),
}

impl Methods {
    /// Any method but those that are never admitted: CONNECT, TRACE and TRACK.
    pub fn any() -> Self {
        Self(None)
    }

    pub fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// These methods alone.
    pub fn listed<T: AsRef<str>>(methods: &[T]) -> Result<Self, MethodError> {
        if methods.is_empty() {
            return Err(MethodError::Empty);
        }
        for method in methods.iter().map(AsRef::as_ref) {
            let token = !method.is_empty()
                && method
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'-');
            if !token {
                return Err(MethodError::Token(method.to_owned()));
            }
            if is_forbidden(method) {
                return Err(MethodError::Forbidden(method.to_owned()));
            }
        }
        Ok(Self(Some(
            methods
                .iter()
                .map(|method| method.as_ref().into())
                .collect(),
        )))
    }

    /// Methods are case-sensitive (RFC 9110, section 9.1): `get` is not GET.
    pub fn admits(&self, method: &str) -> bool {
        match &self.0 {
            Some(listed) => listed.iter().any(|admitted| **admitted == *method),
            None => !is_forbidden(method),
        }
    }

    /// The methods listed, or nothing when any is admitted.
    pub fn list(&self) -> Option<impl Iterator<Item = &str>> {
        self.0
            .as_ref()
            .map(|listed| listed.iter().map(AsRef::as_ref))
    }
}

/// TRACE and TRACK return the request, credential included; CONNECT would tunnel past us.
fn is_forbidden(method: &str) -> bool {
    ["CONNECT", "TRACE", "TRACK"]
        .iter()
        .any(|forbidden| method.eq_ignore_ascii_case(forbidden))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("GET", true)]
    #[case("get", true)]
    #[case("PROPFIND", true)]
    #[case("TRACE", false)]
    #[case("trace", false)]
    #[case("Track", false)]
    #[case("CONNECT", false)]
    fn any_is_all_but_the_reflecting_ones(#[case] method: &str, #[case] admitted: bool) {
        assert_eq!(Methods::any().admits(method), admitted);
    }

    #[test]
    fn listed_is_exact() {
        let methods = Methods::listed(&["GET", "HEAD"]).unwrap();
        assert!(methods.admits("GET") && methods.admits("HEAD"));
        assert!(!methods.admits("get") && !methods.admits("POST") && !methods.admits("GETX"));
    }

    #[rstest]
    #[case(&[], MethodError::Empty)]
    #[case(&["get"], MethodError::Token("get".into()))]
    #[case(&["GET", "*"], MethodError::Token("*".into()))]
    #[case(&[""], MethodError::Token(String::new()))]
    #[case(&["TRACE"], MethodError::Forbidden("TRACE".into()))]
    fn refuses_bad_lists(#[case] methods: &[&str], #[case] error: MethodError) {
        assert_eq!(Methods::listed(methods), Err(error));
    }
}
