//! The real addresses of a name, asked for when a permitted connection is dialled.
//!
//! A forwarder: it asks the node's own resolvers, or the configured ones, and
//! never recurses. The node's hosts file comes first, as for any program of the
//! node. What comes back is not trusted: each address is vetted before it is dialled.
//!
//! Nothing is shared between sandboxes, so that none can learn from the time an
//! answer takes what another has asked. How many new names a sandbox may have
//! resolved in a time is bounded, because the labels of names below an allowed
//! wildcard carry what a sandbox likes to whoever serves the zone.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ersatz_policy::{Name, Reason};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use lru::LruCache;
use tokio::time::{Instant, timeout};

use crate::budget::Budget;

mod ask;
mod upstream;

use self::upstream::Upstream;

/// Which sandbox asks: any number that no two sandboxes have at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SandboxKey(pub u64);

/// Resolves names, with a cache for each sandbox.
///
/// Serves all workers; an answer that two of them wait for is asked for once.
pub struct Resolver {
    upstream: Arc<Upstream>,
    sandboxes: Mutex<LruCache<SandboxKey, Asked>>,
}

/// Why a name has no addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such name, or it has no addresses.
    #[error("the name does not exist")]
    NotFound,
    /// No answer in time.
    #[error("the resolvers did not answer in time")]
    Timeout,
    /// No resolver is configured or reachable, or they failed.
    #[error("the resolvers failed")]
    Failed,
    /// The sandbox asks for new names too fast.
    #[error("the sandbox asks for too many names")]
    Overloaded,
}

/// Sandboxes remembered: twice as many as a node can have, so that only a sandbox that has ended and
/// asked once more while it did so gives way.
const SANDBOXES: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// Names kept a sandbox.
const NAMES: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Names that a sandbox may have resolved at once, and a second after that.
const BURST: u16 = 200;
const RATE: u16 = 20;

/// Time that a caller waits for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

impl Resolver {
    /// Makes a resolver that asks `resolvers`, or those of the node's `resolv.conf` when there are none.
    pub fn new(resolvers: Vec<SocketAddr>) -> Self {
        Self::with_upstream(Upstream::new(resolvers))
    }

    fn with_upstream(upstream: Upstream) -> Self {
        Self {
            upstream: Arc::new(upstream),
            sandboxes: Mutex::new(LruCache::new(SANDBOXES)),
        }
    }

    /// Gives the addresses of `name`, at least one and at most 16, IPv6 and IPv4 in turn.
    ///
    /// Answers within 5 seconds. Cancel-safe: an answer that nobody waits for any more is kept for the next who asks.
    ///
    /// # Errors
    ///
    /// Fails when the name has no addresses, or nobody can tell.
    pub async fn lookup(
        &self,
        sandbox: SandboxKey,
        name: &Name,
    ) -> Result<Arc<[IpAddr]>, ResolveError> {
        let answer = self.answer(sandbox, name)?;
        match timeout(DEADLINE, answer).await {
            Ok(answer) => answer.addresses,
            Err(_) => Err(ResolveError::Timeout),
        }
    }

    /// Forgets what was asked for a sandbox that has ended.
    pub fn forget(&self, sandbox: SandboxKey) {
        self.lock().pop(&sandbox);
    }

    /// Number of names kept, of all sandboxes.
    pub fn cached(&self) -> usize {
        self.lock()
            .iter()
            .map(|(_, asked)| asked.answers.len())
            .sum()
    }

    /// Takes the answer that is kept or under way, or starts one.
    fn answer(&self, sandbox: SandboxKey, name: &Name) -> Result<Pending, ResolveError> {
        let mut sandboxes = self.lock();
        let asked = sandboxes.get_or_insert_mut(sandbox, Asked::new);
        if let Some(answer) = asked.current(name) {
            return Ok(answer);
        }
        if !asked.budget.spend() {
            return Err(ResolveError::Overloaded);
        }
        let answer = start(Arc::clone(&self.upstream), name.clone());
        asked.answers.put(name.clone(), answer.clone());
        Ok(answer)
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<SandboxKey, Asked>> {
        self.sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolveError {
    /// The reason that the sandbox is told.
    pub fn reason(self) -> Reason {
        match self {
            Self::NotFound => Reason::NameNotFound,
            Self::Timeout => Reason::UpstreamTimeout,
            Self::Failed => Reason::UpstreamUnreachable,
            Self::Overloaded => Reason::Overloaded,
        }
    }
}

/// What one sandbox has asked.
struct Asked {
    answers: LruCache<Name, Pending>,
    budget: Budget,
}

impl Asked {
    fn new() -> Self {
        Self {
            answers: LruCache::new(NAMES),
            budget: Budget::new(BURST, RATE),
        }
    }

    /// The answer for `name`, unless its time is over.
    fn current(&mut self, name: &Name) -> Option<Pending> {
        let answer = self.answers.get(name)?;
        let over = answer
            .peek()
            .is_some_and(|done| done.until <= Instant::now());
        (!over).then(|| answer.clone())
    }
}

/// An answer that is there or under way; whoever holds it may wait for it.
type Pending = Shared<BoxFuture<'static, Answer>>;

#[derive(Clone)]
struct Answer {
    addresses: Result<Arc<[IpAddr]>, ResolveError>,
    until: Instant,
}

/// Asks in a task of its own, which ends by its own time limits: so an answer
/// does not stand still when the caller that started it goes away.
fn start(upstream: Arc<Upstream>, name: Name) -> Pending {
    let task = tokio::spawn(async move {
        let (addresses, keep) = ask::ask(&upstream, &name).await;
        Answer {
            addresses,
            until: Instant::now() + keep,
        }
    });
    let answer = async {
        task.await.unwrap_or_else(|_| Answer {
            addresses: Err(ResolveError::Failed),
            until: Instant::now(),
        })
    };
    answer.boxed().shared()
}

#[cfg(test)]
mod tests;
