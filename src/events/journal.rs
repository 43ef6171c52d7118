//! Reads the journal through `journalctl`, which knows every format that journald ever wrote.

use std::fs::{self, DirEntry};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Record, field};
use crate::message::escape;
use crate::node::run;
use crate::paths::Paths;
use crate::record::Field;

/// No event is that long, in bytes; a line that is was not written by the gate.
pub(super) const LONGEST: u64 = 4 << 20;

/// How long journalctl may say nothing. There is no limit to the whole: a journal has millions of events.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the journal from a time (microseconds, 0 for its beginning) or from behind the event at a cursor, which may be gone
/// by now. Gives the cursor of the last event.
pub(super) fn read(
    paths: &Paths,
    since: u64,
    after: Option<String>,
    each: &mut dyn FnMut(Record),
    unseen: &mut Vec<String>,
) -> Option<String> {
    match ask(paths, since, after.as_deref()).spawn() {
        Ok(child) => listen(child, PATIENCE, after.as_deref(), each, unseen),
        Err(error) => {
            unseen.push(format!("the journal: run journalctl: {error}"));
            after
        }
    }
}

/// Reads what a journalctl says, until it has said nothing for so long.
fn listen(
    mut child: Child,
    patience: Duration,
    after: Option<&str>,
    each: &mut dyn FnMut(Record),
    unseen: &mut Vec<String>,
) -> Option<String> {
    let complaints = complaints(&mut child);
    let mut last = after.map(str::to_owned);
    let read = child.stdout.take().map_or(Ok(()), |lines| {
        each_line(&mut BufReader::new(Patient { pipe: lines, patience }), |line| {
            let Some(event) = field::line(line) else { return };
            // An event at the cursor itself was read before. That it is asked for, and left out here, is the one way
            // that loses nothing when it has been vacuumed: `--after-cursor` may then skip the next.
            let again = after.is_some() && event.cursor.as_deref() == after;
            last = event.cursor.or(last.take());
            if !again {
                each(event.record);
            }
        })
    });
    if let Err(error) = &read {
        unseen.push(format!("the journal, from some event on: {error}"));
    }
    // Who has closed his output has no more to say, but may still not end.
    let limit = if read.is_ok() { patience } else { Duration::ZERO };
    let ended = run::wait_or_end(&mut child, limit);
    if read.is_err() {
        // What it complains of is that it was ended.
        return last;
    }
    let said = complaints.and_then(|reader| reader.join().ok()).unwrap_or_default();
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let ended = match ended {
        Ok(Some(status)) => status.success(),
        Ok(None) | Err(_) => false,
    };
    if !ended || !said.is_empty() {
        let said = if said.is_empty() { "journalctl failed".to_owned() } else { said.join(" ") };
        unseen.push(format!("the journal, or part of it: {}", escape(&said)));
    }
    last
}

