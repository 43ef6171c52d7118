//! Does `metrics --http` answer scrapes? Activated by systemd's own tool, asked by curl and by clients that misbehave.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pss_guard::event::Kind;

use crate::support::metrics::{DENIED, numbers};
use crate::support::root::Root;
use crate::support::run::{self, Done};
use crate::support::{needs, program};

/// The exporter behind a socket on 127.0.0.1.
pub(crate) struct Exporter {
    pub(crate) address: String,
    child: Child,
}

impl Exporter {
    pub(crate) fn before(root: &Root, idle: &str) -> Self {
        let address = free_address();
        let mut activate = Command::new("systemd-socket-activate");
        activate.arg("--listen").arg(&address).arg("--").arg(program::binary());
        activate.arg("--root").arg(root.path("")).args(["metrics", "--http", "--idle", idle]);
        activate.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = activate.spawn().expect("systemd-socket-activate is there");
        let exporter = Self { address, child };
        // A connection would already start the program: that it listens is in the kernel's table.
        let (_, port) = exporter.address.split_once(':').expect("an address");
        let listening = format!(":{:04X} 00000000:0000 0A", port.parse::<u16>().expect("a port"));
        assert!(
            run::eventually(|| run::read("/proc/net/tcp".as_ref()).contains(&listening)),
            "systemd-socket-activate does not listen on {}",
            exporter.address
        );
        exporter
    }

    fn curl(&self, arguments: &[&str], path: &str) -> Done {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "30"]).args(arguments);
        run::run(curl.arg(format!("http://{}{path}", self.address)))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("the socket listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens on.
pub(crate) fn free_address() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("an address").to_string()
}

fn can_run(test: &str) -> bool {
    needs::can_run(test, &["systemd-socket-activate", "curl"])
}

#[test]
fn every_scrape_is_answered_in_the_format_that_it_asks_for() {
    if !can_run("every_scrape_is_answered_in_the_format_that_it_asks_for") {
        return;
    }
    let root = Root::new();
    root.decide(Kind::Denied, "shop", 3);
    let exporter = Exporter::before(&root, "60");
    let openmetrics = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    // (arguments, path, parts of the answer)
    let rows: [(&[&str], &str, &[&str]); 7] = [
        (&["--include"], "/metrics", &["HTTP/1.1 200 OK\r\n", "text/plain; version=0.0.4;", DENIED, "\n"]),
        (
            &["--include", "--header", openmetrics],
            "/metrics",
            &["200 OK\r\n", "application/openmetrics-text; version=1.0.0;", DENIED, "\n# EOF\n"],
        ),
        (&["--include"], "/metrics?x=y", &["200 OK\r\n"]),
        (&["--head"], "/metrics", &["200 OK\r\n", "Content-Length: ", "Connection: close\r\n\r\n"]),
        (
            &["--include", "--request", "POST"],
            "/metrics",
            &["405 Method Not Allowed\r\n", "Allow: GET, HEAD\r\n"],
        ),
        (&["--include", "--data-binary", "@/proc/self/exe"], "/metrics", &["405 Method Not Allowed\r\n"]),
        (&["--include"], "/", &["404 Not Found\r\n"]),
    ];
    for (arguments, path, parts) in rows {
        let done = exporter.curl(arguments, path).expect_success();
        for part in parts {
            assert!(done.stdout.contains(part), "should say {part:?}\n{done}");
        }
    }
    let head = exporter.curl(&["--head"], "/metrics").expect_success();
    assert!(head.stdout.ends_with("\r\n\r\n"), "no body: {head}");
    for nth in 0..50 {
        let done = exporter.curl(&[], "/metrics").expect_success();
        assert_eq!(numbers(&done.stdout)[DENIED], 3.0, "scrape {nth}");
    }
    root.decide(Kind::Denied, "shop", 1);
    let counted = || numbers(&exporter.curl(&[], "/metrics").expect_success().stdout)[DENIED] == 4.0;
    assert!(run::eventually(counted), "what comes later is counted");
}

#[test]
fn clients_that_misbehave_are_in_nobodys_way() {
    if !can_run("clients_that_misbehave_are_in_nobodys_way") {
        return;
    }
    let root = Root::new();
    let exporter = Exporter::before(&root, "60");
    exporter.curl(&[], "/metrics").expect_success();
    // Some say nothing, some half a head, one asks and does not listen.
    let mut slow: Vec<TcpStream> = (0..12).map(|_| exporter.connect()).collect();
    for stream in &mut slow[..6] {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
    }
    slow[6].write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    exporter.curl(&[], "/metrics").expect_success();
    // One sends for ever.
    let mut endless = exporter.connect();
    let line = [b'x'; 1024];
    while endless.write_all(&line).is_ok() {}
    exporter.curl(&[], "/metrics").expect_success();
    // More than there is room for.
    let crowd: Vec<TcpStream> = (0..40).map(|_| exporter.connect()).collect();
    let mut refused = exporter.connect();
    let mut answer = String::new();
    let _ = refused.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(crowd);
    // The slow ones are sent away, all of them.
    for stream in &mut slow {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
    }
    exporter.curl(&[], "/metrics").expect_success();
}

#[test]
fn whoever_is_turned_away_is_told_why_whenever_he_asks() {
    if !can_run("whoever_is_turned_away_is_told_why_whenever_he_asks") {
        return;
    }
    let root = Root::new();
    let exporter = Exporter::before(&root, "60");
    exporter.curl(&[], "/metrics").expect_success();
    let is_told = || {
        let silent: Vec<TcpStream> = (0..16).map(|_| exporter.connect()).collect();
        let mut late = exporter.connect();
        let mut answer = String::new();
        // The answer may be there before the question has come in whole.
        for part in ["GET /metrics HTTP/1.1\r\n", "Host: x\r\n\r\n"] {
            std::thread::sleep(Duration::from_millis(50));
            late.write_all(part.as_bytes()).expect("a connection that is not reset");
        }
        std::thread::sleep(Duration::from_millis(50));
        late.read_to_string(&mut answer).expect("an answer that is not taken back");
        drop(silent);
        assert!(answer.starts_with("HTTP/1.1 503 ") || answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer.starts_with("HTTP/1.1 503 ")
    };
    // On a machine that is slow enough the silent ones may be gone by then.
    assert!(run::eventually(is_told));
    assert!(
        run::eventually(|| exporter.curl(&["--fail"], "/metrics").code == Some(0)),
        "there is room again"
    );
}

#[test]
fn it_ends_when_nobody_asks_any_more() {
    if !can_run("it_ends_when_nobody_asks_any_more") {
        return;
    }
    let root = Root::new();
    let mut exporter = Exporter::before(&root, "1");
    exporter.curl(&[], "/metrics").expect_success();
    assert!(run::eventually(|| matches!(exporter.child.try_wait(), Ok(Some(status)) if status.success())));
}

#[test]
fn without_a_socket_it_says_who_passes_one() {
    let root = Root::new();
    let done = run::run(&mut root.command(&["metrics", "--http"]));
    assert_eq!(done.code, Some(2), "{done}");
    assert_eq!(
        done.stderr,
        "pss-guard: systemd passed no socket; pss-guard-metrics.socket does, and so does systemd-socket-activate\n"
    );
    for (arguments, part) in
        [(&["--http", "--output", "/x"][..], "cannot be used with"), (&["--idle", "3"], "--http")]
    {
        let done = run::run(root.command(&["metrics"]).args(arguments));
        assert!(done.code == Some(2) && done.stderr.contains(part), "{done}");
    }
}
