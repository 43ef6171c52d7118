//! `pss-guard verify`: the probes of `install` on demand, and what they proved in one line that can be kept.

use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use nix::unistd::geteuid;
use serde::Serialize;

use super::arguments::{AnswerFormat, Verify as Arguments};
use super::install::{distribution_for, verify as probe};
use super::{FAILED, OK, line};
use crate::files;
use crate::install::{GATE, Installer, Request, detect, engines, transaction, units};
use crate::level::cache;
use crate::level::date::rfc3339;
use crate::message::{cut, escape};
use crate::mode::in_force;
use crate::node::distribution::{Distribution, PLAIN};
use crate::node::host::{Live, Node as _};
use crate::node::procfs::Processes;
use crate::paths::Paths;
use crate::scan::node_name;
use crate::sha256::sha256;
use crate::verify::{Outcome, shows_a_verdict};

/// Exit code: the probes ran, or could not be made, and the gate was not proved.
pub const NOT_PROVED: u8 = 1;

/// What an auditor needs to know of one run.
#[derive(Debug, Serialize)]
struct Evidence {
    /// When the probes were made, in UTC.
    time: String,
    node: String,
    gate: File,
    /// The version that the gate says it is; `null` where it does not run.
    gate_version: Option<String>,
    /// `null` where the built-in defaults apply.
    policy: Option<File>,
    /// The mode in force.
    mode: &'static str,
    engines: Vec<Proof>,
}

/// A file, and the SHA-256 of its bytes.
#[derive(Debug, Serialize)]
struct File {
    path: String,
    sha256: String,
}

/// What was proved of one engine.
#[derive(Debug, Serialize)]
struct Proof {
    engine: &'static str,
    /// What the engine says of its version; `null` where it cannot be asked.
    version: Option<String>,
    method: &'static str,
    proved: bool,
    /// What was seen, in sentences.
    seen: Vec<String>,
    /// What was not, or what went wrong.
    missing: Vec<String>,
}

/// Starts the probes, and prints what they proved.
pub fn verify(root: &Path, arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let node = Live::under(root);
    let processes = Processes::of(root);
    let evidence = match evidence(&node, &processes, arguments) {
        Ok(evidence) => evidence,
        Err(says) => {
            let _ = writeln!(err, "pss-guard: {says}");
            return FAILED;
        }
    };
    // A reader that went away changes nothing of what was proved.
    let _ = match arguments.format {
        AnswerFormat::Text => text(&evidence, out),
        AnswerFormat::Json => {
            serde_json::to_writer(&mut *out, &evidence).map_err(Into::into).and_then(|()| writeln!(out))
        }
    };
    if evidence.engines.iter().all(|proof| proof.proved) { OK } else { NOT_PROVED }
}

fn evidence(node: &Live, processes: &Processes, arguments: &Arguments) -> Result<Evidence, String> {
    if !node.is_running() {
        return Err(format!(
            "verify starts containers on the node itself, and {} is another root directory",
            escape(&node.root().display().to_string())
        ));
    }
    if !geteuid().is_root() {
        return Err(format!("run verify as root: it starts containers, and this is uid {}", geteuid()));
    }
    let paths = Paths::under(node.root());
    let policy = cache::load_fresh(&paths).map_err(|error| line(&error))?;
    let installers = installers(node, arguments)?;
    let recognized = Distribution::of(node, processes).unwrap_or_else(|_| PLAIN.clone());
    let gate = node.place(Path::new(GATE));
    let time = rfc3339(SystemTime::now());
    let version = node.output(Path::new(GATE), &["--version"]);
    Ok(Evidence {
        time,
        node: escape(&node_name(node)),
        gate: hashed(GATE, &gate)?,
        gate_version: version
            .map(|said| cut(&escape(said.trim().trim_start_matches("pss-guard-gate ")), 100)),
        policy: policy
            .as_ref()
            .map(|_| hashed(&paths.policy().to_string_lossy(), &paths.policy()))
            .transpose()?,
        mode: in_force(&paths, policy.unwrap_or_default().mode).mode.name(),
        engines: installers
            .into_iter()
            .map(|installer| proof(node, processes, installer, &recognized))
            .collect::<Result<_, _>>()?,
    })
}

