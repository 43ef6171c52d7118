//! Proof that the API server answers. A watch that says nothing proves nothing: a frozen server does not end it.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use pss_guard_core::agent::{self, Known, Report, STALE};
use pss_guard_core::cluster;
use pss_guard_core::paths::Paths;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::api::Api;
use crate::metrics::Metrics;
use crate::spread::{about, within};
use crate::watch::{Synced, causes, says};

/// About how often the server is asked. [`STALE`] is four times as long.
const EVERY: Duration = Duration::from_secs(15);

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes; an API server's has less than 1000. kube-rs would read all that comes.
const ANSWER: usize = 64 << 10;

/// Within which time all agents connect again after an API server that was silent: those that it owes an answer hear of its end in
/// the same moment. Until then they keep the watches that they have, which may be alive.
const SPREAD: Duration = Duration::from_secs(10);

/// Why the clients are to be made again.
#[derive(Debug)]
pub(crate) enum Renew {
    /// The identity on the disk is another one.
    Identity,
    /// The API server does not know the identity any more.
    Unauthorized,
    /// It answers again after so long that its watches may be dead.
    Back,
}

/// Asks the API server for its version, again and again. It returns when the clients are to be made again.
pub(crate) async fn prove(api: &Api, paths: &Paths, metrics: &Metrics, synced: &Synced<'_>) -> Renew {
    let mut last = Instant::now();
    let mut back = None;
    loop {
        match ask(&api.own).await {
            Ok(version) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                metrics.contact.set(now.as_secs());
                heed(&version, paths, metrics);
                let at = Instant::now();
                if at.duration_since(last) > STALE {
                    back.get_or_insert(at + within(SPREAD));
                }
                last = at;
            }
            Err(Fault::Unauthorized) => {
                report(paths, metrics);
                // The kubelet, or a rotation, may be about to bring another.
                sleep(about(EVERY)).await;
                return Renew::Unauthorized;
            }
            Err(Fault::Other(error)) => {
                tracing::warn!(error, "the API server does not answer");
                report(paths, metrics);
            }
        }
        let next = Instant::now() + about(EVERY);
        loop {
            tokio::select! {
                () = sleep_until(back.unwrap_or(next).min(next)) => break,
                () = synced.changed() => report(paths, metrics),
            }
        }
        if api.is_stale() {
            return Renew::Identity;
        }
        if back.is_some_and(|back| back <= Instant::now()) {
            return Renew::Back;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Unauthorized,
    Other(String),
}

impl Fault {
    fn of(error: &(dyn Error + 'static)) -> Self {
        Self::Other(causes(error))
    }
}

async fn ask(client: &Client) -> Result<String, Fault> {
    let silent = |_| Fault::Other(format!("no answer within {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, version(client)).await.map_err(silent)?
}

/// What the API server says of its version.
async fn version(client: &Client) -> Result<String, Fault> {
    let request = Request::get("/version").body(Body::empty()).map_err(|error| Fault::of(&error))?;
    let answer = client.send(request).await.map_err(|error| Fault::of(&error))?;
    let status = answer.status();
    if status == StatusCode::UNAUTHORIZED {
        return Err(Fault::Unauthorized);
    }
    let body = Limited::new(answer.into_body(), ANSWER).collect().await;
    let body = body.map_err(|error| Fault::Other(format!("its answer to /version: {error}")))?;
    let text = String::from_utf8(body.to_bytes().into()).map_err(|error| Fault::of(&error))?;
    if status.is_client_error() || status.is_server_error() {
        // A proxy says what it likes.
        let said = serde_json::from_str(&text).unwrap_or_else(|_| Status::failure(&text, ""));
        return Err(Fault::Other(says(&said.with_code(status.as_u16()))));
    }
    Ok(text)
}

/// Writes the cluster's version, which is what `latest` stands for.
fn heed(version: &str, paths: &Paths, metrics: &Metrics) {
    match cluster::import(&mut version.as_bytes(), paths) {
        Ok((minor, true)) => tracing::info!(minor, "wrote the cluster's version"),
        Ok((_, false)) => {}
        Err(error) => {
            metrics.failed("cluster");
            tracing::error!(error = causes(&error), "cannot write the cluster's version");
        }
    }
    report(paths, metrics);
}

/// Writes what `status` and `metrics` of the node say of the agent.
pub(crate) fn report(paths: &Paths, metrics: &Metrics) {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let known = Known {
        pods: count(metrics.pods.get()),
        static_pods: count(metrics.static_pods.get()),
        namespaces: count(metrics.namespaces.get()),
    };
    let synced = metrics.synced.get() == 1;
    let report = Report::new(metrics.contact.get(), synced, known, env!("CARGO_PKG_VERSION"));
    if let Err(error) = agent::put(paths, &report) {
        metrics.failed("agent");
        tracing::error!(error = causes(&error), "cannot write what the agent says of itself");
    }
}

#[cfg(test)]
mod tests {
    use kube::{Client, Config};

    use super::{Fault, ask};
    use crate::testing;

    async fn asked(answer: &'static str, body: &'static str, times: usize) -> (Result<String, Fault>, usize) {
        let server = testing::Server::answering(answer, body, times);
        let client = Client::try_from(Config::new(server.address.parse().unwrap())).unwrap();
        (ask(&client).await, server.sent())
    }

    #[tokio::test]
    async fn of_an_answer_without_an_end_no_more_is_read_than_a_version_needs() {
        // 1 GiB, of which the sockets take some.
        for status in ["200 OK", "500 Internal Server Error", "401 Unauthorized"] {
            let (asked, sent) = asked(status, "x".repeat(1 << 16).leak(), 1 << 14).await;
            assert!(sent < 64 << 20, "{status}: {sent}");
            match asked {
                Err(Fault::Unauthorized) => assert!(status.starts_with("401")),
                Err(Fault::Other(error)) => assert!(error.contains("length limit exceeded"), "{error}"),
                Ok(text) => panic!("{status}: {} bytes", text.len()),
            }
        }
    }

    #[tokio::test]
    async fn a_version_is_read_and_what_is_none_says_why() {
        let version = r#"{"major":"1","minor":"36"}"#;
        assert_eq!(asked("200 OK", version, 1).await.0, Ok(version.to_owned()));
        let status =
            r#"{"kind":"Status","status":"Failure","message":"etcd is slow","reason":"Timeout","code":504}"#;
        for (body, expected) in
            [(status, "etcd is slow (500)"), ("bad\n gateway", "bad gateway (500)"), ("", "status 500")]
        {
            assert_eq!(
                asked("500 Internal Server Error", body, 1).await.0,
                Err(Fault::Other(expected.to_owned()))
            );
        }
        assert_eq!(asked("401 Unauthorized", "", 1).await.0, Err(Fault::Unauthorized));
    }
}
