//! Checks the agent: how old its contact with the API server is. Where no agent ever was, there is nothing to say.
//!
//! The agent's report says when the API server last answered. That is believed only as far as this boot goes: `/run` may have
//! been filled with the reports of an earlier one (`systemd/pss-guard.tmpfiles`), whose age then says nothing of an agent.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{Checks, Setting, State, ago};
use crate::agent::{self, Report, STALE};
use crate::level::date::rfc3339;
use crate::message::line;
use crate::node::systemd;
use crate::words::plural;

/// What the admin enables where the agent is to run on the host.
pub(crate) const UNIT: &str = "pss-guard-agent.service";

/// The check's word.
pub(crate) const NAME: &str = "agent";

/// So long after a boot an agent may not have reported, or not listed everything: it starts with everything else.
const STARTING: Duration = STALE.saturating_mul(2);

/// The longest version that is shown.
const VERSION: usize = 32;

/// What the agent of the node says of itself.
#[derive(Debug, Serialize)]
pub struct AgentStatus {
    /// Its version.
    pub version: String,
    /// When the API server last answered; `null` if it did not since the boot.
    pub contact: Option<String>,
    /// Whether that is lately, and all namespaces and pods were listed since the agent started.
    pub current: bool,
    /// Whether they were listed.
    pub synced: bool,
    /// Of how many pods of the API it has written facts.
    pub pods: usize,
    /// Of how many static pods.
    pub static_pods: usize,
    /// The levels of how many namespaces.
    pub namespaces: usize,
    /// [`Self::contact`].
    #[serde(skip)]
    pub contacted: Option<SystemTime>,
}

/// Is there an agent, and does the API server answer it? Of another root file system nothing is asked.
pub(super) fn ask(setting: &Setting<'_>, checks: &mut Checks) -> Option<AgentStatus> {
    if !setting.processes.are_seen() {
        return None;
    }
    let is_enabled = systemd::is_enabled(&setting.live, UNIT);
    let now = Moment { now: SystemTime::now(), booted: setting.processes.booted() };
    let report = match agent::read(&setting.paths) {
        Ok(report) => report,
        Err(error) => {
            let says = format!("{}; when the API server answered last is unknown", line(&error));
            checks.add(State::Wrong, NAME, says);
            return None;
        }
    };
    let log = if is_enabled {
        format!("`journalctl -u {UNIT}` says why")
    } else {
        "the agent's log says why".to_owned()
    };
    let Some(report) = report else {
        if is_enabled {
            let says = if now.is_starting() {
                format!("{UNIT} is enabled, and has not reported since the boot, {} ago", now.boot())
            } else {
                format!("{UNIT} is enabled, and no agent has reported; {log}")
            };
            checks.add(now.state(), NAME, says);
        }
        return None;
    };
    let agent = of(&report, &now);
    let (state, says) = judge(setting, &report, &now, &log);
    checks.add(state, NAME, format!("version {}: {says}", agent.version));
    Some(agent)
}

/// By which a report is judged.
struct Moment {
    now: SystemTime,
    booted: Option<SystemTime>,
}

impl Moment {
    /// Whether the node was started so lately that what is not there yet may come.
    fn is_starting(&self) -> bool {
        let up = self.booted.and_then(|booted| self.now.duration_since(booted).ok());
        up.is_some_and(|up| up < STARTING)
    }

    /// How bad it is that something is not there yet.
    fn state(&self) -> State {
        if self.is_starting() { State::Note } else { State::Wrong }
    }

    /// How long ago the boot was.
    fn boot(&self) -> String {
        self.booted.map(ago).unwrap_or_default()
    }
}

/// What a report's contact is worth.
enum Contact {
    /// There was none.
    Never,
    /// It is of an earlier boot.
    Earlier,
    /// It is to come, by the node's clock.
    Ahead(Duration),
    /// It was so long ago.
    Ago(Duration),
}

impl Contact {
    fn of(report: &Report, Moment { now, booted }: &Moment) -> Self {
        let Some(contact) = report.contacted() else { return Self::Never };
        match now.duration_since(contact) {
            // A clock that is set a little does no harm, and the next contact is within that time.
            Err(ahead) if ahead.duration() > STALE => Self::Ahead(ahead.duration()),
            Err(_) => Self::Ago(Duration::ZERO),
            // The report has whole seconds.
            Ok(_) if booted.is_some_and(|booted| contact + Duration::from_secs(1) < booted) => Self::Earlier,
            Ok(age) => Self::Ago(age),
        }
    }
}

fn of(report: &Report, now: &Moment) -> AgentStatus {
    let contact = Contact::of(report, now);
    let contacted = report.contacted().filter(|_| matches!(contact, Contact::Ago(_)));
    // Of an earlier boot nothing is true today.
    let synced = report.synced && !matches!(contact, Contact::Earlier);
    AgentStatus {
        version: report.version.chars().take(VERSION).collect(),
        contact: contacted.map(rfc3339),
        current: synced && matches!(contact, Contact::Ago(age) if age <= STALE),
        synced,
        pods: report.pods,
        static_pods: report.static_pods,
        namespaces: report.namespaces,
        contacted,
    }
}

fn judge(setting: &Setting<'_>, report: &Report, now: &Moment, log: &str) -> (State, String) {
    let as_of = "what this node knows of namespaces and pods is as of then";
    match Contact::of(report, now) {
        Contact::Never => {
            (now.state(), format!("the API server has not answered since the agent started; {log}"))
        }
        Contact::Earlier => {
            let [live, kept] =
                [setting.paths.told(), setting.paths.kept()].map(|folder| agent::path(&folder));
            let says = format!(
                "no agent has reached the API server since the boot, {} ago, and before there was one; {log}; if there is to \
                 be none, `rm {} {}`",
                now.boot(),
                live.display(),
                kept.display()
            );
            (now.state(), says)
        }
        Contact::Ahead(by) => {
            let says = format!(
                "the API server answered {} from now, by this node's clock, so how old that is, is not known; set the clock; \
                 the agent reports again within a minute if it runs",
                ago(now.now.checked_sub(by).unwrap_or(now.now))
            );
            (State::Wrong, says)
        }
        Contact::Ago(age) if age > STALE => {
            let says = format!("the API server last answered {} ago; {as_of}; {log}", ago(now.now - age));
            (State::Wrong, says)
        }
        Contact::Ago(age) if !report.synced => {
            let says = format!(
                "the API server answered {} ago, and namespaces and pods are not all listed since the agent started, so what \
                 this node knows of them may be older; {log}",
                ago(now.now - age)
            );
            (now.state(), says)
        }
        Contact::Ago(age) => {
            let statics = match report.static_pods {
                0 => String::new(),
                count => format!(", {}", plural(count, "static pod")),
            };
            let says = format!(
                "the API server answered {} ago; it knows {}{statics} and {}",
                ago(now.now - age),
                plural(report.pods, "pod"),
                plural(report.namespaces, "namespace")
            );
            (State::Ok, says)
        }
    }
}
