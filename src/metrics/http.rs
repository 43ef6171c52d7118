//! Serves `GET /metrics` on the sockets that systemd passed, one response per connection.
//!
//! systemd holds the sockets (sd_listen_fds(3), `Accept=no`) and starts this program for the first scrape. It exits when
//! idle; a connection that arrives at that moment starts the next one. Clients are not trusted: the size and the time of a
//! request, the time of a connection, and the number of connections are bounded. Beyond that a client gets a 503, as long
//! as there are not too many of those, either.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::exposition::Format;

/// The longest head of a request, in bytes. Prometheus' has some hundred.
const HEAD: usize = 8 << 10;

/// How long a head may take to come. A client has it ready when it connects; who is silent takes the place of another.
const HEAD_PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer may take to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most connections at once. Prometheus has one, or two of a pair.
const MOST: usize = 16;

/// The most connections that are being turned away at once. The unit's `TasksMax=` has room for these and for [`MOST`].
const MOST_TURNED_AWAY: usize = 64;

/// The age up to which an answer is given again: whoever asks faster makes no work.
const FRESH: Duration = Duration::from_secs(1);

/// The sockets that systemd passed.
pub fn passed_sockets() -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for nth in 0..passed.len() {
        if let Some(socket) = passed.take_tcp_listener(nth)? {
            // They are not journalctl's.
            fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
            socket.set_nonblocking(true)?;
            sockets.push(socket);
        }
    }
    if sockets.is_empty() {
        return Err(io::Error::other(
            "systemd passed no socket; pss-guard-metrics.socket does, and so does systemd-socket-activate",
        ));
    }
    Ok(sockets)
}

/// Answers until nobody has asked for a while. `tell` gives the numbers in both formats, [`Format::Prometheus`] first.
pub fn serve(
    sockets: &[TcpListener],
    idle: Duration,
    tell: impl FnMut() -> [String; 2] + Send,
) -> io::Result<()> {
    let (open, turned_away) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let answers = Answers { tell: Mutex::new((tell, None)) };
    let taken = |count: &AtomicUsize| count.load(Ordering::Acquire);
    let timeout = PollTimeout::try_from(idle).unwrap_or(PollTimeout::MAX);
    std::thread::scope(|scope| {
        loop {
            let mut ready: Vec<_> =
                sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
            match poll(&mut ready, timeout) {
                Ok(0) if taken(&open) + taken(&turned_away) == 0 => return Ok(()),
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            for socket in sockets {
                let mut stream = match socket.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) if is_its_own(&error) => continue,
                    Err(error) => return Err(error),
                };
                let is_busy = taken(&open) >= MOST;
                let count = match is_busy {
                    false => &open,
                    true if taken(&turned_away) < MOST_TURNED_AWAY => &turned_away,
                    true => continue,
                };
                count.fetch_add(1, Ordering::AcqRel);
                let answers = &answers;
                let thread = std::thread::Builder::new().spawn_scoped(scope, move || {
                    // A client that goes away is nobody's fault.
                    let _ = if is_busy { turn_away(&mut stream) } else { converse(&mut stream, answers) };
                    count.fetch_sub(1, Ordering::AcqRel);
                });
                if thread.is_err() {
                    count.fetch_sub(1, Ordering::AcqRel);
                }
            }
        }
    })
}

/// Whether a failed accept(2) says something of one connection only, and not of the socket.
fn is_its_own(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset)
}

/// What was told last, and when.
type Told = Option<(Instant, [String; 2])>;

/// The numbers.
struct Answers<T> {
    tell: Mutex<(T, Told)>,
}

impl<T: FnMut() -> [String; 2]> Answers<T> {
    fn get(&self, format: Format) -> String {
        let mut guard = self.tell.lock().unwrap_or_else(PoisonError::into_inner);
        let (tell, last) = &mut *guard;
        let [prometheus, openmetrics] = match last {
            Some((when, texts)) if when.elapsed() < FRESH => texts,
            _ => {
                let texts = tell();
                // As old as they are now: what took long is shared with all who waited for it.
                &mut last.insert((Instant::now(), texts)).1
            }
        };
        match format {
            Format::Prometheus => prometheus.clone(),
            Format::Openmetrics => openmetrics.clone(),
        }
    }
}

/// One request, one answer.
fn converse<T: FnMut() -> [String; 2]>(stream: &mut TcpStream, answers: &Answers<T>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let end = Instant::now() + HEAD_PATIENCE;
    let mut bytes = Vec::new();
    let (answer, body) = loop {
        match understand(&bytes) {
            Some(Request::Metrics { format, body }) => {
                let answer =
                    Answer { status: "200 OK", media: format.media_type(), text: answers.get(format) };
                break (answer, body);
            }
            Some(Request::Bad(status)) => break (Answer::plain(status), true),
            None => read_some(stream, &mut bytes, end)?,
        }
    };
    let text = if body { &*answer.text } else { "" };
    give(stream, &answer.head(), text, Instant::now() + PATIENCE)
}

/// For whoever comes when there are too many: the answer does not wait for the question.
fn turn_away(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    give(stream, &Answer::busy().head(), "", Instant::now() + HEAD_PATIENCE)
}

fn give(stream: &mut TcpStream, head: &str, text: &str, end: Instant) -> io::Result<()> {
    write_all(stream, head.as_bytes(), end)?;
    write_all(stream, text.as_bytes(), end)?;
    stream.shutdown(Shutdown::Write)?;
    // To close a socket from which something can still be read resets the connection, and takes the answer with it.
    let mut rest = Vec::new();
    while rest.len() < HEAD && read_some(stream, &mut rest, end).is_ok() {}
    Ok(())
}

