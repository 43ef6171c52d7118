//! What tests have in common.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    pub(crate) fn answering(status: &'static str, body: &'static str, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len() * times
            );
            stream.write_all(head.as_bytes()).unwrap();
            for _ in 0..times {
                // Who has read enough goes.
                if stream.write_all(body.as_bytes()).is_err() {
                    return;
                }
                counted.fetch_add(body.len(), Ordering::Relaxed);
            }
        });
        Self { address, sent }
    }

    /// How many bytes of bodies it could send.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}
