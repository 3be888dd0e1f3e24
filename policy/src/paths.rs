//! Which request paths a rule or a credential admits.
//!
//! Paths are compared segment by segment, as they were sent. What an upstream might read in more than one way
//! must not widen a match: a segment that holds an encoded slash, a backslash, a parameter (`;`), a double
//! encoding, a control byte or invalid UTF-8, a dot segment in any spelling, and an empty segment within the
//! path are never matched by a wildcard. A pattern admits such a segment only by spelling it out
//! (`/@acme%2Fpkg`), and cannot spell out dot and empty segments at all.

use std::cell::OnceCell;
use std::fmt;

use smallvec::SmallVec;

/// A path pattern: `*` is any run of characters within one segment, `**` any number of segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    segments: Box<[Glob]>,
}

/// A set of path patterns. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths(Option<Box<[PathPattern]>>);

/// Why a path pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    #[error("the list is empty, which would admit nothing; leave it out to admit any path")]
    Empty,
    #[error("a path begins with a slash")]
    NoSlash,
    #[error("{0:?} cannot be in a path; a query is not part of the match")]
    Character(char),
    #[error("a percent sign is followed by two hexadecimal digits")]
    Encoding,
    #[error("** stands for whole segments, as in /repos/**")]
    DoubleStar,
    #[error("an empty segment or one of dots within a path is never admitted")]
    Ambiguous,
    #[error("the pattern has more than {MAX_SEGMENTS} segments")]
    TooLong,
}

/// One segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Glob {
    /// `**`
    Segments,
    /// No wildcard in it. Empty at the end of a pattern that ends with a slash.
    Literal(Box<str>),
    /// The literals around the stars, at least two, of which some may be empty.
    Stars(Box<[Box<str>]>),
}

impl Paths {
    pub fn any() -> Self {
        Self(None)
    }

    pub fn listed(patterns: Vec<PathPattern>) -> Result<Self, PathPatternError> {
        if patterns.is_empty() {
            Err(PathPatternError::Empty)
        } else {
            Ok(Self(Some(patterns.into())))
        }
    }

    pub fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// The patterns listed, or nothing when any path is admitted.
    pub fn list(&self) -> Option<&[PathPattern]> {
        self.0.as_deref()
    }

    pub(crate) fn admits(&self, path: &RequestPath<'_>) -> bool {
        self.0
            .as_ref()
            .is_none_or(|patterns| patterns.iter().any(|pattern| pattern.admits(path)))
    }
}

