//! Proof that the API server answers. A watch that says nothing proves nothing: a frozen server does not end it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Request;
use kube::Client;
use pss_guard_core::agent::{self, Known, Report, STALE};
use pss_guard_core::cluster;
use pss_guard_core::paths::Paths;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::api::Api;
use crate::metrics::Metrics;
use crate::spread::{about, within};
use crate::watch::{Synced, causes};

/// About how often the server is asked. [`STALE`] is four times as long.
const EVERY: Duration = Duration::from_secs(15);

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

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

enum Fault {
    Unauthorized,
    Other(String),
}

async fn ask(client: &Client) -> Result<String, Fault> {
    let request =
        Request::get("/version").body(Vec::new()).map_err(|error| Fault::Other(error.to_string()))?;
    match timeout(PATIENCE, client.request_text(request)).await {
        Ok(Ok(version)) => Ok(version),
        Ok(Err(kube::Error::Api(status))) if status.code == 401 => Err(Fault::Unauthorized),
        Ok(Err(error)) => Err(Fault::Other(causes(&error))),
        Err(_) => Err(Fault::Other(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
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
