//! Timestamps as RFC 3339 in UTC with microseconds, the date kept for a second.

use std::{
    cell::Cell,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

thread_local! {
    static SECOND: Cell<(u64, [u8; 20])> = const { Cell::new((u64::MAX, [b'0'; 20])) };
}

/// Appends `2026-11-23T19:18:51.000123Z`; a time before 1970 is written as 1970.
pub(super) fn write(line: &mut Vec<u8>, time: SystemTime) {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    line.extend_from_slice(&second(since.as_secs()));
    let mut micros = [b'0'; 7];
    let mut left = since.subsec_micros();
    for digit in micros.iter_mut().take(6).rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    micros[6] = b'Z';
    line.extend_from_slice(&micros);
}

/// `2026-11-23T19:18:51.`
fn second(second: u64) -> [u8; 20] {
    let (cached, text) = SECOND.get();
    if cached == second {
        return text;
    }
    let time = i64::try_from(second).ok();
    let time = time.and_then(|second| Timestamp::from_second(second).ok());
    let formatted = time
        .unwrap_or(Timestamp::MAX)
        .strftime("%Y-%m-%dT%H:%M:%S.");
    let mut text = [b'0'; 20];
    for (to, from) in text.iter_mut().zip(formatted.to_string().bytes()) {
        *to = from;
    }
    SECOND.set((second, text));
    text
}
