//! Serves `/metrics`, `/healthz` and `/readyz`. It answers nothing else, and reads no more than the head of a request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pss_guard_core::agent::STALE;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::metrics::Metrics;

/// How many connections there may be at a time; others wait.
const CONNECTIONS: usize = 16;

/// How long a connection may last, with all its requests.
const LONGEST: Duration = Duration::from_secs(30);

/// How long a client may take to send its request's head.
const HEAD: Duration = Duration::from_secs(5);

/// What OpenMetrics calls its text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Binds the address, so that a wrong one is an error at the start.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| {
        let text = format!("cannot listen on {address}: {error}; --listen names another address");
        io::Error::new(error.kind(), text)
    };
    TcpListener::bind(address).await.map_err(named)
}

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener, metrics: Metrics) -> Infallible {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Never closed.
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return std::future::pending().await };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptors: the next one may find some.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let response = answer(&request, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), answer);
            // What becomes of a client is its own affair.
            let _ = timeout(LONGEST, connection).await;
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let text = |status, text: String| response(status, "text/plain; charset=utf-8", text);
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => response(StatusCode::OK, OPEN_METRICS, metrics.text()),
        // It runs on the thread that does everything else.
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match unready(metrics) {
            None => text(StatusCode::OK, "ok\n".to_owned()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "not found: /metrics, /healthz and /readyz are here\n".to_owned()),
    }
}

/// Why the node does not know everything that the API server does.
fn unready(metrics: &Metrics) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let contact = metrics.contact.get();
    if contact == 0 {
        return Some("the API server has not answered yet".to_owned());
    }
    if metrics.synced.get() != 1 {
        return Some("namespaces and pods are not all listed yet".to_owned());
    }
    // A clock that is set back a little does no harm: the next contact is within that time (as `status` of the tool has it).
    let (age, ahead) = (now.saturating_sub(contact), contact.saturating_sub(now));
    if ahead > STALE.as_secs() {
        return Some(format!("the API server last answered {ahead} s from now, by this node's clock"));
    }
    (age > STALE.as_secs()).then(|| format!("the API server last answered {age} s ago"))
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::{bind, unready};
    use crate::metrics::Metrics;

    #[test]
    fn a_contact_counts_for_a_minute_by_whatever_clock() {
        let metrics = Metrics::new();
        metrics.contact.set(1);
        assert!(unready(&metrics).unwrap().contains("not all listed"));
        metrics.synced.set(1);
        let rows: [(i64, Option<&str>); 6] = [
            (-3600, Some("s ago")),
            (-90, Some("s ago")),
            (-30, None),
            (30, None),
            // The clock was set back: by how much, nothing that is read here says otherwise.
            (90, Some("s from now, by this node's clock")),
            (1 << 40, Some("s from now, by this node's clock")),
        ];
        for (difference, expected) in rows {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            metrics.contact.set(now.saturating_add_signed(difference));
            let why = unready(&metrics);
            assert_eq!(why.is_some(), expected.is_some(), "{difference}: {why:?}");
            assert!(why.unwrap_or_default().contains(expected.unwrap_or_default()), "{difference}");
        }
        metrics.contact.set(0);
        assert!(unready(&metrics).unwrap().contains("not answered yet"));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_the_way_out() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("--listen"), "{text}");
    }
}
