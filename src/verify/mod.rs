//! Verifies an installation with the engine itself: containers start, and the gate evaluates them.
//!
//! ```text
//!  restart ─► the engine answers ─► a probe starts ─► a forbidden probe is refused, or logged
//! ```
//!
//! The engine is asked by its usual client: `crictl`, which is on every node that kubeadm made, `podman`, `docker`. A
//! client of our own would be a second opinion on what a kubelet says. What must come of a probe follows from the
//! node's own policy (`expect`); that it was evaluated shows in the journal (`evidence`), or in the running probe
//! (`unmanaged`).
//!
//! A probe says nothing about the node's own containers. So `events::probes` records each before it starts, and whatever counts
//! containers leaves it out.
//!
//! Three answers, because two would lie: *verified*; *failed*, for which the installation is taken back; and
//! *unproven*, where nothing is known to be wrong and something could not be shown, for want of a client or of an image
//! on the node. An installation that is only unproven stays, and is not reported as a success unless the admin asked
//! for no probe.

mod cri;
mod evidence;
mod expect;
mod probe;
mod unmanaged;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::events::probes::Ledger;
use crate::install::detect;
use crate::install::engines::crio;
pub use crate::install::job::Outcome;
use crate::install::restart;
use crate::level::cache;
use crate::message::{cut, escape, line};
use crate::node::distribution::Distribution;
use crate::node::host::{Live, Node as _};
use crate::node::places;
use crate::node::procfs::Processes;
use crate::node::run::Done;
use crate::paths::Paths;
use crate::pss::facts::Engine;
pub use probe::shows_a_verdict;

/// How long something is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The engine, to answer.
    pub answer: Duration,
    /// One question to the engine.
    pub call: Duration,
    /// An event, to be in the journal.
    pub event: Duration,
    /// An engine, to go by a configuration that it was told to read anew.
    pub reload: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            answer: seconds(60),
            // As long as a kubelet waits (`runtimeRequestTimeout`): a node that is slow is not broken.
            call: seconds(120),
            event: seconds(5),
            reload: restart::RELOAD,
        }
    }
}

/// Whom to ask.
#[derive(Debug)]
pub struct Verification<'a> {
    /// The node.
    pub live: &'a Live,
    /// What runs there.
    pub processes: &'a Processes,
    /// The product's files.
    pub paths: &'a Paths,
    /// The engine.
    pub engine: Engine,
    /// Its configuration, where that is not the usual one.
    pub config: Option<&'a Path>,
    /// The distribution of the node.
    pub distribution: &'a Distribution,
    /// How long to wait.
    pub patience: Patience,
    /// Whether the gate runs where there are no libraries.
    pub is_static: bool,
}

/// What a program complained about, in one line.
fn said(done: &Done) -> String {
    let text = if done.stderr.trim().is_empty() { &done.stdout } else { &done.stderr };
    cut(&escape(text.trim()), 1000)
}

impl Verification<'_> {
    /// Waits until the engine answers, and then shows it two probes.
    #[must_use]
    pub fn verify(&self) -> Outcome {
        let policy = match cache::load_fresh(self.paths) {
            Ok(policy) => policy.unwrap_or_default(),
            Err(error) => return Outcome::Failed(line(&error)),
        };
        let expect = expect::Expect::new(&policy, self.paths);
        let journal = evidence::Journal::of(self.live, self.paths, self.patience.event);
        let ledger = match Ledger::open(self.paths, self.engine) {
            Ok(ledger) => ledger,
            // Nobody could tell the probes from what they would be taken for.
            Err(error) => {
                let missing = vec![format!("not probed: {}", line(&error))];
                return Outcome::Unproven { seen: Vec::new(), missing };
            }
        };
        match self.engine {
            Engine::Containerd | Engine::CriO => self.verify_pods(&expect, &journal, ledger),
            Engine::Podman | Engine::Docker | Engine::None => {
                unmanaged::probe(self, &expect, &journal, &ledger)
            }
        }
    }

    fn verify_pods(
        &self,
        expect: &expect::Expect<'_>,
        journal: &evidence::Journal,
        ledger: Ledger,
    ) -> Outcome {
        let socket = self.socket();
        let own = places::crictl(|path| self.live.is_program(path), self.distribution);
        let Some(program) = own.or_else(|| self.live.find("crictl")) else {
            let missing = "not probed: there is no crictl on this node (package cri-tools)".to_owned();
            return match self.wait_for_socket(&socket) {
                Ok(seen) => Outcome::Unproven { seen, missing: vec![missing] },
                Err(reason) => Outcome::Failed(reason),
            };
        };
        let client = cri::Client::new(self.live, &program, &socket, self.patience, ledger);
        match self.wait(|| client.state()) {
            Ok(state) => cri::probe(&client, &state, expect, journal),
            Err(reason) => Outcome::Failed(format!("the engine does not answer: {reason}")),
        }
    }

    /// Asks until there is an answer, or the time is over; the last error then.
    fn wait<T>(&self, mut ask: impl FnMut() -> Result<T, String>) -> Result<T, String> {
        let end = Instant::now() + self.patience.answer;
        loop {
            match ask() {
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(200)),
                answer => return answer,
            }
        }
    }

    /// Where the engine listens: as it was told on its command line, in its configuration, or where the distribution or the
    /// engine has it.
    fn socket(&self) -> PathBuf {
        let daemon = detect::daemon(self.engine);
        let of_containerd = self.engine == Engine::Containerd;
        let usual = if of_containerd { &*self.distribution.config } else { daemon.config };
        let config = self.config.unwrap_or(Path::new(usual));
        let here = self.live.place(config);
        let running = self.processes.running(daemon.programs);
        let process = running.iter().find(|process| process.shares(&daemon.config_of(process), &here));
        let (option, key, usual): (&[&str], [&str; 2], &str) = match self.engine {
            Engine::CriO => (&["--listen"], ["api", "listen"], "/run/crio/crio.sock"),
            _ => (&["--address", "-address", "-a"], ["grpc", "address"], &self.distribution.socket),
        };
        let in_file = |file: &Path| {
            let bytes = self.live.read(file).ok()??;
            let table: toml::Table = std::str::from_utf8(&bytes).ok()?.parse().ok()?;
            let [section, name] = key;
            let own = if self.engine == Engine::CriO {
                table.get("crio")?.get(section)
            } else {
                table.get(section)
            };
            Some(own?.get(name)?.as_str()?.to_owned())
        };
        let told = process.and_then(|process| process.option(option)).or_else(|| match self.engine {
            Engine::CriO => crio::files(self.live, config).iter().rev().find_map(|file| in_file(file)),
            _ => in_file(config),
        });
        let told = told.as_deref().map(|told| told.strip_prefix("unix://").unwrap_or(told));
        PathBuf::from(told.filter(|told| told.starts_with('/')).unwrap_or(usual))
    }

    /// Without its client all that can be seen of an engine is that it listens.
    fn wait_for_socket(&self, socket: &Path) -> Result<Vec<String>, String> {
        let place = self.live.place(socket);
        self.wait(|| {
            UnixStream::connect(&place)
                .map_err(|error| format!("connect to {}: {}", place.display(), line(&error)))
        })?;
        Ok(vec![format!("the engine listens at {}", socket.display())])
    }
}

#[cfg(test)]
mod tests;
