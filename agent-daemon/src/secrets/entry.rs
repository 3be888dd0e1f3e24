//! One credential's source and its value in force.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use ersatz_api::Source;
use ersatz_policy::CredentialName;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::{Condition, EnvValues, Secret, Unavailable, exec};
use crate::files::{Stamp, read_settled};

/// A source, and what the last looks at it gave.
pub(super) struct Entry {
    name: CredentialName,
    source: Source,
    state: ArcSwap<State>,
    /// The state of the file that was last looked at, good or not, so that each is complained of once.
    seen: Mutex<Option<Stamp>>,
}

#[derive(Clone, Default)]
struct State {
    secret: Option<Arc<Secret>>,
    /// When the value ends; `None` for a value that stays.
    until: Option<Instant>,
    /// When the command is to be run again.
    due: Option<Instant>,
    /// Failures since the last success.
    failures: u32,
    problem: Option<Unavailable>,
}

/// Time to the first new try of a command that failed; doubles with each failure.
const RETRY: Duration = Duration::from_secs(1);

/// Time between two tries at most.
const RETRY_MOST: Duration = Duration::from_mins(1);

impl Entry {
    /// Reads the source for the first time.
    pub(super) async fn load(name: CredentialName, source: Source, env: &EnvValues) -> Self {
        let entry = Self {
            name,
            source,
            state: ArcSwap::default(),
            seen: Mutex::default(),
        };
        match &entry.source {
            Source::Env { name } => {
                let value = env.get(name).ok_or(Unavailable::NotSet);
                entry.take(value.and_then(|value| Ok(Secret::new(value)?)));
            }
            Source::File { .. } => entry.look().await,
            Source::Exec { .. } => entry.run().await,
        }
        entry
    }

    pub(super) fn is_of(&self, source: &Source) -> bool {
        self.source == *source
    }

    pub(super) fn secret(&self) -> Result<Arc<Secret>, Unavailable> {
        let state = self.state.load();
        if state.until.is_some_and(|until| until <= Instant::now()) {
            return Err(Unavailable::Expired);
        }
        match &state.secret {
            Some(secret) => Ok(Arc::clone(secret)),
            None => Err(state.problem.unwrap_or(Unavailable::Unknown)),
        }
    }

    pub(super) fn condition(&self) -> Condition {
        Condition {
            credential: self.name.clone(),
            ready: self.secret().is_ok(),
            problem: self.state.load().problem,
        }
    }

    /// The file to be watched.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.source {
            Source::File { path } => Some(path),
            Source::Env { .. } | Source::Exec { .. } => None,
        }
    }

    /// Looks at the file, and reads it when it is not as it was last seen.
    pub(super) async fn look(&self) {
        let Some(path) = self.file() else {
            return;
        };
        let stamp = Stamp::of(path);
        let first = self.is_new();
        if !first && stamp == *self.seen() {
            return;
        }
        match read_settled(path, Secret::MOST_READ).await {
            Ok((stamp, octets)) => {
                *self.seen() = Some(stamp);
                self.take(Secret::line(&octets).map_err(Unavailable::from));
            }
            Err(error) => {
                *self.seen() = stamp;
                self.take(Err(Unavailable::file(&error)));
            }
        }
    }

    /// Runs the command again whenever it is due. Returns at once for other sources.
    pub(super) async fn rerun(&self) {
        loop {
            let Some(due) = self.state.load().due else {
                return;
            };
            sleep_until(due).await;
            self.run().await;
        }
    }

    async fn run(&self) {
        let Source::Exec {
            command,
            timeout,
            ttl,
        } = &self.source
        else {
            return;
        };
        let taken = self.output(command, *timeout).await;
        self.take(taken);
        self.plan(*ttl);
    }

    async fn output(&self, command: &[String], limit: Duration) -> Result<Secret, Unavailable> {
        let output = exec::run(command, limit).await?;
        let secret = Secret::line(&output.stdout);
        self.log_complaint(&output, secret.as_ref().ok());
        if !output.status.success() {
            return Err(exec::ExecError::Failed(output.status.code()).into());
        }
        Ok(secret?)
    }

    /// What a command complains of helps people, unless it has a secret in it.
    fn log_complaint(&self, output: &exec::Output, new: Option<&Secret>) {
        let state = self.state.load();
        let known = [new, state.secret.as_deref()];
        let leaks = known
            .into_iter()
            .flatten()
            .any(|secret| secret.is_in(&output.stderr));
        if !output.stderr.is_empty() && !leaks {
            let stderr = output.stderr.escape_ascii();
            debug!(credential = %self.name, %stderr, "the command complained");
        }
    }

    /// Says when the command runs next, and when what it gave ends.
    fn plan(&self, ttl: Duration) {
        let now = Instant::now();
        let mut state = State::clone(&self.state.load());
        if state.failures == 0 {
            state.due = Some(now + ttl.mul_f32(0.75));
            state.until = Some(now + ttl * 2);
        } else {
            let doubled = RETRY * 2_u32.saturating_pow(state.failures - 1);
            state.due = Some(now + doubled.min(RETRY_MOST).min(ttl.max(RETRY)));
        }
        self.state.store(Arc::new(state));
    }

    /// Puts what a look at the source gave in force: a good value as it is, a bad one as a problem beside the last good value.
    fn take(&self, taken: Result<Secret, Unavailable>) {
        let mut state = State::clone(&self.state.load());
        match taken {
            Ok(secret) => {
                let changed = state.secret.as_ref().is_none_or(|old| !old.same(&secret));
                if changed {
                    info!(credential = %self.name, "secret loaded");
                    state.secret = Some(Arc::new(secret));
                }
                state.problem = None;
                state.failures = 0;
            }
            Err(problem) => {
                let kept = state.secret.is_some();
                warn!(credential = %self.name, reason = %problem, last_good_kept = kept, "secret not loaded");
                state.problem = Some(problem);
                state.failures = state.failures.saturating_add(1);
            }
        }
        self.state.store(Arc::new(state));
    }

    /// Tells whether no look at the source has ended yet.
    fn is_new(&self) -> bool {
        let state = self.state.load();
        state.secret.is_none() && state.problem.is_none()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Option<Stamp>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
