//! Turns this process into the real runtime, with everything as its caller left it.
//!
//! execve(2) keeps the working directory, open files, environment, signal mask, ignored signals and the
//! parent-death signal (prctl(2), `PR_SET_PDEATHSIG`). The gate changes two of these: it ignores signals before
//! it writes ([`pss_guard_core::signals`]), and it fills standard streams that its caller has closed. Both are undone.
//!
//! May use `unsafe`: poll(2) on a descriptor that may be closed, and the environment, have no safe interface.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::ffi::{CStr, CString, c_char};

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

/// Becomes another program, with this process's environment and one variable, which a name before its `=` stands for alone. Returns
/// only if that fails.
pub(crate) fn become_program(program: &CStr, arguments: &[CString], variable: &CStr) -> Errno {
    signals::restore();
    let name = variable.to_bytes().split_inclusive(|byte| *byte == b'=').next().unwrap_or_default();
    let mut environment = environment();
    environment.retain(|entry| !entry.to_bytes().starts_with(name));
    environment.push(variable);
    // Not std's, which also empties the signal mask; and with the environment as it is, whatever is in it. setenv(3) would ask musl
    // for memory, which takes six system calls.
    let Err(errno) = nix::unistd::execve(program, arguments, &environment);
    errno
}

/// What this process was given, entry by entry.
fn environment() -> Vec<&'static CStr> {
    unsafe extern "C" {
        /// environ(7)
        static environ: *const *const c_char;
    }
    // SAFETY: it points to strings that end with a null pointer, and nothing in this program changes either.
    unsafe {
        if environ.is_null() {
            return Vec::new();
        }
        let entries = (0..).map(|nth| *environ.add(nth)).take_while(|entry| !entry.is_null());
        entries.map(|entry| CStr::from_ptr(entry)).collect()
    }
}
