//! The real secrets of a policy's credentials: where they come from, and the value in force.
//!
//! Values are read when they are loaded and kept fresh in the background, so that
//! a request finds its secret by one look and never waits. Each request takes one
//! value and keeps it: a change between two of its steps cannot mix them.
//!
//! A source that breaks keeps the value that was last good and says so; a
//! command's value ends at twice its time to live. Only `inject` reads a value.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
};

use arc_swap::ArcSwap;
use ersatz_api::Source;
use ersatz_policy::{CredentialName, Reason};
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

mod entry;
mod exec;
mod program;
mod secret;

use self::entry::Entry;
pub use self::{
    exec::ExecError,
    secret::{Invalid, Secret},
};
use crate::{enrol::SecretText, files::Changes};

/// The secrets of all credentials of one set of resources.
pub struct Secrets {
    env: EnvValues,
    entries: ArcSwap<HashMap<CredentialName, Arc<Entry>>>,
    replaced: Notify,
}

/// Values of `from: env` sources, read once: the daemon's environment is not looked at again.
#[derive(Default)]
pub struct EnvValues(BTreeMap<String, Zeroizing<String>>);

/// Why a credential has no value now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// No source of that name.
    #[error("no such credential")]
    Unknown,
    /// The variable is not set, or is not text.
    #[error("the environment variable is not set")]
    NotSet,
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    File(io::ErrorKind),
    /// The command gave nothing.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// What there is, is no secret.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The command has failed for so long that its last value is not believed any more.
    #[error("the value is older than twice its time to live")]
    Expired,
}

/// How a credential's source does: for a gauge, a readiness check, a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub credential: CredentialName,
    /// There is a value that may be used.
    pub ready: bool,
    /// What the last look at the source found wrong; the value may be an earlier one.
    pub problem: Option<Unavailable>,
}

impl Secrets {
    /// Reads all `sources`, at once. Those that fail have no value until a later look succeeds: see [`Self::conditions`].
    pub async fn load(
        sources: impl IntoIterator<Item = (CredentialName, Source)>,
        env: EnvValues,
    ) -> Arc<Self> {
        let secrets = Self {
            env,
            entries: ArcSwap::default(),
            replaced: Notify::new(),
        };
        secrets.replace(sources).await;
        Arc::new(secrets)
    }

    /// The value in force. Takes no lock and never waits.
    pub fn secret(&self, name: &CredentialName) -> Result<Arc<Secret>, Unavailable> {
        let entries = self.entries.load();
        entries.get(name).ok_or(Unavailable::Unknown)?.secret()
    }

    /// Takes other sources, after a change of the resources. A source that stays keeps its value.
    pub async fn replace(&self, sources: impl IntoIterator<Item = (CredentialName, Source)>) {
        let old = self.entries.load_full();
        let entries = join_all(sources.into_iter().map(async |(name, source)| {
            let kept = old.get(&name).filter(|entry| entry.is_of(&source));
            let entry = match kept {
                Some(entry) => Arc::clone(entry),
                None => Arc::new(Entry::load(name.clone(), source, &self.env).await),
            };
            (name, entry)
        }))
        .await;
        self.entries.store(Arc::new(entries.into_iter().collect()));
        self.replaced.notify_one();
    }

    /// How all sources do, by name.
    pub fn conditions(&self) -> Vec<Condition> {
        let entries = self.entries.load();
        let mut conditions: Vec<_> = entries.values().map(|entry| entry.condition()).collect();
        conditions.sort_by(|one, other| one.credential.cmp(&other.credential));
        conditions
    }

    /// Keeps all values fresh until `shutdown` is cancelled.
    pub async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let entries = self.entries.load_full();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.replaced.notified() => {}
                () = keep_fresh(&entries) => {}
            }
        }
    }
}

/// Does not return while there is anything to keep fresh.
async fn keep_fresh(entries: &HashMap<CredentialName, Arc<Entry>>) {
    let files = async {
        let changes = Changes::of_files(entries.values().filter_map(|entry| entry.file()));
        loop {
            changes.next().await;
            join_all(entries.values().map(|entry| entry.look())).await;
        }
    };
    let commands = join_all(entries.values().map(|entry| entry.rerun()));
    tokio::join!(files, commands);
}

impl EnvValues {
    /// Reads the variables `names` of this process.
    pub fn of_process<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let read = |name: &str| Some((name.to_owned(), Zeroizing::new(std::env::var(name).ok()?)));
        Self(names.into_iter().filter_map(read).collect())
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|value| value.as_bytes())
    }
}

impl FromIterator<(String, SecretText)> for EnvValues {
    fn from_iter<I: IntoIterator<Item = (String, SecretText)>>(values: I) -> Self {
        Self(
            values
                .into_iter()
                .map(|(name, SecretText(value))| (name, value))
                .collect(),
        )
    }
}

impl Unavailable {
    /// The reason that the sandbox is told.
    pub fn reason(self) -> Reason {
        Reason::SecretUnavailable
    }

    fn file(error: &io::Error) -> Self {
        Self::File(error.kind())
    }
}

#[cfg(test)]
mod tests;
