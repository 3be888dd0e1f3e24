//! Drops all that comes: it holds the place while a sandbox's program moves to
//! the front, as a program can be attached to a hook once only.

use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};

#[classifier]
pub fn sandbox_shut(_context: TcContext) -> i32 {
    TC_ACT_SHOT
}
