//! What does the journal have? Asked of `journalctl`, which knows every format that journald ever wrote.

use std::io::{self, BufRead, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use super::{Record, field};
use crate::paths::Paths;
use crate::report::text::escape;

/// No event is that long; a line that is was not written by the gate.
const LONGEST: u64 = 4 << 20;

/// The fields that a [`Record`] has; journalctl would give all others, too.
const FIELDS: &str = "MESSAGE,MESSAGE_ID,PSS_MODE,PSS_LEVEL,PSS_VERSION,PSS_CONTROLS,PSS_FINDINGS,PSS_BECAUSE,PSS_EXEC,\
                      PSS_ENGINE,PSS_NAMESPACE,PSS_POD,PSS_POD_UID,PSS_CONTAINER,PSS_CONTAINER_ID,PSS_IMAGE";

/// Reads the journal from a time (microseconds, 0 for its beginning) or from behind the event at a cursor, which may be gone
/// by now. Gives the cursor of the last event.
pub(super) fn read(
    paths: &Paths,
    since: u64,
    after: Option<String>,
    each: &mut dyn FnMut(Record),
    unseen: &mut Vec<String>,
) -> Option<String> {
    let mut child = match ask(paths, since, after.as_deref()).spawn() {
        Ok(child) => child,
        Err(error) => {
            unseen.push(format!("the journal: run journalctl: {error}"));
            return after;
        }
    };
    let complaints = complaints(&mut child);
    let mut last = after.clone();
    let read = child.stdout.take().map_or(Ok(()), |lines| {
        each_line(&mut BufReader::new(lines), |line| {
            let Some(event) = field::line(line) else { return };
            // An event at the cursor itself was read before. That it is asked for, and left out here, is the one way
            // that loses nothing when it has been vacuumed: `--after-cursor` may then skip the next.
            let again = event.cursor.is_some() && event.cursor == after;
            last = event.cursor.or(last.take());
            if !again {
                each(event.record);
            }
        })
    });
    if let Err(error) = read {
        let _ = child.kill();
        unseen.push(format!("the journal, from some event on: {error}"));
    }
    let ended = child.wait();
    let said = complaints.and_then(|reader| reader.join().ok()).unwrap_or_default();
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if !ended.is_ok_and(|status| status.success()) || !said.is_empty() {
        let said = if said.is_empty() { "journalctl failed".to_owned() } else { said.join(" ") };
        unseen.push(format!("the journal, or part of it: {}", escape(&said)));
    }
    last
}

fn ask(paths: &Paths, since: u64, after: Option<&str>) -> Command {
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "--output=json", "--all"]).arg(format!("--output-fields={FIELDS}"));
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
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// When its first entry was written, whoever wrote it.
pub(super) fn begins(paths: &Paths) -> Option<u64> {
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "--output=json", "--output-fields=_BOOT_ID"]);
    if let Some(root) = paths.other_root() {
        command.arg("--root").arg(root);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut first = Vec::new();
    if let Some(out) = child.stdout.take() {
        // It has no option for the first entry; it is told to stop once that is here.
        let _ = BufReader::new(out.take(1 << 20)).read_until(b'\n', &mut first);
    }
    let _ = child.kill();
    let _ = child.wait();
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
    use super::{LONGEST, each_line};

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
