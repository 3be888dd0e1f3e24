//! Stubs and their shapes.
//!
//! A stub stands in a sandbox where the real credential would stand. It looks like the real thing, so that a
//! client that checks its token's form takes it, and is random, so that it cannot be guessed: a shape of less
//! than 128 bits is refused. A shape is a tiny pattern of literals and counted classes, such as
//! `ghp_[A-Za-z0-9]{36}`, whose texts all have one length; it is not a regular expression.

use std::fmt;

/// What a credential's stubs look like.
#[derive(Clone, PartialEq, Eq)]
pub struct Shape {
    text: Box<str>,
    /// The characters possible at each place: one for a literal.
    places: Box<[Class]>,
}

/// A stub. Worthless outside its sandbox, so it may be printed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stub(Box<str>);

/// Why a text is not a shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error(
        "stubs would have {0} bits of randomness; 128 are needed (22 of [A-Za-z0-9], 32 of [0-9a-f])"
    )]
    Entropy(u32),
    #[error("stubs would be longer than {MAX_STUB} bytes")]
    TooLong,
    #[error("{0:?} cannot be in a stub: visible ASCII without \" \\ , ; = only")]
    Character(char),
    #[error("a class is written as [A-Za-z0-9], with ranges that ascend")]
    Class,
    #[error(
        "a count is written as {{n}} behind a class or a character, with n from 1 to {MAX_STUB}"
    )]
    Count,
    #[error("a backslash at the end escapes nothing")]
    Escape,
}

/// A set of characters, in ascending order, without duplicates, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Class(Box<[u8]>);

impl Shape {
    /// Parses literals, classes `[…]`, counts `{n}` and escapes with a backslash.
    pub fn parse(text: &str) -> Result<Self, ShapeError> {
        let mut places: Vec<Class> = Vec::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            match character {
                '[' => places.push(class(&mut rest)?),
                '{' => repeat(&mut places, count(&mut rest)?)?,
                ']' | '}' => return Err(ShapeError::Class),
                '\\' => places.push(literal(rest.next().ok_or(ShapeError::Escape)?)?),
                character => places.push(literal(character)?),
            }
            if places.len() > MAX_STUB {
                return Err(ShapeError::TooLong);
            }
        }
        let shape = Self {
            text: text.into(),
            places: places.into(),
        };
        match shape.entropy_bits() {
            128.. => Ok(shape),
            bits => Err(ShapeError::Entropy(bits)),
        }
    }

    /// How many bits of randomness a stub of this shape holds, rounded down.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 512 places of 7 bits"
    )]
    pub fn entropy_bits(&self) -> u32 {
        self.places
            .iter()
            .map(|class| f64::from(class.size()).log2())
            .sum::<f64>() as u32
    }

    /// Makes a stub from a source of random bytes.
    ///
    /// Every text of the shape is equally likely: bytes beyond the greatest multiple of a class's size are drawn anew.
    pub fn make(&self, random: &mut dyn FnMut(&mut [u8])) -> Stub {
        let mut pool = Pool {
            random,
            bytes: [0; 64],
            used: 64,
        };
        Stub(
            self.places
                .iter()
                .map(|class| char::from(class.pick(&mut pool)))
                .collect(),
        )
    }

    /// Takes a stub that was made earlier, if it is of this shape.
    pub fn adopt(&self, text: &str) -> Option<Stub> {
        self.matches(text).then(|| Stub(text.into()))
    }

    pub fn matches(&self, text: &str) -> bool {
        text.len() == self.places.len()
            && text
                .bytes()
                .zip(&self.places)
                .all(|(byte, class)| class.0.contains(&byte))
    }

    /// The length of every stub of this shape, in bytes.
    pub fn length(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn may_hold(&self, byte: u8) -> bool {
        self.places.iter().any(|class| class.0.contains(&byte))
    }
}

impl Shape {
    /// A stub that was made before, by another process; `None` when it is not of this shape.
    pub fn restore(&self, text: &str) -> Option<Stub> {
        self.matches(text).then(|| Stub(text.into()))
    }
}

impl Stub {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Class {
    fn size(&self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(u8::MAX)
    }

