//! Converting lists item by item, so that each bad item is reported.

use std::fmt;

use crate::error::{Advice, Problems};
use crate::place::FieldPath;

/// Converts each item. An empty list is a problem: nobody should read it as "all".
pub(crate) fn items<T, U, E: fmt::Display + Advice>(
    list: &[T],
    at: &FieldPath,
    problems: &mut Problems,
    convert: impl Fn(&T) -> Result<U, E>,
) -> Vec<U> {
    refuse_empty(list, at, problems);
    let items = list.iter().enumerate();
    items
        .filter_map(|(index, item)| problems.take(&at.item(index), convert(item)))
        .collect()
}

pub(crate) fn refuse_empty<T>(list: &[T], at: &FieldPath, problems: &mut Problems) {
    if list.is_empty() {
        problems.add(
            at.clone(),
            "the list is empty, which grants nothing",
            Some("name what is meant, or remove the entry".to_owned()),
        );
    }
}

/// Ports: 1 to 65535, none twice.
pub(crate) fn ports(list: &[u16], at: &FieldPath, problems: &mut Problems) -> Vec<u16> {
    refuse_empty(list, at, problems);
    for (index, port) in list.iter().enumerate() {
        if *port == 0 {
            problems.add(at.item(index), "port 0 does not exist", None);
        }
    }
    list.to_vec()
}
