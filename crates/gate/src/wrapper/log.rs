//! Writes a refusal to the runtime's `--log` file; containerd and podman show the last error in it.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use pss_guard_core::level::date::rfc3339;

/// Appends one error as runc would. What cannot be written is on stderr all the same, and changes no verdict.
pub(super) fn append(log: &OsStr, json: bool, message: &str) {
    pss_guard_core::signals::ignore();
    let Some(path) = file(log) else { return };
    let quoted = serde_json::Value::from(message);
    let time = rfc3339(SystemTime::now());
    let line = if json {
        format!("{{\"level\":\"error\",\"msg\":{quoted},\"time\":\"{time}\"}}\n")
    } else {
        format!("time=\"{time}\" level=error msg={quoted}\n")
    };
    // As runc opens it, but never to wait for a reader of a FIFO.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(path);
    if let Ok(mut file) = opened
        && file.metadata().is_ok_and(|meta| meta.is_file())
    {
        let _ = file.write_all(line.as_bytes());
    }
}

/// The file that is meant: crun also knows journald and syslog, where the gate has its own event.
fn file(log: &OsStr) -> Option<&Path> {
    let bytes = log.as_bytes();
    if bytes.is_empty() || bytes.starts_with(b"journald:") || bytes.starts_with(b"syslog:") {
        return None;
    }
    Some(Path::new(OsStr::from_bytes(bytes.strip_prefix(b"file:").unwrap_or(bytes))))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::OpenOptions;
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::Path;

    use super::{append, file};

    #[test]
    fn the_file_is_the_one_that_the_runtime_would_open() {
        let rows = [
            ("/b/log.json", Some("/b/log.json")),
            ("log", Some("log")),
            ("file:/b/log", Some("/b/log")),
            ("journald:x", None),
            ("syslog:x", None),
            ("", None),
        ];
        for (log, expected) in rows {
            assert_eq!(file(OsStr::new(log)), expected.map(Path::new), "{log}");
        }
    }

    #[test]
    fn nothing_but_a_regular_file_is_written_and_nothing_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let nobody_reads = [fifo.as_path(), dir.path(), Path::new("/proc/nothing/x"), Path::new("/dev/full")];
        for place in nobody_reads {
            append(place.as_os_str(), true, "x");
        }
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
        append(fifo.as_os_str(), true, "x");
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "nor is it written where somebody reads");
        let log = dir.path().join("log");
        append(log.as_os_str(), true, "a \"b\"");
        append(log.as_os_str(), false, "a \"b\"");
        let text = std::fs::read_to_string(&log).unwrap();
        let (json, plain) = text.strip_suffix('\n').unwrap().split_once('\n').unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((&json["level"], &json["msg"]), (&"error".into(), &"a \"b\"".into()));
        let time = json["time"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{json}");
        assert!(
            plain.starts_with("time=\"20") && plain.ends_with("Z\" level=error msg=\"a \\\"b\\\"\""),
            "{plain}"
        );
    }
}
