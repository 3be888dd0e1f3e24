//! Token buckets: so many at once, so many a second after that.

use tokio::time::Instant;

/// What may still be spent. Full at first.
pub(crate) struct Budget {
    burst: f64,
    rate: f64,
    left: f64,
    filled: Instant,
}

impl Budget {
    /// Allows `burst` at once, and `rate` a second.
    pub(crate) fn new(burst: u16, rate: u16) -> Self {
        Self {
            burst: burst.into(),
            rate: rate.into(),
            left: burst.into(),
            filled: Instant::now(),
        }
    }

    /// Spends one; `false` when there is none left.
    pub(crate) fn spend(&mut self) -> bool {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.filled);
        self.filled = now;
        self.left = (self.left + self.rate * passed.as_secs_f64()).min(self.burst);
        let granted = self.left >= 1.0;
        if granted {
            self.left -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn grants_a_burst_and_then_the_rate() {
        let mut budget = Budget::new(1000, 200);
        let mut granted = |asked: usize| (0..asked).filter(|_| budget.spend()).count();
        assert_eq!(granted(5000), 1000);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(granted(5000), 100);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(granted(5000), 1000);
    }
}
