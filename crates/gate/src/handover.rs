//! Turns this process into the real runtime, with everything as its caller left it.
//!
//! execve(2) keeps the working directory, open files, environment, signal mask, ignored signals and the
//! parent-death signal (prctl(2), `PR_SET_PDEATHSIG`). The gate changes two of these: it ignores signals before
//! it writes ([`pss_guard_core::signals`]), and it fills standard streams that its caller has closed. Both are undone.
//!
//! May use `unsafe`: poll(2) on a descriptor that may be closed, and the environment, have no safe interface.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::ffi::{CStr, CString, OsStr};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use pss_guard_core::signals;

/// Opens something in place of each standard stream that the caller has closed. Otherwise the next file that is opened
/// would become standard error, and messages would be written into it.
///
/// What is opened is the root directory, by `O_PATH`: it is always there and can be neither read nor written. It is
/// closed on execve(2), so the real runtime finds its streams as they were.
pub fn fill_standard_streams() {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: the array has three elements, and poll writes into it alone.
    let polled = unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    for stream in streams {
        let is_closed = match polled {
            // poll(2) fails where fewer than three descriptors are allowed (`ulimit -n`).
            // SAFETY: asks for the flags of a descriptor, whether it is open or not.
            -1 => unsafe { libc::fcntl(stream.fd, libc::F_GETFD) == -1 },
            _ => stream.revents & libc::POLLNVAL != 0,
        };
        if is_closed {
            // The lowest free descriptor is this one, because all below it are open by now.
            let filled = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
            // It stays open for as long as this process runs.
            std::mem::forget(filled);
        }
    }
}

/// Sets a variable for the program that this process becomes, and for whatever that starts.
pub(crate) fn set_variable(name: &str, value: &OsStr) {
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var(name, value) };
}

/// Becomes another program. Returns only if that fails.
pub(crate) fn become_program(program: &CStr, arguments: &[CString]) -> Errno {
    signals::restore();
    // Not std's, which also empties the signal mask; and with the environment as it is, whatever is in it.
    let Err(errno) = nix::unistd::execv(program, arguments);
    errno
}
