//! Ignores the signals of failed writes before the first write, and restores them before execve(2).
//!
//! A pipe without a reader raises SIGPIPE, and a file that grows past its limit (`ulimit -f`) SIGXFSZ. Both kill. A gate
//! that is killed refuses the container, in audit mode, too. So both are ignored before the first write, and the write
//! fails with an error. Most starts write nothing and change nothing.
//!
//! An ignored signal stays ignored over execve(2). [`restore`] undoes that before the real runtime takes over.
//!
//! May use `unsafe`: there is no safe way to change a signal's disposition.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

const OF_WRITES: [Signal; 2] = [Signal::SIGPIPE, Signal::SIGXFSZ];

/// Whether they are ignored by this module.
static IGNORED: AtomicBool = AtomicBool::new(false);

/// Bit n: the nth of them was at its default. A process begins with no other disposition than that or ignored.
static AT_DEFAULT: AtomicU8 = AtomicU8::new(0);

/// Ignores the signals of failed writes. Call it before a write; all calls but the first do nothing.
pub fn ignore() {
    if IGNORED.swap(true, Ordering::Relaxed) {
        return;
    }
    for (nth, signal) in OF_WRITES.into_iter().enumerate() {
        if matches!(set(signal, SigHandler::SigIgn), Some(SigHandler::SigDfl)) {
            AT_DEFAULT.fetch_or(1 << nth, Ordering::Relaxed);
        }
    }
}

/// Gives them back the dispositions that the caller of this process gave.
pub fn restore() {
    if !IGNORED.swap(false, Ordering::Relaxed) {
        return;
    }
    for (nth, signal) in OF_WRITES.into_iter().enumerate() {
        if AT_DEFAULT.load(Ordering::Relaxed) & (1 << nth) != 0 {
            set(signal, SigHandler::SigDfl);
        }
    }
}

/// Sets a disposition; the one before.
fn set(signal: Signal, handler: SigHandler) -> Option<SigHandler> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is set, so no code can run at a bad moment. It cannot fail for a known signal.
    unsafe { sigaction(signal, &action) }.ok().map(|before| before.handler())
}
