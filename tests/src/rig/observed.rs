//! What a scenario looks at afterwards.

use std::{collections::BTreeSet, fmt, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Node;

/// JSON lines of the audit log or of the ledger.
#[derive(Debug, Clone, Default)]
pub struct Records(Vec<Value>);

impl Records {
    /// Reads a file; one that is not there yet has no records.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        // The last line may be half written while it is read.
        let whole = text
            .rfind('\n')
            .map_or("", |end| text.get(..end).unwrap_or(""));
        let records = whole.lines().map(|line| {
            serde_json::from_str(line).with_context(|| format!("not a record: {line}"))
        });
        Ok(Self(records.collect::<Result<_>>()?))
    }

    /// Those whose fields have these values; a field is `name` or `outer.inner`.
    #[must_use]
    pub fn with(&self, fields: &[(&str, &str)]) -> Self {
        let fits = |record: &&Value| {
            fields
                .iter()
                .all(|(name, value)| text(record, name) == *value)
        };
        Self(self.0.iter().filter(fits).cloned().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Value> {
        self.0.iter()
    }

    /// A field of each, as text.
    pub fn field(&self, name: &str) -> Vec<String> {
        self.0.iter().map(|record| text(record, name)).collect()
    }
}

impl IntoIterator for Records {
    type Item = Value;
    type IntoIter = std::vec::IntoIter<Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'r> IntoIterator for &'r Records {
    type Item = &'r Value;
    type IntoIter = std::slice::Iter<'r, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|record| writeln!(f, "{record}"))
    }
}

/// A field's value as text, whatever its type; missing is empty.
pub fn text(record: &Value, field: &str) -> String {
    let value = field
        .split('.')
        .try_fold(record, |value, name| value.get(name));
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// What a node has: links, addresses, routes, rules, settings, mounts, processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    pub(super) fn take(node: &Node) -> Result<Self> {
        let output = node.command("sh").args(["-c", LIST]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Self(text.lines().map(str::to_owned).collect()))
    }

    /// What is here and not there, and the other way round.
    pub fn difference(&self, later: &Self) -> Vec<String> {
        let gone = self.0.difference(&later.0).map(|line| format!("- {line}"));
        let new = later.0.difference(&self.0).map(|line| format!("+ {line}"));
        gone.chain(new).collect()
    }
}

/// Lines that stay the same as long as nobody changes anything.
const LIST: &str = r"
ip -o link | sed 's/^[0-9]*: \([^:@]*\).*/link \1/'
ip -o addr | awk '{print $2, $3, $4}' | sed 's/^/address /'
ip -4 route show table all | sed 's/ linkdown//; s/^/route /'
ip -6 route show table all | grep -v '^multicast' | sed 's/ linkdown//; s/ expires.*//; s/^/route6 /'
ip rule | sed 's/^/rule /'
ip -6 rule | sed 's/^/rule6 /'
awk '{print $5}' /proc/self/mountinfo | sed 's/^/mount /'
find /run/ersatz -mindepth 1 2>/dev/null | sed 's/^/state /'
grep -rs . /proc/sys/net/ipv4/conf/all /proc/sys/net/ipv4/conf/default /proc/sys/net/ipv4/conf/node0 \
  /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all /proc/sys/net/ipv6/conf/default \
  | grep -v stable_secret | sed 's/^/setting /'
for process in /proc/[0-9]*; do tr '\0' ' ' < $process/cmdline 2>/dev/null | cut -c1-80; echo; done \
  | grep -v -e '^$' -e '^sh -c' -e '^sed' -e '^cat' -e '^awk' -e '^grep' | sed 's/^/process /'
";
