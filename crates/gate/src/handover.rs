//! How does this process become another one, with everything as its caller left it?
//!
//! execve(2) keeps the working directory, open files, environment, signal mask, ignored signals and the signal that
//! tells of the parent's death (prctl(2), `PR_SET_PDEATHSIG`). std changes some of that before `main`: it ignores
//! SIGPIPE, and opens /dev/null where one of the first three descriptors is closed. So what the caller gave is noted before std
//! runs, and put back before the program goes.
//!
//! One of the two files of the crate that may use `unsafe`: there is no safe way to run before std, to change a signal's
//! disposition, or to close a descriptor by its number.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};

/// The signals whose disposition is changed, by std or by [`ignore_file_size_limit`].
const CHANGED: [Signal; 2] = [Signal::SIGPIPE, Signal::SIGXFSZ];

/// Bit n: the nth of [`CHANGED`] was at its default. A process begins with no other disposition than that or ignored.
static AT_DEFAULT: AtomicU8 = AtomicU8::new(0);

/// Bit n: descriptor n was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

// SAFETY: the C library calls what is in this section before `main`, one after the other, with arguments that a function
// without parameters ignores.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_STD: extern "C" fn() = note;

/// Notes what std is going to change. Nothing of std is set up yet: system calls and atomics are all there is.
extern "C" fn note() {
    for (nth, changed) in CHANGED.into_iter().enumerate() {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action this only fills the old one in, for which there is room; all zeros is a valid one.
        let handler = unsafe {
            libc::sigaction(changed as libc::c_int, ptr::null(), action.as_mut_ptr());
            action.assume_init().sa_sigaction
        };
        if handler == libc::SIG_DFL {
            AT_DEFAULT.fetch_or(1 << nth, Ordering::Relaxed);
        }
    }
    for fd in 0..3 {
        // SAFETY: asks for the flags of a descriptor, whether it is open or not.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

/// A limit on the size of files must fail a write and not kill the gate: dead it blocks, in audit mode, too.
pub fn ignore_file_size_limit() {
    // SAFETY: no handler is set, so no code can run at a bad moment.
    // It cannot fail for a known signal.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// Sets a variable for the program that this process becomes, and for whatever that starts.
pub(crate) fn set_variable(name: &str, value: &OsStr) {
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var(name, value) };
}

/// Becomes another program. Returns only if that fails.
pub(crate) fn become_program(program: &CStr, arguments: &[CString]) -> Errno {
    for (nth, changed) in CHANGED.into_iter().enumerate() {
        if AT_DEFAULT.load(Ordering::Relaxed) & (1 << nth) != 0 {
            // SAFETY: no handler is set.
            let _ = unsafe { signal(changed, SigHandler::SigDfl) };
        }
    }
    for fd in 0..3 as RawFd {
        if CLOSED.load(Ordering::Relaxed) & (1 << fd) != 0 {
            // SAFETY: what std opened in its place is used by nobody but std's own standard streams, which take a closed
            // descriptor for an empty one.
            unsafe { libc::close(fd) };
        }
    }
    // Not std's, which also empties the signal mask; and with the environment as it is, whatever is in it.
    let Err(errno) = nix::unistd::execv(program, arguments);
    for changed in CHANGED {
        // SAFETY: no handler is set. The failure has to be told, and a pipe that nobody reads must not prevent that.
        let _ = unsafe { signal(changed, SigHandler::SigIgn) };
    }
    errno
}
