//! Decodes resources from a tree, and finds all that is wrong in one go.
//!
//! serde stops at the first error. Here the error says which node it is about, the node is taken out of the
//! tree, and the tree is decoded again, until it decodes or nothing is left to take out. What the removal itself
//! makes wrong (a list that is now empty, a field that is now missing) is not reported.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

use crate::error::{Problem, Problems};
use crate::place::FieldPath;
use crate::tree::{Key, Node, Value};

/// A value as far as it could be decoded, and what was wrong.
#[derive(Debug)]
pub(crate) struct Decoded<T> {
    /// Complete when there are no problems; the rest of it otherwise; `None` when nothing could be saved.
    pub(crate) value: Option<T>,
    pub(crate) problems: Vec<Problem>,
    removed: Vec<FieldPath>,
}

/// Decodes a document.
pub(crate) fn decode<T: DeserializeOwned>(mut document: Node) -> Decoded<T> {
    let mut decoded = Decoded {
        value: None,
        problems: Vec::new(),
        removed: Vec::new(),
    };
    // Fields that a misspelt one was meant to be: they are missing, but that has been said.
    let mut meant = Vec::new();
    for _ in 0..MAX_PROBLEMS {
        let fault = match T::deserialize(&document) {
            Ok(value) => {
                decoded.value = Some(value);
                break;
            }
            Err(fault) => fault,
        };
        let path = path_of(&fault.steps);
        let field = fault
            .missing
            .map_or_else(|| path.clone(), |name| path.field(name));
        if !decoded.removed.contains(&field) && !meant.contains(&field) {
            decoded
                .problems
                .push(Problem::new(field, fault.message, fault.hint));
        }
        if let (Some(name), Some((parent, _))) = (fault.meant, path.parent()) {
            meant.push(parent.field(name));
        }
        if !remove(&mut document, &fault.steps) {
            break;
        }
        decoded.removed.push(path);
    }
    decoded
}

impl<T> Decoded<T> {
    /// Adds what the conversion of the saved value found, but for what may follow from the removals.
    pub(crate) fn add(&mut self, found: Problems) {
        let removed = &self.removed;
        let follows = |problem: &Problem| removed.iter().any(|path| follows_from(problem, path));
        let found = found
            .into_vec()
            .into_iter()
            .filter(|problem| !follows(problem));
        self.problems.extend(found.collect::<Vec<_>>());
    }
}

/// Whether a problem may be there only because a node was removed: it is around the node, beside it and about
/// several fields, or in a list that has lost an item and so its numbering.
fn follows_from(problem: &Problem, removed: &FieldPath) -> bool {
    let parent = removed.parent();
    let numbering = parent
        .as_ref()
        .is_some_and(|(parent, list)| *list && problem.field.is_within(parent));
    let beside = problem.joint
        && parent.map(|(parent, _)| parent) == problem.field.parent().map(|(parent, _)| parent);
    removed.is_within(&problem.field) || numbering || beside
}

#[derive(Debug, Clone)]
enum Step {
    Field(String),
    Item(usize),
}

/// An error on its way up: each level adds its step at the end.
#[derive(Debug)]
pub(crate) struct Fault {
    steps: Vec<Step>,
    message: String,
    hint: Option<String>,
    /// The field whose absence is the error.
    missing: Option<&'static str>,
    /// The field that an unknown one was probably meant to be.
    meant: Option<&'static str>,
}

impl Fault {
    fn new(message: String) -> Self {
        Self {
            steps: Vec::new(),
            message,
            hint: None,
            missing: None,
            meant: None,
        }
    }

