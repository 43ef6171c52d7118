//! The agent of a node: it watches what only the API server knows, and writes the files that the gate reads. It decides nothing.
//!
//! ```text
//! namespaces  ─ watch, metadata only ─►  /run/pss-guard/namespaces/<name>.json
//! pods        ─ watch, this node's   ─►  /run/pss-guard/pods/<uid>.json
//! manifests   ─ of static pods       ─►  /run/pss-guard/static/<namespace>_<name>.json
//! /version    ─ about every 15 s     ─►  /run/pss-guard/agent/{cluster,agent}.json
//! Events      ◄─ the gate's own ─        /run/pss-guard/events/
//! ```
//! The copies for the next boot lie below `/var/lib/pss-guard`.

mod api;
mod contact;
mod events;
mod gone;
mod keep;
mod metrics;
mod namespaces;
mod options;
mod pods;
mod removed;
mod run;
mod server;
mod spread;
mod static_pods;
#[cfg(test)]
mod testing;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::options::{Command, LogFormat, Options};

/// Wrong usage, or nothing can be done at all.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let Command::Run(options) = Options::parse().command;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube=off"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match options.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
    match runtime.and_then(|runtime| runtime.block_on(run::run(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot run");
            ExitCode::from(FAILED)
        }
    }
}
