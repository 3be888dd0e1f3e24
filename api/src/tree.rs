//! A YAML document as a tree whose every node knows its place.
//!
//! The text is parsed once into this tree, and resources are decoded from the tree: so every error can say
//! where it is, and a document can be decoded again after one error to find the next. Anchors, aliases, merge
//! keys and tags are refused: a resource has no need of them, and they are what YAML bombs are made of.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::MergeKeyPolicy;
use serde_saphyr::{Error, Location, Options, Spanned};

use crate::place::Mark;

/// One value of a document.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// What was found to be wrong and taken out, so that the rest can be looked at.
    Removed,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) mark: Mark,
    pub(crate) name: String,
}

/// Why a document is no tree.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) mark: Option<Mark>,
    pub(crate) message: String,
    pub(crate) hint: Option<&'static str>,
}

impl Node {
    /// The value behind a key of a map.
    pub(crate) fn entry(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        entries
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, node)| node)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value {
            Some(text)
        } else {
            None
        }
    }
}

/// Parses all documents of a text. After an error that leaves the parser without a footing, the rest is missing.
pub(crate) fn parse(text: &str) -> Vec<Result<Node, SyntaxError>> {
    let mut bytes = text.as_bytes();
    let documents = serde_saphyr::read_with_options::<_, Node>(&mut bytes, options());
    documents
        .map(|document| document.map_err(|error| SyntaxError::of(&error)))
        .take(MAX_DOCUMENTS)
        .collect()
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(MAX_TEXT),
            max_aliases: 0,
            max_anchors: 0,
            max_depth: 32,
            max_nodes: 100_000,
            max_documents: MAX_DOCUMENTS,
        },
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

impl SyntaxError {
    fn of(error: &Error) -> Self {
        let error = error.without_snippet();
        let mark = error
            .location()
            .filter(|location| *location != Location::UNKNOWN)
            .map(Mark::of);
        let (message, hint) = match error {
            Error::Budget {
                breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. },
                ..
            } => (
                "anchors and aliases are not allowed".to_owned(),
                Some("write the value out at each place"),
            ),
            Error::Budget { .. } => ("the document is too large or too deep".to_owned(), None),
            Error::MergeKeyNotAllowed { .. } => (
                "merge keys (<<) are not allowed".to_owned(),
                Some("write the fields out at each place"),
            ),
            error => (
                error.render_with_formatter(&serde_saphyr::UserMessageFormatter),
                None,
            ),
        };
        // The message may name the place again, and may run over several lines.
        let message = message.lines().next().unwrap_or("not YAML").to_owned();
        Self {
            mark,
            message,
            hint,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned {
            value, referenced, ..
        } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            mark: Mark::of(referenced),
            value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let key = Key {
                mark: Mark::of(key.referenced),
                name: key.value,
            };
            map.push((key, entries.next_value()?));
        }
        Ok(Value::Map(map))
    }
}

/// A megabyte holds some ten thousand rules; a larger text is a mistake or an attack.
pub(crate) const MAX_TEXT: usize = 1024 * 1024;
/// More resources than a node can use.
const MAX_DOCUMENTS: usize = 1024;
