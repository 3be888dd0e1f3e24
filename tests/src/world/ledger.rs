//! What the world received, one JSON record a line, in the order it came.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The file that tests compare with the audit log.
pub(super) struct Ledger {
    file: Mutex<File>,
    connections: AtomicU64,
}

impl Ledger {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            file: Mutex::new(file),
            connections: AtomicU64::new(0),
        })
    }

    /// A number for the next connection, by which its records belong together.
    pub(super) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes a record down before the world answers to what it is about.
    pub(super) fn write(&self, kind: &str, mut record: Value) {
        if let Some(fields) = record.as_object_mut() {
            fields.insert("kind".into(), json!(kind));
            fields.insert("at_us".into(), json!(now_us()));
        }
        let line = format!("{record}\n");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            eprintln!("ledger: {error}");
        }
    }
}

/// Microseconds since the epoch.
pub(super) fn now_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
