//! The probes of podman and docker, whose containers are of no pod: two containers of an image that is made for them,
//! with the gate as its only program, and removed with them.
//!
//! By default the policy asks nothing of such containers, and then no event shows that one was evaluated. The running
//! probe itself shows it, as running containers do in `status`: its runtime, or a hook in its config.json, is the gate. So the
//! probe has to run until it is inspected. Its program reads a standard input that nobody closes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::evidence::{CONTAINER, Journal};
use super::expect::{Expect, Expected};
use super::probe::{Folder, Report, Seen, name};
use super::{Outcome, Verification, said};
use crate::events::probes::Ledger;
use crate::install::TOOL;
use crate::message::line;
use crate::node::host::Node as _;
use crate::node::run::{Done, run};
use crate::status::{Setting, containers};

/// Whose containers they are, for a report.
const WHOSE: &str = "unmanaged";

/// What every probe is: without a network, without a log, and quick to go.
const ALWAYS: [&str; 6] =
    ["create", "--interactive", "--network=none", "--log-driver=none", "--stop-signal=KILL", "--read-only"];

/// Complies with everything.
const HARMLESS: [&str; 3] = ["--user=65535:65535", "--cap-drop=ALL", "--security-opt=no-new-privileges"];

/// Violates baseline.
const FORBIDDEN: [&str; 2] = ["--user=0:0", "--cap-add=SYS_ADMIN"];

/// An engine's client.
struct Client<'a> {
    verification: &'a Verification<'a>,
    program: PathBuf,
    ledger: &'a Ledger,
}

/// Waits for the engine, and shows it both probes.
pub(super) fn probe(
    verification: &Verification<'_>,
    expect: &Expect<'_>,
    journal: &Journal,
    ledger: &Ledger,
) -> Outcome {
    let mut report = Report::default();
    let engine = verification.engine.name();
    let Some(program) = verification.live.find(engine) else {
        report.misses(format!("not probed: there is no program {engine} on this node"));
        return report.outcome();
    };
    let client = Client { verification, program: verification.live.place(&program), ledger };
    if let Err(reason) = verification.wait(|| client.ask(&["info"])) {
        return Outcome::Failed(format!("{engine} does not answer: {reason}"));
    }
    report.saw(format!("{engine} answers"));
    let image = match Image::made_with(&client) {
        Ok(image) => image,
        // It has nothing to do with the gate.
        Err(reason) => {
            report.misses(format!("not probed: {reason}"));
            return report.outcome();
        }
    };
    for forbidden in [false, true] {
        let expected = expect.of_no_pod(forbidden);
        let (seen, passed) = match client.attempts(&image, forbidden, expected, journal) {
            Ok(attempt) => attempt,
            Err(reason) => return Outcome::Failed(reason),
        };
        // It asks for what an authorization plugin, or the engine's own configuration, may refuse to everybody. That shows
        // nothing of the gate, which the harmless probe has passed.
        if forbidden
            && matches!(expected, Expected::Starts(_))
            && let Some(refusal) = seen.refusal_of_others()
        {
            let what = format!("a forbidden probe was refused, but not by the gate: {refusal}");
            // Where the policy asks nothing of it nothing is missing.
            if expected == Expected::Starts(None) {
                report.saw(what);
            } else {
                report.misses(what);
            }
            break;
        }
        let said = match seen.judge(forbidden, expected, journal) {
            Ok(said) => said,
            Err(reason) => return Outcome::Failed(reason),
        };
        if passed == Some(false) {
            return Outcome::Failed("a probe bypassed the gate".to_owned());
        }
        if forbidden {
            if expected == Expected::Starts(None) {
                report.saw(
                    "a forbidden probe started, because [unmanaged] in the policy requires nothing of it"
                        .to_owned(),
                );
            }
            report.forbidden(expected, said);
        } else {
            report.harmless(WHOSE, passed.is_some());
            if passed.is_none() {
                report.misses(
                    "that it passed the gate: it is not seen among the running containers".to_owned(),
                );
            }
        }
    }
    drop(image);
    let left = [
        ("rm", ["ps", "--all", "--quiet", "--filter", "name=pss-guard-probe"]),
        ("rmi", ["images", "--all", "--quiet", "--filter", "reference=localhost/pss-guard-probe*"]),
    ];
    for (removes, lists) in left {
        let ids = client.ask(&lists).unwrap_or_default();
        if !ids.is_empty() {
            let ids: Vec<&str> = ids.split_ascii_whitespace().collect();
            let ids = ids.join(" ");
            report.misses(format!("that nothing is left: `{engine} {removes} --force {ids}` removes it"));
        }
    }
    report.outcome()
}

