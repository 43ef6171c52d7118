//! Runs everything on one thread until SIGTERM or SIGINT. What was written stays: the gate needs no agent to be there.

use std::convert::Infallible;
use std::time::Duration;

use kube::runtime::watcher;
use pss_guard_core::level;
use pss_guard_core::paths::Paths;
use pss_guard_core::pods::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::api::Api;
use crate::contact::{self, Renew};
use crate::metrics::Metrics;
use crate::options::Run;
use crate::spread::about;
use crate::watch::{End, Synced, causes};
use crate::{events, namespaces, pods, server, static_pods};

/// How long after a fault everything begins again.
const AGAIN: Duration = Duration::from_secs(5);

/// About how long a watch lasts; then the server ends it, and it goes on where it was. kube-rs allows less than 295 seconds.
const WATCH: Duration = Duration::from_secs(230);

/// Runs until a signal.
pub(crate) async fn run(options: &Run) -> std::io::Result<()> {
    let metrics = Metrics::new();
    let paths = Paths::under(&options.root);
    let listener = server::bind(options.listen).await?;
    tracing::info!(node = options.node_name, listen = %options.listen, "started");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        never = server::serve(listener, metrics.clone()) => match never {},
        never = keep_watching(options, &paths, &metrics) => match never {},
        never = static_pods::watch(options, &paths, &metrics) => match never {},
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // A copy of a node that does not know everything yet would lose what the one of before has.
    if metrics.synced.get() == 1
        && let Err(error) = keep(&paths)
    {
        tracing::error!(%error, "cannot keep what changed last for the next boot");
    }
    tracing::info!("stopped; what was written stays");
    Ok(())
}

/// Copies for the next boot what would have been copied a little later.
fn keep(paths: &Paths) -> Result<(), End> {
    level::namespaces::Store::of(paths).map_err(End::write)?.keep().map_err(End::write)?;
    Store::of(paths).map_err(End::write)?.keep().map_err(End::write)
}

/// Connects again whenever that is needed.
async fn keep_watching(options: &Run, paths: &Paths, metrics: &Metrics) -> Infallible {
    let synced = Synced::new(metrics);
    let controllers = pods::Controllers::default();
    let mut state = events::State::new();
    loop {
        match Api::connect(options).await {
            Ok(api) => {
                let renew = tokio::select! {
                    renew = contact::prove(&api, paths, metrics, &synced) => renew,
                    never = events::send(&api.own, &options.node_name, paths, metrics, &controllers, &mut state) => match never {},
                    never = watching(namespaces::RESOURCE, metrics, |config| {
                        namespaces::watch(api.own.clone(), config, paths, metrics, &synced)
                    }) => match never {},
                    never = watching(pods::RESOURCE, metrics, |config| {
                        pods::watch(api.pods.clone(), &options.node_name, config, paths, metrics, &synced, &controllers)
                    }) => match never {},
                };
                match renew {
                    Renew::Identity => tracing::info!("the identity has changed; connecting again"),
                    Renew::Unauthorized => {
                        tracing::warn!("the API server refuses the identity; reading it again");
                    }
                    Renew::Back => tracing::info!("the API server answers again; connecting again"),
                }
            }
            Err(error) => {
                // The kubelet may not have made it yet.
                tracing::warn!(error = causes(&error), "cannot connect to the API server; trying again");
                contact::report(paths, metrics);
                sleep(about(AGAIN)).await;
            }
        }
    }
}

/// Watches again, with a whole list, whenever a watch ends.
async fn watching<W>(
    resource: &'static str,
    metrics: &Metrics,
    watch: impl Fn(watcher::Config) -> W,
) -> Infallible
where
    W: Future<Output = Result<Infallible, End>>,
{
    let timeout = u32::try_from(about(WATCH).as_secs()).unwrap_or(u32::MAX);
    let listing = watcher::Config::default().timeout(timeout).any_semantic();
    // One object at a time instead of all at once: a fraction of the memory, here and in the server.
    let mut config = listing.clone().streaming_lists();
    loop {
        match watch(config.clone()).await {
            Ok(never) => match never {},
            Err(End::Over) => {}
            Err(End::Streaming) => {
                tracing::info!(resource, "the API server does not stream lists; listing instead");
                config = listing.clone();
                continue;
            }
            Err(error @ End::Incomplete(_)) => {
                metrics.failed(resource);
                tracing::error!(resource, %error, "the API server's list is refused; trying again");
            }
            Err(End::Write(error)) => {
                metrics.failed(resource);
                tracing::error!(resource, error, "cannot write; trying again");
            }
        }
        sleep(about(AGAIN)).await;
    }
}
