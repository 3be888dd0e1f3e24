//! Metrics and readiness, for those who run the node.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use futures_util::FutureExt as _;

use super::Daemon;
use crate::{
    admin::{self, Admin, Condition, Readiness},
    logging,
    metrics::Scraped,
};

/// How often readiness follows the configuration.
const CONFIG_LOOKS: Duration = Duration::from_millis(500);

impl Daemon {
    pub(super) async fn observe(
        &mut self,
        directory: &Path,
        port: Option<SocketAddr>,
    ) -> anyhow::Result<()> {
        let readiness = Readiness::new();
        for condition in Condition::ALL {
            readiness.holds(condition);
        }
        self.tell_of_config(readiness.clone());
        let inner = self.inner.clone();
        let scrape = move || {
            let sandboxes = inner.node.sandboxes.all();
            let leaves: usize = sandboxes.iter().map(|sandbox| sandbox.leaves.len()).sum();
            inner
                .node
                .metrics
                .leaf_cache_size
                .set(i64::try_from(leaves).unwrap_or(i64::MAX));
            let idle: usize = sandboxes
                .iter()
                .map(|sandbox| sandbox.idle_upstreams())
                .sum();
            inner
                .node
                .metrics
                .upstream_idle
                .set(i64::try_from(idle).unwrap_or(i64::MAX));
            let unavailable = inner
                .secrets
                .conditions()
                .iter()
                .filter(|c| !c.ready)
                .count();
            inner
                .node
                .metrics
                .secrets_unavailable
                .set(i64::try_from(unavailable).unwrap_or(0));
            Scraped {
                drops: inner
                    .steering
                    .drops()
                    .into_iter()
                    .map(|(r, n)| (r.as_str(), n))
                    .collect(),
                audit_lost: inner.node.audit.lost(),
                log_lost: logging::lost(),
            }
        };
        let metrics = self.inner.node.metrics.clone();
        let admin = Arc::new(Admin {
            metrics,
            readiness,
            scrape: Box::new(scrape),
        });
        let listeners = admin::Listeners::bind(&directory.join("admin.sock"), port).await?;
        let stop = self.inner.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = admin::serve(admin, listeners) => {}
            }
        });
        Ok(())
    }

    /// Keeps readiness and metrics in step with what is wrong with the configuration.
    fn tell_of_config(&mut self, readiness: Readiness) {
        let config = self.inner.config.clone();
        let metrics = self.inner.node.metrics.clone();
        self.tasks.spawn(
            self.inner
                .stop
                .clone()
                .run_until_cancelled_owned(async move {
                    let mut looks = tokio::time::interval(CONFIG_LOOKS);
                    let mut known = None;
                    loop {
                        looks.tick().await;
                        let problem = config.problem();
                        match &problem {
                            None => readiness.holds(Condition::Config),
                            Some(problem) => {
                                readiness.lacks(Condition::Config, problem.to_string());
                            }
                        }
                        let read = problem.as_ref().map(Arc::as_ptr);
                        if read.is_some() && read != known.as_ref().map(Arc::as_ptr) {
                            metrics.config_reload(false);
                        }
                        // Held, so that the next problem is told from it by where it is.
                        known = problem;
                    }
                })
                .map(drop),
        );
    }
}