    fn pick(&self, pool: &mut Pool<'_>) -> u8 {
        let size = self.size();
        let fair = u8::MAX - (u8::MAX % size + 1) % size;
        loop {
            let byte = if size == 1 { 0 } else { pool.byte() };
            if let Some(picked) = self
                .0
                .get(usize::from(byte % size))
                .filter(|_| byte <= fair)
            {
                return *picked;
            }
        }
    }
}

/// Random bytes, drawn 64 at a time.
struct Pool<'a> {
    random: &'a mut dyn FnMut(&mut [u8]),
    bytes: [u8; 64],
    used: usize,
}

impl Pool<'_> {
    fn byte(&mut self) -> u8 {
        if self.used == self.bytes.len() {
            (self.random)(&mut self.bytes);
            self.used = 0;
        }
        let byte = self.bytes.get(self.used).copied().unwrap_or_default();
        self.used += 1;
        byte
    }
}

fn literal(character: char) -> Result<Class, ShapeError> {
    allowed(character).map(|byte| Class(Box::new([byte])))
}

fn allowed(character: char) -> Result<u8, ShapeError> {
    match u8::try_from(character) {
        Ok(byte) if byte.is_ascii_graphic() && !b"\"\\,;=".contains(&byte) => Ok(byte),
        _ => Err(ShapeError::Character(character)),
    }
}

/// Reads a class behind its opening bracket, to the closing one.
fn class(rest: &mut std::str::Chars<'_>) -> Result<Class, ShapeError> {
    let mut members = Vec::new();
    loop {
        let from = match rest.next().ok_or(ShapeError::Class)? {
            ']' if members.is_empty() => return Err(ShapeError::Class),
            ']' => break,
            '[' | '^' => return Err(ShapeError::Class),
            '\\' => allowed(rest.next().ok_or(ShapeError::Escape)?)?,
            character => allowed(character)?,
        };
        let mut ahead = rest.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(to)) if to != ']' => {
                let to = if to == '\\' {
                    ahead.next().ok_or(ShapeError::Escape)?
                } else {
                    to
                };
                members.extend(range(from, allowed(to)?)?);
                *rest = ahead;
            }
            _ => members.push(from),
        }
    }
    members.sort_unstable();
    members.dedup();
    Ok(Class(members.into()))
}

fn range(from: u8, to: u8) -> Result<std::ops::RangeInclusive<u8>, ShapeError> {
    let forbidden = (from..=to).find_map(|byte| allowed(char::from(byte)).err());
    match forbidden {
        Some(error) => Err(error),
        None if from > to => Err(ShapeError::Class),
        None => Ok(from..=to),
    }
}

fn count(rest: &mut std::str::Chars<'_>) -> Result<usize, ShapeError> {
    let (digits, behind) = rest.as_str().split_once('}').ok_or(ShapeError::Count)?;
    *rest = behind.chars();
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits
        .parse()
        .ok()
        .filter(|_| canonical)
        .ok_or(ShapeError::Count)
}

/// Repeats the last place so that it stands `count` times.
fn repeat(places: &mut Vec<Class>, count: usize) -> Result<(), ShapeError> {
    if count > MAX_STUB {
        return Err(ShapeError::TooLong);
    }
    let last = places.last().cloned().ok_or(ShapeError::Count)?;
    places.extend(std::iter::repeat_n(last, count - 1));
    Ok(())
}

/// `ersatz_` and 32 letters and digits: 190 bits.
impl Default for Shape {
    fn default() -> Self {
        Self::parse("ersatz_[A-Za-z0-9]{32}")
            .expect("the default shape is well-formed and has 190 bits")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shape({})", self.text)
    }
}