impl PathPattern {
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        let rest = text.strip_prefix('/').ok_or(PathPatternError::NoSlash)?;
        let last = rest.split('/').count() - 1;
        if last >= MAX_SEGMENTS {
            return Err(PathPatternError::TooLong);
        }
        let segments = rest
            .split('/')
            .enumerate()
            .map(|(at, segment)| Glob::parse(segment, at == last));
        Ok(Self {
            text: text.into(),
            segments: segments.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a path, percent-encoded as it is sent and without a query, is admitted.
    pub fn matches(&self, path: &str) -> bool {
        self.admits(&RequestPath::parse(path))
    }

    /// Greedy match with a return to the latest `**`, which is enough: an earlier `**` could only take what the
    /// later one can take as well.
    fn admits(&self, path: &RequestPath<'_>) -> bool {
        let Some(segments) = path.segments() else {
            return false;
        };
        let (mut at, mut glob) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while let Some(segment) = segments.get(at) {
            match self.segments.get(glob) {
                Some(Glob::Segments) => {
                    glob += 1;
                    retry = Some((glob, at));
                }
                Some(pattern) if pattern.admits(segment) => {
                    glob += 1;
                    at += 1;
                }
                _ => match &mut retry {
                    Some((after, from)) if segments.get(*from).is_some_and(|taken| taken.plain) => {
                        *from += 1;
                        (at, glob) = (*from, *after);
                    }
                    _ => return false,
                },
            }
        }
        self.segments
            .get(glob..)
            .is_some_and(|rest| rest.iter().all(|glob| *glob == Glob::Segments))
    }
}

impl Glob {
    fn parse(segment: &str, last: bool) -> Result<Self, PathPatternError> {
        if segment == "**" {
            return Ok(Self::Segments);
        }
        if segment.contains("**") {
            return Err(PathPatternError::DoubleStar);
        }
        if let Some(character) = segment
            .chars()
            .find(|c| !c.is_ascii_graphic() || "?#\\".contains(*c))
        {
            return Err(PathPatternError::Character(character));
        }
        let decoded = decode(segment).ok_or(PathPatternError::Encoding)?;
        if (segment.is_empty() && !last) || is_dots(&decoded) {
            return Err(PathPatternError::Ambiguous);
        }
        if segment.contains('*') {
            return Ok(Self::Stars(segment.split('*').map(Into::into).collect()));
        }
        Ok(Self::Literal(segment.into()))
    }

    fn admits(&self, segment: &Segment<'_>) -> bool {
        match self {
            Self::Segments => segment.plain,
            Self::Literal(literal) => same(literal, segment.text),
            Self::Stars(literals) => {
                segment.plain && !segment.text.is_empty() && stars(literals, segment.text)
            }
        }
    }
}

/// Matches the literals in order: the first at the front, the last at the end, the others at their first place.
fn stars(literals: &[Box<str>], text: &str) -> bool {
    let [first, middle @ .., last] = literals else {
        return false;
    };
    let Some(text) = text.strip_prefix(&**first) else {
        return false;
    };
    let Some(mut text) = text.strip_suffix(&**last) else {
        return false;
    };
    for literal in middle {
        let Some((_, rest)) = text.split_once(&**literal) else {
            return false;
        };
        text = rest;
    }
    true
}

/// Equal, but for the case of hexadecimal digits behind a percent sign.
fn same(left: &str, right: &str) -> bool {
    let mut encoded = 0;
    left.len() == right.len()
        && left.bytes().zip(right.bytes()).all(|(left, right)| {
            let equal = left == right || (encoded > 0 && left.eq_ignore_ascii_case(&right));
            encoded = if left == b'%' {
                2_u8
            } else {
                encoded.saturating_sub(1)
            };
            equal
        })
}

/// The path of a request, split once for all patterns, and only when some pattern asks.
pub(crate) struct RequestPath<'a> {
    text: &'a str,
    segments: OnceCell<Option<Segments<'a>>>,
}

type Segments<'a> = SmallVec<[Segment<'a>; 12]>;

struct Segment<'a> {
    text: &'a str,
    /// It means the same to every reader.
    plain: bool,
}

impl<'a> RequestPath<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        Self {
            text,
            segments: OnceCell::new(),
        }
    }

    /// Whether some reader might take it for another path than we do.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.segments()
            .is_none_or(|segments| segments.iter().any(|segment| !segment.plain))
    }

    /// `None` when it is not a path at all (`*`, an authority) or has too many segments: then no pattern admits it.
    fn segments(&self) -> Option<&Segments<'a>> {
        self.segments.get_or_init(|| split(self.text)).as_ref()
    }
}

fn split(text: &str) -> Option<Segments<'_>> {
    let mut rest = text.strip_prefix('/')?;
    let mut segments = Segments::new();
    while let Some((segment, behind)) = rest.split_once('/') {
        segments.push(Segment {
            text: segment,
            plain: is_plain(segment, false),
        });
        rest = behind;
        if segments.len() == MAX_SEGMENTS {
            return None;
        }
    }
    segments.push(Segment {
        text: rest,
        plain: is_plain(rest, true),
    });
    Some(segments)
}

fn is_plain(segment: &str, last: bool) -> bool {
    let common = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
    if segment.bytes().all(common) {
        return last || !segment.is_empty();
    }
    let raw = |byte: u8| byte.is_ascii_graphic() && !b"\\;?#".contains(&byte);
    let safe = |byte: &u8| (0x20..0x7f).contains(byte) && !b"/\\%;".contains(byte) || *byte >= 0x80;
    segment.bytes().all(raw)
        && decode(segment).is_some_and(|decoded| {
            decoded.iter().all(safe) && !is_dots(&decoded) && std::str::from_utf8(&decoded).is_ok()
        })
}

/// `.`, `..` and what a lenient reader may take for them. A parameter does not make them harmless (`..;x`).
fn is_dots(decoded: &[u8]) -> bool {
    let name = decoded
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    name.contains(&b'.') && name.iter().all(|byte| b". ".contains(byte))
}

