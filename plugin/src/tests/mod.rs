//! Tests of the whole: the tree against a model, and the plugin under the SDK's own runner.

mod cost;
mod laws;
mod machine;
mod runner;

use std::cell::Cell;

use crate::tree::{Engine, Known};

/// An engine that knows no process.
pub struct Empty;

impl Engine for Empty {
    fn leader(&self, _: u32) -> Option<u32> {
        None
    }
    fn known(&self, _: u32) -> Option<Known> {
        None
    }
    fn has(&self, _: u32) -> bool {
        false
    }
}

/// How often a test is repeated: as often as an environment variable says, for longer runs.
pub fn times(variable: &str, usually: u64) -> u64 {
    std::env::var(variable).ok().and_then(|each| each.parse().ok()).unwrap_or(usually)
}

/// Random numbers that are the same every time: xorshift, enough to choose what happens next.
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or_default()
    }

    /// True once in so many.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

thread_local! {
    static WILL_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// Whether what the plugin does from now on, on this thread, panics.
pub fn provoke(will_panic: bool) {
    WILL_PANIC.set(will_panic);
}

/// Called by the plugin inside whatever must not panic.
pub fn panic_if_asked() {
    assert!(!WILL_PANIC.get(), "provoked by a test");
}
