//! Sends an event to journald, as one datagram in its native protocol.
//!
//! This is written by hand rather than taken from `tracing-journald` for two reasons. Its socket blocks: a
//! journald that hangs with a full queue would hang every container start of the node. And its `on_event`
//! (0.3.2, `let _ = self.send_payload(…)`) drops the error, so nobody could write the event anywhere else.
//!
//! The format is that of systemd's `docs/JOURNAL_NATIVE_PROTOCOL.md`.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};

/// How long a container start may wait for a journald whose queue is full.
const PATIENCE: Duration = Duration::from_millis(200);

/// journald's own limit for a field name (`journal_field_valid` in `libsystemd`).
const LONGEST_NAME: usize = 64;

/// Sends one event. The fields arrive in this order, each as it is: any byte may be in a value.
///
/// Returns within 200 ms, whatever journald does. An error means that the journal does not have the event.
pub fn send(socket: &Path, fields: &[(&str, &str)]) -> io::Result<()> {
    let event = encode(fields)?;
    let journal = open(socket)?;
    let deadline = Instant::now() + PATIENCE;
    match deliver(journal.as_fd(), &event, None, deadline) {
        // Larger than the socket's buffer, or than what the kernel can spare in one piece.
        Err(Errno::EMSGSIZE | Errno::ENOBUFS) => {
            let file = sealed(&event)?;
            Ok(deliver(journal.as_fd(), &[], Some(file.as_fd()), deadline)?)
        }
        outcome => Ok(outcome?),
    }
}

/// A socket that is connected, so that poll(2) waits for journald's queue and not for our own buffer.
fn open(path: &Path) -> io::Result<impl AsFd> {
    let address = UnixAddr::new(path)?;
    let ours = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    connect(ours.as_raw_fd(), &address)?;
    Ok(ours)
}

/// Sends one datagram, with a file if there is one; waits for room until the deadline and no longer.
fn deliver(
    journal: BorrowedFd<'_>,
    payload: &[u8],
    file: Option<BorrowedFd<'_>>,
    deadline: Instant,
) -> nix::Result<()> {
    let files = file.map(|file| [file.as_raw_fd()]);
    let control: Vec<_> = files.iter().map(|files| ControlMessage::ScmRights(files)).collect();
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(journal.as_raw_fd(), &[IoSlice::new(payload)], &control, flags, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait(journal, deadline)?,
            Err(error) => return Err(error),
        }
    }
}

/// Waits until there may be room in the queue; `EAGAIN` once the deadline has passed.
fn wait(journal: BorrowedFd<'_>, deadline: Instant) -> nix::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Errno::EAGAIN);
    }
    // Rounded up: a rest of less than a millisecond would otherwise be spent spinning.
    let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
    match poll(&mut [PollFd::new(journal, PollFlags::POLLOUT)], left) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The event as a file in memory that nobody can change any more; journald maps it without a copy only then.