enum Request {
    Metrics { format: Format, body: bool },
    Bad(&'static str),
}

/// What is asked for; `None` if that has not come yet.
fn understand(bytes: &[u8]) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let whole = match request.parse(bytes) {
        Ok(status) => status.is_complete(),
        Err(_) => return Some(Request::Bad("400 Bad Request")),
    };
    if !whole {
        return (bytes.len() >= HEAD).then_some(Request::Bad("431 Request Header Fields Too Large"));
    }
    let path = request.path.and_then(|path| path.split('?').next()).unwrap_or_default();
    let body = match request.method {
        _ if path != "/metrics" => return Some(Request::Bad("404 Not Found")),
        Some("GET") => true,
        Some("HEAD") => false,
        _ => return Some(Request::Bad("405 Method Not Allowed")),
    };
    let accept = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
    let accept: Vec<_> = accept.map(|header| String::from_utf8_lossy(header.value)).collect();
    Some(Request::Metrics { format: wanted(&accept.join(",")), body })
}

/// The format that an `Accept` header prefers: OpenMetrics only where it is named (RFC 9110, 12.5.1).
fn wanted(accept: &str) -> Format {
    let (mut openmetrics, mut other) = (0.0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut known) = (1.0, true);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match &*name.trim().to_ascii_lowercase() {
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                "version" => known = value.trim().trim_matches('"') == "1.0.0",
                _ => {}
            }
        }
        let best = match &*media {
            "application/openmetrics-text" if known => &mut openmetrics,
            "text/plain" | "text/*" | "*/*" => &mut other,
            _ => continue,
        };
        *best = f64::max(*best, quality);
    }
    if openmetrics > 0.0 && openmetrics >= other { Format::Openmetrics } else { Format::Prometheus }
}

struct Answer {
    status: &'static str,
    media: &'static str,
    text: String,
}

impl Answer {
    fn plain(status: &'static str) -> Self {
        Self { status, media: "text/plain; charset=utf-8", text: format!("{status}: ask for GET /metrics\n") }
    }

    /// For whoever comes when there are too many.
    const fn busy() -> Self {
        Self { status: "503 Service Unavailable", media: "text/plain; charset=utf-8", text: String::new() }
    }

    fn head(&self) -> String {
        let Self { status, media, text } = self;
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            text.len()
        )
    }
}

/// Reads what is there, or waits for it; an error at the end of the stream, and of the time.
fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>, end: Instant) -> io::Result<()> {
    let mut buffer = [0; 2048];
    stream.set_read_timeout(Some(left(end)?))?;
    match stream.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
            Ok(())
        }
    }
}

fn write_all(stream: &mut TcpStream, mut bytes: &[u8], end: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(end)?))?;
        let written = stream.write(bytes)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::{Answers, FRESH, Request, understand, wanted};
    use crate::metrics::exposition::Format;

    #[test]
    fn an_answer_that_took_long_is_shared_all_the_same() {
        let mut made = 0;
        let tell = || {
            made += 1;
            std::thread::sleep(FRESH);
            [made.to_string(), String::new()]
        };
        let answers = Answers { tell: Mutex::new((tell, None)) };
        let get = || answers.get(Format::Prometheus);
        // More than once, for a machine that sleeps for a second between the two.
        assert!((0..5).any(|_| get() == get()));
    }

    #[test]
    fn openmetrics_is_for_those_who_name_it() {
        let rows = [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain", Format::Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Prometheus),
            ("application/openmetrics-text", Format::Openmetrics),
            ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", Format::Openmetrics),
            ("application/openmetrics-text;version=0.0.1", Format::Prometheus),
            ("application/openmetrics-text;version=\"1.0.0\"", Format::Openmetrics),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=x", Format::Prometheus),
            ("application/openmetrics-text;q=0.5,text/plain;q=0.6", Format::Prometheus),
            // Prometheus 2 (scrape/scrape.go) and 3 (config/config.go).
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Openmetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::Openmetrics,
            ),
        ];
        for (accept, expected) in rows {
            assert_eq!(wanted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn only_get_and_head_of_metrics_are_understood() {
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9000));
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
        let rows: [(&str, &str); 16] = [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "metrics with body"),
            ("GET /metrics HTTP/1.0\r\n\r\n", "metrics with body"),
            ("GET /metrics?name[]=x HTTP/1.1\r\n\r\n", "metrics with body"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "metrics"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /metrics/../etc/passwd HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET http://x/metrics HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("", "wait"),
            ("GET /met", "wait"),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n", "wait"),
            ("\x16\x03\x01\x02\0\x01", "400 Bad Request"),
            ("GET /metrics\r\n\r\n", "400 Bad Request"),
            ("GET /metrics HTTP/2\r\n\r\n", "400 Bad Request"),
            (&long, "431 Request Header Fields Too Large"),
            (&many, "400 Bad Request"),
        ];
        for (bytes, expected) in rows {
            let found = match understand(bytes.as_bytes()) {
                None => "wait",
                Some(Request::Metrics { body: true, .. }) => "metrics with body",
                Some(Request::Metrics { .. }) => "metrics",
                Some(Request::Bad(status)) => status,
            };
            assert_eq!(found, expected, "{bytes:?}");
        }
    }
}