/// Undoes percent-encoding once; `None` when it is malformed.
fn decode(segment: &str) -> Option<SmallVec<[u8; 64]>> {
    let mut bytes = segment.bytes();
    let mut decoded = SmallVec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            hex(bytes.next()?)? << 4 | hex(bytes.next()?)?
        } else {
            byte
        });
    }
    Some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| value.try_into().ok())
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Matching costs segments times segments of the pattern: this bounds one match to some ten thousand steps.
const MAX_SEGMENTS: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/", "/", true)]
    #[case("/", "/a", false)]
    #[case("/a", "/a", true)]
    #[case("/a", "/a/", false)]
    #[case("/a/", "/a/", true)]
    #[case("/a", "/A", false)]
    #[case("/a/*", "/a/b", true)]
    #[case("/a/*", "/a/", false)]
    #[case("/a/*", "/a", false)]
    #[case("/a/*", "/a/b/c", false)]
    #[case("/a/*/c", "/a/b/c", true)]
    #[case("/a/v*", "/a/v1", true)]
    #[case("/a/v*", "/a/w1", false)]
    #[case("/a/*.json", "/a/x.json", true)]
    #[case("/a/*.json", "/a/x.json.exe", false)]
    #[case("/a/a*a", "/a/a", false)]
    #[case("/a/*x*y*", "/a/1x2y3", true)]
    #[case("/a/*x*y*", "/a/1y2x3", false)]
    #[case("/repos/acme/**", "/repos/acme", true)]
    #[case("/repos/acme/**", "/repos/acme/", true)]
    #[case("/repos/acme/**", "/repos/acme/x/y/z", true)]
    #[case("/repos/acme/**", "/repos/acmex", false)]
    #[case("/repos/acme/**", "/repos", false)]
    #[case("/**", "/", true)]
    #[case("/**", "/a/b", true)]
    #[case("/**/x", "/x", true)]
    #[case("/**/x", "/a/b/x", true)]
    #[case("/**/x", "/a/b/x/y", false)]
    #[case("/a/**/b/**/c", "/a/1/b/2/b/3/c", true)]
    #[case("/a/**/b/**/c", "/a/1/c/2/b", false)]
    #[case("/a/%20b", "/a/%20b", true)]
    #[case("/@acme%2Fpkg", "/@acme%2fpkg", true)]
    #[case("/v1/models/*", "/v1/models/x:generate", true)]
    fn matches_by_segment(#[case] pattern: &str, #[case] path: &str, #[case] expected: bool) {
        assert_eq!(PathPattern::parse(pattern).unwrap().matches(path), expected);
    }

    #[rstest]
    #[case("/repos/acme/../evil")]
    #[case("/repos/acme/..")]
    #[case("/repos/acme/./x")]
    #[case("/repos/acme/%2e%2e/evil")]
    #[case("/repos/acme/.%2E/evil")]
    #[case("/repos/acme/%2e/x")]
    #[case("/repos/acme/..;/evil")]
    #[case("/repos/acme/..;x=y/evil")]
    #[case("/repos/acme/..%3b/evil")]
    #[case("/repos/acme/..%20/evil")]
    #[case("/repos/acme/.../evil")]
    #[case("/repos/acme/x%2f..%2f..%2fevil")]
    #[case("/repos/acme/%2F")]
    #[case("/repos/acme/x%5c..%5cevil")]
    #[case("/repos/acme/x\\..\\evil")]
    #[case("/repos/acme/%252e%252e/evil")]
    #[case("/repos/acme/%00")]
    #[case("/repos/acme/x%0d%0a")]
    #[case("/repos/acme/%c0%ae%c0%ae/evil")]
    #[case("/repos/acme/%zz")]
    #[case("/repos/acme/%2")]
    #[case("/repos/acme//x")]
    #[case("/repos/acme//")]
    #[case("//repos/acme/x")]
    #[case("/repos//acme/x")]
    #[case("/repos/acme/a b")]
    #[case("/repos/acme/a?b")]
    #[case("/repos/acme/a#b")]
    #[case("/repos/acme/\u{fc}")]
    #[case("/repos/acme/a;b")]
    #[case("repos/acme/x")]
    #[case("*")]
    #[case("")]
    fn no_wildcard_admits_what_is_ambiguous(#[case] path: &str) {
        assert!(RequestPath::parse(path).is_ambiguous());
        for pattern in [
            "/repos/acme/**",
            "/**",
            "/*/*/*",
            "/*/*/*/*",
            "/repos/*/*/**",
            "/**/*",
            "/**/evil",
        ] {
            assert!(
                !PathPattern::parse(pattern).unwrap().matches(path),
                "{pattern} {path}"
            );
        }
    }

    #[rstest]
    #[case("/repos/acme/%C3%BC")]
    #[case("/repos/acme/a%20b")]
    #[case("/repos/acme/.github")]
    #[case("/repos/acme/a..b")]
    #[case("/repos/acme/a+b,c:d@e!f$g&h'i(j)k*l=m~n")]
    fn ordinary_encodings_are_not_ambiguous(#[case] path: &str) {
        assert!(!RequestPath::parse(path).is_ambiguous());
        assert!(PathPattern::parse("/repos/acme/**").unwrap().matches(path));
    }

    #[rstest]
    #[case("", PathPatternError::NoSlash)]
    #[case("repos", PathPatternError::NoSlash)]
    #[case("/a?b", PathPatternError::Character('?'))]
    #[case("/a b", PathPatternError::Character(' '))]
    #[case("/a\\b", PathPatternError::Character('\\'))]
    #[case("/\u{fc}", PathPatternError::Character('\u{fc}'))]
    #[case("/a%2", PathPatternError::Encoding)]
    #[case("/a**", PathPatternError::DoubleStar)]
    #[case("/***", PathPatternError::DoubleStar)]
    #[case("/a//b", PathPatternError::Ambiguous)]
    #[case("/a/../b", PathPatternError::Ambiguous)]
    #[case("/a/%2e%2E", PathPatternError::Ambiguous)]
    #[case("/a/..;x", PathPatternError::Ambiguous)]
    fn refuses_malformed_patterns(#[case] text: &str, #[case] error: PathPatternError) {
        assert_eq!(PathPattern::parse(text), Err(error));
    }

    #[test]
    fn bounds_segments() {
        let deep = "/a".repeat(MAX_SEGMENTS);
        let all = PathPattern::parse("/**").unwrap();
        assert!(all.matches(&deep) && !all.matches(&format!("{deep}/a")));
        assert!(PathPattern::parse(&deep).is_ok());
        assert_eq!(
            PathPattern::parse(&format!("{deep}/a")),
            Err(PathPatternError::TooLong)
        );
    }

    /// The plain definition of the match, exponential.
    fn model(globs: &[Glob], segments: &[Segment<'_>]) -> bool {
        match (globs, segments) {
            ([], []) => true,
            ([Glob::Segments, rest @ ..], _) if model(rest, segments) => true,
            ([Glob::Segments, ..], [first, tail @ ..]) => first.plain && model(globs, tail),
            ([glob, rest @ ..], [first, tail @ ..]) => glob.admits(first) && model(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_definition(pattern in "(/(\\*\\*|\\*|a|b|a\\*)){1,6}", path in "(/(a|b|ab|\\.\\.|c)){0,8}/?") {
            let pattern = PathPattern::parse(&pattern).unwrap();
            let request = RequestPath::parse(&path);
            let expected = request.segments().is_some_and(|segments| model(&pattern.segments, segments));
            prop_assert_eq!(pattern.matches(&path), expected);
        }

        #[test]
        fn never_panics(pattern in "/?[ -~]{0,30}", path in "\\PC{0,40}") {
            if let Ok(pattern) = PathPattern::parse(&pattern) {
                pattern.matches(&path);
            }
        }

        #[test]
        fn what_matches_stays_below_its_literal_prefix(path in "/repos/acme/[a-z./%2eE;\\\\]{0,20}") {
            if PathPattern::parse("/repos/acme/**").unwrap().matches(&path) {
                let decoded = String::from_utf8(decode(&path).unwrap().to_vec()).unwrap();
                prop_assert!(decoded.split(['/', '\\']).all(|segment| !is_dots(segment.as_bytes())));
            }
        }
    }
}