fn sealed(event: &[u8]) -> io::Result<File> {
    let mut file =
        File::from(memfd_create(c"pss-guard-event", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.write_all(event)?;
    let all =
        SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(all))?;
    Ok(file)
}

fn encode(fields: &[(&str, &str)]) -> io::Result<Vec<u8>> {
    // `=` or newline, eight bytes of length, newline.
    let size = fields.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
    let mut event = Vec::with_capacity(size);
    for (name, value) in fields {
        if !is_field_name(name) {
            let why = format!("cannot send {name:?} to journald: not a field name of its protocol");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        event.extend_from_slice(name.as_bytes());
        if value.bytes().any(|byte| byte.is_ascii_control()) {
            event.push(b'\n');
            event.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            event.push(b'=');
        }
        event.extend_from_slice(value.as_bytes());
        event.push(b'\n');
    }
    Ok(event)
}

/// journald drops fields of any other name without a word, those with a leading underscore above all: it
/// sets these itself.
fn is_field_name(name: &str) -> bool {
    let known = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.len() <= LONGEST_NAME
        && name.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::cmsg_space;
    use nix::sys::socket::{ControlMessageOwned, recvmsg};
    use std::fs;
    use std::io::IoSliceMut;
    use std::os::fd::RawFd;
    use std::os::unix::net::UnixDatagram;
    use std::path::PathBuf;
    use std::thread;

    /// A journald of our own, in a directory that goes away with it.
    struct Journal {
        receiver: UnixDatagram,
        path: PathBuf,
        _directory: tempfile::TempDir,
    }

    impl Journal {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("socket");
            let receiver = UnixDatagram::bind(&path).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            Self { receiver, path, _directory: directory }
        }

        fn datagram(&self) -> Vec<u8> {
            let mut buffer = vec![0; 1 << 16];
            let size = self.receiver.recv(&mut buffer).unwrap();
            buffer.truncate(size);
            buffer
        }

        /// Fills the queue until the kernel takes no more.
        fn fill(&self) {
            let sender = UnixDatagram::unbound().unwrap();
            sender.set_nonblocking(true).unwrap();
            sender.connect(&self.path).unwrap();
            while sender.send(b"X=1\n").is_ok() {}
        }
    }

    #[test]
    fn fields_arrive_in_order_and_unchanged() {
        type Fields<'a> = &'a [(&'a str, &'a str)];
        #[rustfmt::skip]
        let rows: &[(Fields<'_>, &[u8])] = &[
            (&[("MESSAGE", "hello"), ("PRIORITY", "4")], b"MESSAGE=hello\nPRIORITY=4\n"),
            (&[("MESSAGE", "")], b"MESSAGE=\n"),
            (&[("MESSAGE", "a=b")], b"MESSAGE=a=b\n"),
            (&[("MESSAGE", "caf\u{e9}")], b"MESSAGE=caf\xc3\xa9\n"),
            (&[("A", "two\nlines"), ("B", "1")], b"A\n\x09\0\0\0\0\0\0\0two\nlines\nB=1\n"),
            (&[("A", "x\nPSS_DECISION=allow")], b"A\n\x14\0\0\0\0\0\0\0x\nPSS_DECISION=allow\n"),
            (&[("A", "\x1b[2J")], b"A\n\x04\0\0\0\0\0\0\0\x1b[2J\n"),
            (&[("A", "\0")], b"A\n\x01\0\0\0\0\0\0\0\0\n"),
        ];
        let journal = Journal::new();
        for (fields, datagram) in rows {
            send(&journal.path, fields).unwrap();
            assert_eq!(journal.datagram(), *datagram, "{fields:?}");
        }
    }

    #[test]
    fn a_name_that_journald_would_drop_is_an_error() {
        let journal = Journal::new();
        let longest = "A".repeat(LONGEST_NAME);
        for (name, fine) in [
            ("PSS_LEVEL", true),
            ("A1_", true),
            (longest.as_str(), true),
            (&format!("{longest}A"), false),
            ("", false),
            ("_PID", false),
            ("1A", false),
            ("Level", false),
            ("A-B", false),
            ("A=B", false),
            ("A\nB", false),
            ("\u{c4}", false),
        ] {
            let outcome = send(&journal.path, &[("MESSAGE", "m"), (name, "v")]);
            assert_eq!(outcome.is_ok(), fine, "{name:?}: {outcome:?}");
            if fine {
                assert_eq!(journal.datagram(), format!("MESSAGE=m\n{name}=v\n").into_bytes());
            }
        }
        journal.receiver.set_nonblocking(true).unwrap();
        assert!(journal.receiver.recv(&mut [0; 64]).is_err(), "nothing of a refused event is sent");
    }

    #[test]
    fn an_event_larger_than_a_datagram_arrives_as_a_sealed_file() {
        let journal = Journal::new();
        let value = "0123456789abcdef".repeat(1 << 16);
        send(&journal.path, &[("MESSAGE", "m"), ("PSS_FINDINGS", &value)]).unwrap();

        let mut buffer = [0; 64];
        let mut iov = [IoSliceMut::new(&mut buffer)];
        let mut space = cmsg_space!(RawFd);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let fd = journal.receiver.as_raw_fd();
        let message = recvmsg::<()>(fd, &mut iov, Some(&mut space), flags).unwrap();
        assert_eq!(message.bytes, 0, "the event is in the file alone");
        let Some(ControlMessageOwned::ScmRights(files)) = message.cmsgs().unwrap().next() else {
            panic!("no file came along");
        };
        let [file] = files[..] else { panic!("one file, not {files:?}") };
        let path = format!("/proc/self/fd/{file}");
        let seals = fcntl(File::open(&path).unwrap(), FcntlArg::F_GET_SEALS).unwrap();
        for seal in
            [SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_SEAL]
        {
            assert_ne!(seals & seal.bits(), 0, "{seal:?}");
        }
        let event = fs::read(&path).unwrap();
        let expected = format!("MESSAGE=m\nPSS_FINDINGS={value}\n").into_bytes();
        assert!(event == expected, "{} bytes instead of {}", event.len(), expected.len());
    }

    #[test]
    fn a_journald_that_hangs_costs_a_fifth_of_a_second_and_no_more() {
        let journal = Journal::new();
        journal.fill();
        for value in ["small", &"large".repeat(1 << 18)] {
            let started = Instant::now();
            let error = send(&journal.path, &[("MESSAGE", value)]).unwrap_err();
            let waited = started.elapsed();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
            assert!(waited >= PATIENCE, "gave up after {waited:?}");
            assert!(waited < Duration::from_secs(1), "waited {waited:?}");
        }
    }

    #[test]
    fn a_journald_that_is_only_slow_still_gets_the_event() {
        let journal = Journal::new();
        journal.fill();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                journal.datagram();
            });
            send(&journal.path, &[("MESSAGE", "late")]).unwrap();
        });
        journal.receiver.set_nonblocking(true).unwrap();
        let mut last = Vec::new();
        let mut buffer = [0; 64];
        while let Ok(size) = journal.receiver.recv(&mut buffer) {
            last = buffer[..size].to_vec();
        }
        assert_eq!(last, b"MESSAGE=late\n");
    }

    #[test]
    fn a_journald_that_is_not_there_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("socket");
        let dead = directory.path().join("dead");
        drop(UnixDatagram::bind(&dead).unwrap());
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let long = directory.path().join("x".repeat(120));
        for (path, kind) in [
            (missing, io::ErrorKind::NotFound),
            (dead, io::ErrorKind::ConnectionRefused),
            (file, io::ErrorKind::ConnectionRefused),
            (long, io::ErrorKind::InvalidFilename),
        ] {
            let started = Instant::now();
            let error = send(&path, &[("MESSAGE", "m")]).unwrap_err();
            assert_eq!(error.kind(), kind, "{}", path.display());
            assert!(started.elapsed() < PATIENCE, "{}", path.display());
        }
    }
}