/// The longest stub: the longest tokens in use (some JWTs aside) are shorter, and every stub is searched for in
/// every request head.
const MAX_STUB: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// A bad but sufficient source: each byte value equally often.
    fn counter() -> impl FnMut(&mut [u8]) {
        let mut next = 0_u8;
        move |bytes| {
            for byte in bytes {
                *byte = next;
                next = next.wrapping_add(1);
            }
        }
    }

    #[rstest]
    #[case("ghp_[A-Za-z0-9]{36}", 40, 214)]
    #[case("sk-ant-api03-[A-Za-z0-9_-]{93}AA", 108, 558)]
    #[case("[0-9a-f]{32}", 32, 128)]
    #[case("[0-9a-f]{16}-[0-9a-f]{16}", 33, 128)]
    #[case("a{3}[ab]{128}", 131, 128)]
    #[case(r"\[\{[A-Za-z0-9]{22}\}\]", 26, 130)]
    #[case(r"[a\-z\]]{64}", 64, 128)]
    fn takes_literals_classes_and_counts(
        #[case] text: &str,
        #[case] length: usize,
        #[case] bits: u32,
    ) {
        let shape = Shape::parse(text).unwrap();
        assert_eq!((shape.length(), shape.entropy_bits()), (length, bits));
        let stub = shape.make(&mut counter());
        assert!(shape.matches(stub.as_str()), "{stub:?}");
        assert_eq!(shape.adopt(stub.as_str()), Some(stub));
    }

    #[rstest]
    #[case("", ShapeError::Entropy(0))]
    #[case("ghp_secret", ShapeError::Entropy(0))]
    #[case("[A-Za-z0-9]{21}", ShapeError::Entropy(125))]
    #[case("[0-9a-f]{31}", ShapeError::Entropy(124))]
    #[case("[ab]{127}", ShapeError::Entropy(127))]
    #[case("[aaaaaaaa]{512}", ShapeError::Entropy(0))]
    #[case("[a-z]{513}", ShapeError::TooLong)]
    #[case("[a-z]{99999999999999999999}", ShapeError::Count)]
    #[case("[a-z]{512}a", ShapeError::TooLong)]
    #[case("a b[a-z]{40}", ShapeError::Character(' '))]
    #[case("a=[a-z]{40}", ShapeError::Character('='))]
    #[case("\"[a-z]{40}", ShapeError::Character('"'))]
    #[case("[ -~]{40}", ShapeError::Character(' '))]
    #[case("[!-~]{40}", ShapeError::Character('"'))]
    #[case("[a,b]{400}", ShapeError::Character(','))]
    #[case(r"\\[a-z]{40}", ShapeError::Character('\\'))]
    #[case("\u{fc}[a-z]{40}", ShapeError::Character('\u{fc}'))]
    #[case("[z-a]{40}", ShapeError::Class)]
    #[case("[]{40}", ShapeError::Class)]
    #[case("[^a]{40}", ShapeError::Class)]
    #[case("[a-z{40}", ShapeError::Class)]
    #[case("a-z]{40}", ShapeError::Class)]
    #[case("{40}", ShapeError::Count)]
    #[case("[a-z]{0}", ShapeError::Count)]
    #[case("[a-z]{}", ShapeError::Count)]
    #[case("[a-z]{1,40}", ShapeError::Count)]
    #[case("[a-z]{40", ShapeError::Count)]
    #[case("[a-z]{40}\\", ShapeError::Escape)]
    fn refuses_weak_and_malformed_shapes(#[case] text: &str, #[case] error: ShapeError) {
        assert_eq!(Shape::parse(text), Err(error));
    }

    #[test]
    fn picks_every_character_equally_often() {
        let shape = Shape::parse("[a-j]{500}").unwrap();
        let mut random = counter();
        let mut seen = [0_u32; 10];
        for _ in 0..100 {
            for byte in shape.make(&mut random).as_str().bytes() {
                seen[usize::from(byte - b'a')] += 1;
            }
        }
        assert!(
            seen.iter().all(|count| count.abs_diff(5_000) <= 25),
            "{seen:?}"
        );
    }

    #[test]
    fn other_texts_do_not_match() {
        let shape = Shape::parse("ghp_[A-Za-z0-9]{36}").unwrap();
        let stub = shape.make(&mut counter());
        assert!(!shape.matches(&format!("{}x", stub.as_str())));
        assert!(!shape.matches(&stub.as_str().replace("ghp_", "gho_")));
        assert_eq!(shape.adopt("ghp_"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}", classes in "(\\[[ -~]{0,6}\\]?(\\{[0-9,]{0,4}\\}?)?){0,4}") {
            let _ = Shape::parse(&text);
            let _ = Shape::parse(&classes);
        }

        #[test]
        fn stubs_match_their_shape(seed in any::<u64>(), prefix in "[a-z_]{0,8}", size in 22_usize..60) {
            let shape = Shape::parse(&format!("{prefix}[A-Za-z0-9]{{{size}}}")).unwrap();
            let mut state = seed;
            let mut random = |bytes: &mut [u8]| for byte in bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            };
            let stub = shape.make(&mut random);
            prop_assert!(shape.matches(stub.as_str()));
            prop_assert_ne!(shape.make(&mut random), stub);
        }
    }
}