    fn below(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

fn path_of(steps: &[Step]) -> FieldPath {
    steps
        .iter()
        .rev()
        .fold(FieldPath::root(), |path, step| match step {
            Step::Field(name) => path.field(name),
            Step::Item(index) => path.item(*index),
        })
}

/// Takes the node at the end of the steps out. A list keeps its numbering.
fn remove(node: &mut Node, steps: &[Step]) -> bool {
    let Some((step, rest)) = steps.split_last() else {
        return false;
    };
    match (step, &mut node.value) {
        (Step::Field(name), Value::Map(entries)) if rest.is_empty() => {
            let before = entries.len();
            entries.retain(|(key, _)| key.name != *name);
            entries.len() < before
        }
        (Step::Field(name), Value::Map(entries)) => entries
            .iter_mut()
            .find(|(key, _)| key.name == *name)
            .is_some_and(|(_, node)| remove(node, rest)),
        (Step::Item(index), Value::List(items)) => items.get_mut(*index).is_some_and(|item| {
            if rest.is_empty() {
                item.value = Value::Removed;
                return true;
            }
            remove(item, rest)
        }),
        _ => false,
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let scalar = matches!(
            unexpected,
            de::Unexpected::Bool(_)
                | de::Unexpected::Unsigned(_)
                | de::Unexpected::Signed(_)
                | de::Unexpected::Float(_)
        );
        let quotes = scalar && expected.to_string().contains("string");
        let list = matches!(unexpected, de::Unexpected::Str(_))
            && expected.to_string().contains("sequence");
        let hint = if quotes {
            Some("write it in quotes".to_owned())
        } else if list {
            Some("write a list, as in [a, b]".to_owned())
        } else {
            None
        };
        Self {
            hint,
            ..Self::new(format!(
                "{} is here, but {} is needed",
                shown(unexpected),
                named(expected)
            ))
        }
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!(
            "{} cannot be here; {} is needed",
            shown(unexpected),
            named(expected)
        ))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let hint = suggestion(field, expected);
        Self {
            hint,
            meant: nearest(field, expected),
            ..Self::new(format!("unknown field `{field}`"))
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self {
            hint: suggestion(variant, expected),
            ..Self::new(format!("unknown value {variant:?}"))
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            missing: Some(field),
            ..Self::new("the field is missing".to_owned())
        }
    }
}

fn shown(unexpected: de::Unexpected<'_>) -> String {
    match unexpected {
        de::Unexpected::Str(text) => format!("the text {text:?}"),
        de::Unexpected::Map => "a map".to_owned(),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Unit => "nothing".to_owned(),
        other => other.to_string(),
    }
}

/// serde's word for what is expected, in the words of YAML.
fn named(expected: &dyn de::Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "a string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "u16" => "a number from 0 to 65535".to_owned(),
        text if text.starts_with("struct ") => "a map".to_owned(),
        _ => expected,
    }
}

/// `did you mean` for a near miss, the possible names for few, else nothing.
pub(crate) fn suggestion(written: &str, possible: &[&str]) -> Option<String> {
    match nearest(written, possible) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if (1..=12).contains(&possible.len()) => {
            Some(format!("possible are {}", quoted(possible)))
        }
        None => None,
    }
}

fn nearest<'a>(written: &str, possible: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| strsim::osa_distance(&written.to_lowercase(), &name.to_lowercase());
    let near = possible.iter().copied().min_by_key(|name| distance(name));
    near.filter(|near| distance(near) <= 1 + near.len() / 4)
}

fn quoted(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Null | Value::Removed => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Signed(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_str(value),
            Value::List(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Map(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                value: None,
            }),
        }
    }

    /// A field without a value is an error, never an absent field: what is absent may mean "any".
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Null => {
                let hint = Some("give it a value, or leave the field out".to_owned());
                Err(Fault {
                    hint,
                    ..Fault::new("the field has no value".to_owned())
                })
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) => de::Deserializer::deserialize_enum(
                IntoDeserializer::<Fault>::into_deserializer(text.as_str()),
                name,
                variants,
                visitor,
            ),
            _ => Err(Fault::new(format!("one of {} is needed", quoted(variants)))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((index, item)) = self
            .0
            .find(|(_, item)| !matches!(item.value, Value::Removed))
        else {
            return Ok(None);
        };
        seed.deserialize(item)
            .map(Some)
            .map_err(|fault| fault.below(Step::Item(index)))
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, (Key, Node)>,
    value: Option<&'de (Key, Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.value = self.rest.next();
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        let name = IntoDeserializer::<Fault>::into_deserializer(key.name.as_str());
        seed.deserialize(name)
            .map(Some)
            .map_err(|fault| fault.below(Step::Field(key.name.clone())))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let (key, value) = self
            .value
            .take()
            .ok_or_else(|| Fault::new("a value is missing".to_owned()))?;
        seed.deserialize(value)
            .map_err(|fault| fault.below(Step::Field(key.name.clone())))
    }
}

/// Beyond this many, the file is something else.
const MAX_PROBLEMS: usize = 50;