fn ask(paths: &Paths, since: u64, after: Option<&str>) -> Command {
    let mut command = Command::new("journalctl");
    // It would give all others, too.
    let fields: Vec<&str> = field::read().map(Field::name).collect();
    command
        .args(["--no-pager", "--output=json", "--all"])
        .arg(format!("--output-fields={}", fields.join(",")));
    if let Some(root) = paths.other_root() {
        command.arg("--root").arg(root);
    }
    match after {
        Some(cursor) => _ = command.arg(format!("--cursor={cursor}")),
        None if since > 0 => _ = command.arg(format!("--since=@{}", since / 1_000_000)),
        None => {}
    }
    // journald itself writes down who sent an event: what other users sent in our name is not ours.
    command.args(["SYSLOG_IDENTIFIER=pss-guard", "_UID=0"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command
}

/// A pipe that is not waited for without end.
struct Patient<P> {
    pipe: P,
    patience: Duration,
}

impl<P: Read + AsFd> Read for Patient<P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ready = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(self.patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, timeout) {
            Ok(0) => {
                let seconds = self.patience.as_secs();
                Err(io::Error::other(format!("journalctl has printed nothing for {seconds} seconds")))
            }
            Ok(_) => self.pipe.read(buffer),
            // Whoever reads tries again.
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Where journald keeps its files (systemd-journald.service(8)).
const FILES: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// That a running journald has no file: `journalctl` has nothing to say then, and does not complain.
pub(super) fn missing(paths: &Paths) -> Option<String> {
    let is_journal = |entry: io::Result<DirEntry>| {
        entry.is_ok_and(|entry| {
            entry.path().extension().is_some_and(|end| end == "journal" || end == "journal~")
        })
    };
    let keeps = |folder: &&str| match fs::read_dir(folder) {
        Ok(machines) => machines.flatten().any(|machine| {
            // What cannot be listed may have some.
            fs::read_dir(machine.path()).map_or(true, |mut entries| entries.any(is_journal))
        }),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    let is_empty =
        paths.other_root().is_none() && paths.journal_socket().exists() && !FILES.iter().any(keeps);
    is_empty.then(|| {
        format!("the journal: there is none in {}; what was logged in it is gone", FILES.join(" and "))
    })
}

/// When its first entry was written, whoever wrote it.
pub(super) fn begins(paths: &Paths) -> Option<u64> {
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "--output=json", "--output-fields=_BOOT_ID"]);
    if let Some(root) = paths.other_root() {
        command.arg("--root").arg(root);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().ok()?;
    let mut first = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        let out = Patient { pipe, patience: PATIENCE };
        // It has no option for the first entry; it is told to stop once that is here.
        let _ = BufReader::new(out.take(1 << 20)).read_until(b'\n', &mut first);
    }
    let _ = run::wait_or_end(&mut child, Duration::ZERO);
    field::moment(&first)
}

/// Reads what it complains of beside what it says, so that neither pipe fills up.
fn complaints(child: &mut Child) -> Option<std::thread::JoinHandle<String>> {
    let stderr = child.stderr.take()?;
    Some(std::thread::spawn(move || {
        let (mut text, mut rest) = (Vec::new(), stderr);
        let _ = (&mut rest).take(4096).read_to_end(&mut text);
        let _ = io::copy(&mut rest, &mut io::sink());
        String::from_utf8_lossy(&text).into_owned()
    }))
}

/// Hands over every line that is not too long.
pub(super) fn each_line(reader: &mut dyn BufRead, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    let mut within = true;
    loop {
        line.clear();
        let read = (&mut *reader).take(LONGEST).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        if within {
            each(&line);
        }
        within = whole;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::{LONGEST, each_line, listen};
    use crate::event::Kind;

    #[test]
    fn a_journalctl_that_hangs_is_ended_and_that_is_said() {
        let id = Kind::Denied.message_id();
        let line = format!(r#"echo '{{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1","MESSAGE_ID":"{id}"}}'"#);
        let silent = "the journal, from some event on: journalctl has printed nothing for 1 seconds";
        let failed = "the journal, or part of it: journalctl failed";
        let rows: [(String, &[&str]); 4] = [
            (line.clone(), &[]),
            // More slowly than that, but it does say something.
            (format!("for i in 1 2 3 4; do {line}; sleep 0.4; done"), &[]),
            (format!("{line}; sleep 600"), &[silent]),
            (format!("{line}; exec >&-; sleep 600"), &[failed]),
        ];
        for (script, expected) in rows {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
            let (mut events, mut unseen) = (0, Vec::new());
            let begun = Instant::now();
            let child = command.spawn().unwrap();
            let last = listen(child, Duration::from_secs(1), None, &mut |_| events += 1, &mut unseen);
            assert_eq!(unseen, expected, "{script}");
            assert!(last.as_deref() == Some("c") && events > 0, "{script}: {last:?}");
            assert!(begun.elapsed() < Duration::from_secs(300), "{script}");
        }
    }

    #[test]
    fn a_line_without_end_does_not_take_the_next_with_it() {
        let long = "x".repeat(usize::try_from(LONGEST).unwrap() * 2 + 5);
        let text = format!("a\n{long}\nb\nc");
        let mut lines = Vec::new();
        each_line(&mut text.as_bytes(), |line| lines.push(String::from_utf8_lossy(line).into_owned()))
            .unwrap();
        let short: Vec<&str> = lines.iter().map(String::as_str).filter(|line| line.len() < 9).collect();
        assert_eq!(short, ["a\n", "b\n", "c"]);
    }
}
