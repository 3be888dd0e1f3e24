//! Spans of time as a user writes them: `10s`, `5m`, `1h30m`, `250ms`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time, written as numbers with the units `ms`, `s`, `m`, `h`, from the largest to the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

/// The text is no span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a span of time; write it as 10s, 5m, 1h30m or 250ms")]
pub struct SpanError;

impl Span {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub fn parse(text: &str) -> Result<Self, SpanError> {
        let mut rest = text;
        let mut total = Duration::ZERO;
        let mut units = UNITS.iter();
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(SpanError)?;
            let (number, behind) = rest.split_at_checked(digits).ok_or(SpanError)?;
            let letters = behind
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(behind.len());
            let (unit, behind) = behind.split_at_checked(letters).ok_or(SpanError)?;
            let (_, milliseconds) = units.find(|(name, _)| *name == unit).ok_or(SpanError)?;
            let number: u64 = number.parse().map_err(|_| SpanError)?;
            let part = number.checked_mul(*milliseconds).ok_or(SpanError)?;
            total = total
                .checked_add(Duration::from_millis(part))
                .ok_or(SpanError)?;
            rest = behind;
        }
        if text.is_empty() || total > LONGEST {
            Err(SpanError)
        } else {
            Ok(Self(total))
        }
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, milliseconds) in UNITS {
            let milliseconds = u128::from(*milliseconds);
            if rest >= milliseconds {
                write!(f, "{}{unit}", rest / milliseconds)?;
                rest %= milliseconds;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Each unit and its milliseconds, from the largest to the smallest.
const UNITS: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A longer one is a mistake.
const LONGEST: Duration = Duration::from_hours(365 * 24);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10s", 10_000)]
    #[case("5m", 300_000)]
    #[case("1h30m", 5_400_000)]
    #[case("1m500ms", 60_500)]
    #[case("0s", 0)]
    #[case("90s", 90_000)]
    fn takes_numbers_with_units(#[case] text: &str, #[case] milliseconds: u64) {
        assert_eq!(
            Duration::from(Span::parse(text).unwrap()),
            Duration::from_millis(milliseconds)
        );
    }

    #[rstest]
    #[case("")]
    #[case("10")]
    #[case("s")]
    #[case("10 s")]
    #[case("-1s")]
    #[case("1.5s")]
    #[case("1d")]
    #[case("1s1m")]
    #[case("1s1s")]
    #[case("9000h")]
    #[case("99999999999999999999s")]
    fn refuses_all_else(#[case] text: &str) {
        assert_eq!(Span::parse(text), Err(SpanError));
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_to_the_same(milliseconds in 0_u64..1_000_000_000) {
            let span = Span(Duration::from_millis(milliseconds));
            prop_assert_eq!(Span::parse(&span.to_string()), Ok(span));
        }
    }
}