/// The engines that are asked about; each has the gate.
fn installers(node: &Live, arguments: &Arguments) -> Result<Vec<&'static Installer>, String> {
    let names = units::engines(node);
    let has_it = |installer: &&Installer| names.iter().any(|name| name == installer.engine.name());
    if let Some(engine) = arguments.engine {
        let installer = engines::of(engine).filter(has_it);
        let name = engine.name();
        return installer.map(|installer| vec![installer]).ok_or_else(|| {
            format!("the gate is not installed for {name}; `pss-guard install --engine {name}` installs it")
        });
    }
    let all: Vec<&'static Installer> = engines::ALL.into_iter().filter(has_it).collect();
    if all.is_empty() {
        Err("the gate is not installed for any engine of this node".to_owned())
    } else {
        Ok(all)
    }
}

fn proof(
    node: &Live,
    processes: &Processes,
    installer: &'static Installer,
    recognized: &Distribution,
) -> Result<Proof, String> {
    let name = installer.engine.name();
    let manifest = transaction::manifest(node, name).map_err(|error| line(&error))?;
    let method = manifest.as_ref().and_then(|manifest| manifest.method);
    let method = method.ok_or_else(|| format!("the record of {name}'s installation names no method"))?;
    let distribution = distribution_for(node, installer, recognized);
    let config = manifest.and_then(|manifest| manifest.config);
    let request = Request { method, config: config.as_deref(), distribution: &distribution };
    let (seen, mut missing) = match probe(node, processes, installer, &request) {
        Outcome::Verified(seen) => (seen, Vec::new()),
        Outcome::Unproven { seen, missing } => (seen, missing),
        Outcome::Failed(reason) => (Vec::new(), vec![reason]),
    };
    // To an installation it is enough that the engine calls the gate. Here the gate itself is asked: another program in its
    // place starts everything as well.
    if missing.is_empty() && !shows_a_verdict(&seen) {
        missing.push("a verdict: the policy in force requires nothing of the probes".to_owned());
    }
    let tidy = |lines: Vec<String>| lines.iter().map(|line| escape(line)).collect();
    Ok(Proof {
        engine: name,
        version: detect::daemon(installer.engine).version(node, &distribution).map(|said| escape(&said)),
        method: method.name(),
        proved: missing.is_empty(),
        seen: tidy(seen),
        missing: tidy(missing),
    })
}

fn hashed(shown: &str, path: &Path) -> Result<File, String> {
    /// Bytes; a gate with all its symbols has a tenth of it.
    const LIMIT: u64 = 256 << 20;
    let bytes = files::read(path, LIMIT).map_err(|error| line(&error))?;
    Ok(File { path: escape(shown), sha256: sha256(&bytes) })
}

/// A line for each engine.
fn text(evidence: &Evidence, out: &mut dyn Write) -> io::Result<()> {
    let Evidence { time, node, gate, gate_version, policy, mode, engines } = evidence;
    let gate_version = gate_version.as_deref().unwrap_or("of unknown version");
    let policy = policy
        .as_ref()
        .map_or_else(|| "no policy file".to_owned(), |policy| format!("policy sha256 {}", policy.sha256));
    for Proof { engine, version, method, proved, seen, missing } in engines {
        let (word, what) = if *proved {
            ("proved", seen.clone())
        } else {
            ("NOT PROVED", [&missing[..], &seen[..]].concat())
        };
        let version = version.as_deref().map(|version| format!(" ({version})")).unwrap_or_default();
        writeln!(
            out,
            "{time} {node} {engine}{version}, {method} method: {word}: gate {gate_version} sha256 {}, {policy}, \
             {mode} mode: {}",
            gate.sha256,
            what.join("; ")
        )?;
    }
    Ok(())
}
