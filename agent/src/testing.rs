//! What tests have in common.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

/// Whether files that a test makes are root's, and so are read.
pub(crate) fn root(test: &str) -> bool {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        eprintln!("SKIPPED {test}: needs root");
    }
    is_root
}

/// An API server that answers one request.
pub(crate) struct Server {
    /// As a URL.
    pub(crate) address: String,
    sent: Arc<AtomicUsize>,
}

impl Server {
    /// One whose answer has a body so many times.
    pub(crate) fn answering(status: &str, body: &'static str, times: usize) -> Self {
        let length = format!("content-length: {}", body.len() * times);
        Self::start(status, &length, body, times)
    }

    /// One that lists these objects in a watch, and then says nothing more.
    pub(crate) fn watched(objects: &[Value]) -> Self {
        let kind = |object: &Value| json!({"apiVersion": "v1", "kind": object["kind"]});
        let mut end = kind(&objects[0]);
        end["metadata"] =
            json!({"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}});
        end["spec"] = json!({"containers": []});
        let added = objects.iter().map(|object| json!({"type": "ADDED", "object": object}));
        let events = added.chain([json!({"type": "BOOKMARK", "object": end})]);
        let lines: Vec<String> = events.map(|event| format!("{event}\n")).collect();
        Self::start("200 OK", "transfer-encoding: identity", lines.concat().leak(), 1)
    }

    fn start(status: &str, how_long: &str, body: &'static str, times: usize) -> Self {
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n{how_long}\r\n\r\n"
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(head.as_bytes()).unwrap();
            for _ in 0..times {
                // Who has read enough goes.
                if stream.write_all(body.as_bytes()).is_err() {
                    return;
                }
                counted.fetch_add(body.len(), Ordering::Relaxed);
            }
            // Until the client goes.
            let _ = stream.read(&mut request);
        });
        Self { address, sent }
    }

    /// How many bytes of bodies it could send.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}