impl Client<'_> {
    fn call(&self, arguments: &[&str]) -> Result<Done, String> {
        let mut command = Command::new(&self.program);
        // The engine of this node, whatever else the admin works with.
        for variable in ["DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINER_CONNECTION"] {
            command.env_remove(variable);
        }
        run(command.args(arguments), self.verification.patience.call).map_err(|error| line(&error))
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        let done = self.call(arguments)?;
        if done.ok { Ok(done.stdout.trim().to_owned()) } else { Err(said(&done)) }
    }

    /// Makes a probe until it passes the gate, or the time is over: docker that was told to read its configuration anew
    /// does so when it comes to it.
    fn attempts(
        &self,
        image: &Image<'_>,
        forbidden: bool,
        expected: Expected,
        journal: &Journal,
    ) -> Result<(Seen, Option<bool>), String> {
        let end = Instant::now() + self.verification.patience.reload;
        loop {
            let attempt = self.attempt(image, forbidden, expected, journal)?;
            if attempt.1 != Some(false) || Instant::now() >= end {
                return Ok(attempt);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Starts a container and takes it away again; what came of it, and whether it passed the gate, if it ran. Made first,
    /// and then started: its id is written down before the gate sees it.
    fn attempt(
        &self,
        image: &Image<'_>,
        forbidden: bool,
        expected: Expected,
        journal: &Journal,
    ) -> Result<(Seen, Option<bool>), String> {
        let folder = Folder::new()?;
        let (name, file) = (name(), folder.path().join("id"));
        let (called, id) = (format!("--name={name}"), format!("--cidfile={}", file.display()));
        let own: &[&str] = if forbidden { &FORBIDDEN } else { &HARMLESS };
        let program = ["/pss-guard", "namespaces", "import"];
        let arguments = [&ALWAYS[..], own, &[&called, &id, &image.id], &program].concat();
        // Ends after the removal below it.
        let mut _entry = None;
        let _removal = Removal { client: self, name: &name };
        let mut done = self.call(&arguments)?;
        let id = fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
        if done.ok {
            _entry = Some(self.ledger.of_no_pod(&id).map_err(|error| line(&error))?);
            done = self.call(&["start", &id])?;
        }
        let refusal = (!done.ok).then(|| said(&done));
        let passed = if done.ok { self.passed(&id) } else { None };
        Ok((Seen { refusal, events: journal.wait(CONTAINER, &id, expected) }, passed))
    }

    fn passed(&self, id: &str) -> Option<bool> {
        let Verification { live, processes, paths, engine, .. } = self.verification;
        let setting = Setting {
            live: (*live).clone(),
            processes: (*processes).clone(),
            paths: (*paths).clone(),
            installers: &[],
        };
        containers::passed(&setting, *engine, id)
    }
}

/// An image that is there for the probes, gone when the value is.
struct Image<'a> {
    client: &'a Client<'a>,
    name: String,
    id: String,
}

impl<'a> Image<'a> {
    /// Has the engine make an image with the tool as its only file.
    fn made_with(client: &'a Client<'a>) -> Result<Self, String> {
        let live = client.verification.live;
        let tool = live.place(Path::new(TOOL));
        if !client.verification.is_static {
            return Err(
                "this program was built with shared libraries, and the image of a probe has none".into()
            );
        }
        let tar = live.find("tar").ok_or("there is no tar on this node to make an image with")?;
        let folder = Folder::new()?;
        let archive = folder.path().join("image.tar");
        let mut command = Command::new(live.place(&tar));
        command.arg("-C").arg(tool.parent().unwrap_or(&tool)).arg("-cf").arg(&archive).arg("pss-guard");
        let done = run(&mut command, client.verification.patience.call).map_err(|error| line(&error))?;
        if !done.ok {
            return Err(format!("tar: {}", said(&done)));
        }
        // A value already, because a call that hangs may yet make the image.
        let mut image = Self { client, name: format!("localhost/{}:1", name()), id: String::new() };
        let id = client.ask(&["import", &archive.to_string_lossy(), &image.name]);
        // By its id no engine looks for it in a registry.
        image.id = id.map_err(|reason| format!("{} import: {reason}", client.verification.engine.name()))?;
        Ok(image)
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        // What is left is looked for at the end.
        let _ = self.client.call(&["rmi", "--force", &self.name]);
    }
}

/// Takes a probe away again, however it ended; by its name, because a call that hung has given no id.
struct Removal<'a> {
    client: &'a Client<'a>,
    name: &'a str,
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        let _ = self.client.call(&["rm", "--force", "--volumes", self.name]);
    }
}
