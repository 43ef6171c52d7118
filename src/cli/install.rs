//! `pss-guard install`: installs the gate for an engine. What is done, and in which order, is [`job`](crate::install::job)'s;
//! here it is printed.

use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use nix::unistd::geteuid;
use similar::TextDiff;

use super::arguments::{Change, Install as Arguments};
use super::manual::manual;
use super::uninstall::{previews, quoted};
use super::{FAILED, OK, faults_of_anchors, line};
use crate::event::{Event, Kind};
use crate::install::before::{self, PutBack};
use crate::install::detect::detect;
use crate::install::job::{
    Done, Failure, Job, Lost, Prepared, Repair, Repaired, Step, Upgrade, Wish, distribution_of,
    policy_is_kept, retire,
};
use crate::install::programs::{self, Piece};
use crate::install::standing::Standing;
use crate::install::transaction::{FOLDER, Undone, manifest};
use crate::install::{GATE, Installer, Method, Request, directory, engines, persist, units};
use crate::level::Policy;
use crate::level::cache;
use crate::level::date::rfc3339;
use crate::message::{LIMIT, cut, escape};
use crate::node::distribution::{Distribution, PLAIN};
use crate::node::host::Live;
use crate::node::procfs::Processes;
use crate::node::recognize::Unrecognized;
use crate::paths::Paths;
use crate::pss::facts::Engine;
use crate::status::older;
use crate::verify::{Outcome, Patience, Verification};

/// Exit code: the gate is installed, but nobody has seen it work.
pub const UNPROVEN: u8 = 1;

/// So many pods are named.
const MOST_PODS: usize = 200;

/// Prints why something was not done; gives the exit code. `whose` is the engine, where it is one engine's.
pub(super) fn tell(failure: &Failure, whose: Option<&str>, err: &mut dyn Write) -> u8 {
    let whose = whose.map(|whose| format!("{whose}: ")).unwrap_or_default();
    let colon = if failure.printed.is_empty() { "" } else { "; it said:" };
    let _ = writeln!(err, "pss-guard: {whose}{}{colon}", failure.says);
    for line in &failure.printed {
        let _ = writeln!(err, "    {line}");
    }
    for sentence in &failure.more {
        let _ = writeln!(err, "  {sentence}");
    }
    if failure.stays { UNPROVEN } else { FAILED }
}

/// Only root can look at all that an answer rests on, and change it. Whose another root directory is, is not known.
pub(super) fn as_root(node: &Live, what: &str) -> Result<(), Failure> {
    let user = geteuid();
    if !node.is_running() || user.is_root() {
        return Ok(());
    }
    Err(Failure::new(format!("{what} as root: only root can change engines' files, and this is uid {user}")))
}

/// An engine's job, as the command line asks for it.
pub(super) fn job<'a>(
    node: &'a Live,
    processes: &'a Processes,
    installer: &'static Installer,
    (distribution, recognized): (&'a Distribution, &'static str),
    change: &'a Change,
) -> Job<'a> {
    Job {
        node,
        processes,
        installer,
        distribution,
        recognized,
        config: change.config.as_deref(),
        restart: change.restart,
        restart_command: change.restart_command.as_deref(),
    }
}

/// Installs the gate.
pub fn install(root: &Path, arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let node = Live::under(root);
    let processes = Processes::of(root);
    if arguments.repair {
        let done = as_root(&node, "install").map(|()| repair(&node, &processes, arguments, out, err));
        return done.unwrap_or_else(|failure| tell(&failure, None, err));
    }
    if arguments.programs {
        let done = as_root(&node, "install").and_then(|()| replace(&node, &processes, arguments, out));
        return done.map_or_else(|failure| tell(&failure, None, err), |()| OK);
    }
    let found = as_root(&node, "install").and_then(|()| {
        let recognized = recognize(&node, &processes, &arguments.change, arguments.engine.0)?;
        Ok((wanted(&node, &recognized, arguments.engine.0, err)?, recognized))
    });
    let (engines, recognized) = match found {
        Ok(found) => found,
        Err(failure) => return tell(&failure, None, err),
    };
    if engines.is_empty() {
        return tell(&Failure::new("no supported container engine was found on this node"), None, err);
    }
    // Where others can write to a directory that pods' mounts rest on, no pod with a mount from there could be evaluated.
    let faults = if node.is_running() {
        faults_of_anchors(&Paths::default(), &processes, &recognized)
    } else {
        Vec::new()
    };
    let faults: Vec<String> = faults.iter().map(|fault| line(fault)).collect();
    let verify = |installer: &Installer, request: &Request<'_>| verify(&node, &processes, installer, request);
    let wish = Wish {
        method: arguments.method,
        verify: if arguments.no_probe { None } else { Some(&verify) },
        persist: arguments.persist,
        directory: arguments.directory.as_deref(),
        manual: &manual(),
        anchor_faults: &faults,
    };
    let mut code = OK;
    let (mut installed, mut is_unfinished, mut has_new_programs) = (Vec::new(), false, true);
    let mut engines = engines.into_iter();
    for installer in engines.by_ref() {
        let distribution = distribution_for(&node, installer, &recognized);
        let job = job(&node, &processes, installer, (&distribution, recognized.name), &arguments.change);
        let done = if arguments.change.dry_run {
            dry_run(&job, &wish, out).and_then(|()| {
                if arguments.persist || job.is_persisted()? {
                    show_persistence(&job, out)?;
                }
                Ok(Done::Installed)
            })
        } else {
            let mut report = |step: Step<'_>| print(&job, step, out);
            let done = job.install(&wish, &mut report);
            done.and_then(|done| {
                // What keeps it in place names files and handlers, and these may be others now.
                if arguments.persist || job.is_persisted()? {
                    job.persist(&mut report)?;
                }
                Ok(done)
            })
        };
        match done {
            Ok(done) => {
                code = code.max(if done == Done::Unproven { UNPROVEN } else { OK });
                installed.push(job.name());
            }
            Err(failure) => {
                code = code.max(tell(&failure, Some(job.name()), err));
                is_unfinished |= failure.is_unfinished;
                // Otherwise the next engine of a node has nothing to do with what is wrong with this one.
                if failure.of_programs {
                    has_new_programs = false;
                    for name in &installed {
                        let _ = writeln!(
                            err,
                            "pss-guard: {name}: has the previous programs again, which all engines share"
                        );
                    }
                    break;
                }
            }
        }
    }
    for installer in engines {
        let name = installer.engine.name();
        let _ = writeln!(err, "pss-guard: {name}: left alone, because all engines share the programs");
    }
    if !arguments.change.dry_run && !installed.is_empty() && has_new_programs {
        // Its steps are of no engine.
        let any = job(&node, &processes, engines::ALL[0], (&PLAIN, PLAIN.name), &arguments.change);
        if let Err(failure) = retire(&node, &mut |step| print(&any, step, out)) {
            print(&any, Step::NotDone(&failure.says), out);
        }
    }
    // What is left of a run that could not finish is what the next one goes back to; and where this one did nothing, it may be
    // that of a run that is at it.
    if !arguments.change.dry_run
        && !installed.is_empty()
        && !is_unfinished
        && let Err(error) = before::forget(&node)
    {
        code = code.max(tell(&error.into(), None, err));
    }
    code
}

/// Shows an engine that is installed its probes.
pub(super) fn verify(
    node: &Live,
    processes: &Processes,
    installer: &Installer,
    request: &Request<'_>,
) -> Outcome {
    let verification = Verification {
        live: node,
        processes,
        paths: &Paths::under(node.root()),
        engine: installer.engine,
        config: request.config,
        distribution: request.distribution,
        patience: Patience::default(),
        is_static: cfg!(target_feature = "crt-static"),
    };
    match verification.verify() {
        Outcome::Failed(reason) if Standing::of(node).is_replaced() => Outcome::Failed(format!(
            "{reason}; {GATE} is not the program that was installed, and `pss-guard install --engine {}` restores it",
            installer.engine.name()
        )),
        outcome => outcome,
    }
}

/// What keeps the gate in place.
fn show_persistence(job: &Job<'_>, out: &mut dyn Write) -> io::Result<()> {
    if persist::is_by_distribution(job.distribution, job.installer.engine) {
        writeln!(out, "  would have nodeadm write the gate's lines at every boot (/etc/eks/nodeadm.d)")
    } else {
        writeln!(
            out,
            "  would enable pss-guard-install.path and pss-guard-install.service, which put the gate back"
        )
    }
}

/// Replaces the programs of an installed gate, and says for which engine that is not all that this version would do.
fn replace(
    node: &Live,
    processes: &Processes,
    arguments: &Arguments,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Some(upgrade) = Upgrade::prepare(node)? else {
        writeln!(
            out,
            "the gate is not installed for any engine, and nothing was changed; `pss-guard install --engine auto --dry-run` \
             shows what would be done"
        )?;
        return Ok(());
    };
    writeln!(out, "the programs of the gate")?;
    if arguments.change.dry_run {
        for piece in upgrade.pieces(node) {
            writeln!(out, "  would write {}", piece.path().display())?;
        }
        for path in units::retired(node)? {
            writeln!(out, "  would remove {}", path.display())?;
        }
    } else {
        // Its steps are of no engine.
        let any = job(node, processes, engines::ALL[0], (&PLAIN, PLAIN.name), &arguments.change);
        upgrade.carry_out(node, &mut |step| print(&any, step, out))?;
    }
    let recognized = Distribution::of(node, processes).unwrap_or_else(|_| PLAIN.clone());
    let names = units::engines(node);
    for installer in
        engines::ALL.into_iter().filter(|installer| names.iter().any(|name| name == installer.engine.name()))
    {
        let distribution = distribution_for(node, installer, &recognized);
        let job = job(node, processes, installer, (&distribution, recognized.name), &arguments.change);
        let name = job.name();
        let run = format!("run `pss-guard install --engine {name}`");
        match job.is_due(&manual()) {
            Ok(false) => {}
            Ok(true) => writeln!(out, "{name}: this version would install it in another way; {run}")?,
            Err(failure) => {
                writeln!(
                    out,
                    "{name}: what this version would change is not known: {}; {run}",
                    failure.says
                )?;
            }
        }
    }
    Ok(())
}

/// Puts the gate back for every engine that it is installed for, and that has lost it.
fn repair(
    node: &Live,
    processes: &Processes,
    arguments: &Arguments,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let recognized = Distribution::of(node, processes).unwrap_or_else(|_| PLAIN.clone());
    let names = units::engines(node);
    let is_asked = |installer: &&Installer| {
        names.iter().any(|name| name == installer.engine.name())
            && arguments.engine.0.is_none_or(|engine| engine == installer.engine)
    };
    let mut code = OK;
    let installers: Vec<&'static Installer> = engines::ALL.into_iter().filter(is_asked).collect();
    if installers.is_empty() {
        let whose = arguments.engine.0.map(|engine| format!("{}: ", engine.name())).unwrap_or_default();
        let _ = writeln!(out, "{whose}the gate is not installed, so nothing was put back");
    }
    for installer in installers {
        let distribution = distribution_for(node, installer, &recognized);
        let job = Job {
            restart: node.is_running(),
            ..job(node, processes, installer, (&distribution, recognized.name), &arguments.change)
        };
        match job.repair(&mut |step| print(&job, step, out)) {
            Ok(Repair::NotInstalled) => {
                let _ = writeln!(out, "{}: the gate is not installed, so nothing was put back", job.name());
            }
            Ok(Repair::Intact) => {
                let _ = writeln!(out, "{}: the gate is where it was installed", job.name());
            }
            Ok(Repair::Done(repaired)) => code = code.max(tell_repaired(&job, &repaired, out, err)),
            Err(failure) => code = code.max(tell(&failure, Some(job.name()), err)),
        }
    }
    code
}

/// Logs since when the node was open, and says what was done.
fn tell_repaired(job: &Job<'_>, repaired: &Repaired, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let name = job.name();
    let because = lost(&repaired.lost);
    let end = match &repaired.failure {
        Some(failure) => format!("and is still open: {failure}"),
        None if repaired.restarted => {
            format!("until {}, when {name} was restarted with it", rfc3339(SystemTime::now()))
        }
        None => format!("until {}", rfc3339(SystemTime::now())),
    };
    let message =
        format!("{name} may have started containers without the gate from {} {end}", rfc3339(repaired.since));
    Event {
        kind: Kind::Restored,
        mode: None,
        message: &cut(&escape(&message), LIMIT),
        identity: None,
        level: "",
        version: "",
        controls: "",
        findings: "",
        because: &escape(&because),
        policy_fault: "",
        is_exec: false,
        change: None,
    }
    .emit(&Paths::under(job.node.root()));
    let _ = writeln!(out, "  {}", escape(&message));
    let Some(failure) = &repaired.failure else { return OK };
    // It would be restarted for ever.
    for complaint in units::stop_watching(job.node) {
        let _ = writeln!(err, "pss-guard: {}", escape(&complaint));
    }
    tell(&Failure::new(failure), Some(name), err)
}

/// By what the gate was lost, in words.
fn lost(lost: &Lost) -> String {
    match lost {
        Lost::Files(files) => {
            let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
            format!("written without it: {}", files.join(", "))
        }
        Lost::Links => "links of the gate are missing".to_owned(),
        Lost::Hook => "the engine may have read the hook while there was no gate, and dropped it".to_owned(),
    }
}

/// What the node is. For an engine that is not its containerd that does not matter.
fn recognize(
    node: &Live,
    processes: &Processes,
    change: &Change,
    engine: Option<Engine>,
) -> Result<Distribution, Failure> {
    match Distribution::declared(node, processes, change.distribution) {
        Ok(distribution) => Ok(distribution),
        Err(Unrecognized::Unit(_) | Unrecognized::Options(_) | Unrecognized::Setting { .. })
            if change.config.is_some() =>
        {
            Ok(PLAIN.clone())
        }
        Err(error @ Unrecognized::Other { .. }) => Err(error.into()),
        Err(_) if engine.is_some_and(|engine| engine != Engine::Containerd) => Ok(PLAIN.clone()),
        Err(error) => Err(error.into()),
    }
}

/// The distribution by which an engine's installation goes.
pub(super) fn distribution_for(
    node: &Live,
    installer: &Installer,
    recognized: &Distribution,
) -> Distribution {
    // A manifest that cannot be read stops the job itself.
    let written = manifest(node, installer.engine.name()).ok().flatten();
    let written = written.map(|manifest| manifest.distribution.unwrap_or_else(|| PLAIN.clone()));
    distribution_of(written.as_ref(), recognized)
}

/// The installers that are asked for.
fn wanted(
    node: &Live,
    distribution: &Distribution,
    engine: Option<Engine>,
    err: &mut dyn Write,
) -> Result<Vec<&'static Installer>, Failure> {
    if let Some(engine) = engine {
        return Ok(engines::of(engine).into_iter().collect());
    }
    let detected = detect(node, distribution)?;
    for left in &detected.left {
        let _ = writeln!(err, "pss-guard: left alone: {left}");
    }
    Ok(detected.engines.into_iter().filter_map(engines::of).collect())
}

/// Prints a step. What cannot be written is noticed when the output is flushed: it must not stop a job halfway.
pub(super) fn print(job: &Job<'_>, step: Step<'_>, out: &mut dyn Write) {
    let _ = match step {
        Step::Begins(method) => writeln!(out, "{}, {method} method", job.name()),
        Step::Lost(what) => {
            writeln!(out, "{}: the gate is not where it was installed; {}", job.name(), escape(&lost(what)))
        }
        Step::Wrote(path) if path == Path::new(directory::FOLDER) => {
            let lie = directory::in_force(job.node);
            writeln!(out, "  wrote {}; the programs are in {}", path.display(), lie.display())
        }
        Step::Wrote(path) => writeln!(out, "  wrote {}", path.display()),
        Step::Removed(path) => writeln!(out, "  removed {}", path.display()),
        Step::RemovedMethod(method) => writeln!(out, "  removed the {method} method"),
        Step::Undid(path, undone) => {
            let what = match undone {
                Undone::Restored => "restored",
                Undone::Removed => "removed",
                Undone::Stripped => "was changed since; removed only our part:",
                Undone::AsItWas => "our part was already gone from",
                Undone::Gone => "was already removed:",
                Undone::Kept => "kept, because another engine's installation needs it:",
            };
            writeln!(out, "  {what} {}", path.display())
        }
        Step::PutBack(path, what) => {
            let what = match what {
                PutBack::Restored => "restored",
                PutBack::Removed => "removed",
                PutBack::Kept => "kept, because it was changed meanwhile:",
            };
            writeln!(out, "  {what} {}", path.display())
        }
        Step::NotOnPath(why) => writeln!(out, "  not installed on the PATH: {why}"),
        Step::Elsewhere(own) => where_it_is(own, out),
        Step::KeptEdited(path) => kept(path, out),
        Step::LeftEdited(path) => {
            let (shown, place) = (path.display(), quoted(&job.node.place(path)));
            writeln!(out, "  kept {shown}, which was changed since it was installed: `rm {place}` removes it")
        }
        Step::NotDone(why) => writeln!(out, "  not done: {why}"),
        Step::Unchanged => writeln!(out, "  already installed; nothing changed"),
        Step::Open(what) => writeln!(out, "  open: {}", escape(what)),
        Step::NotCompared(why) => writeln!(out, "  not compared: {}", escape(why)),
        Step::OlderPods => tell_older(job, out),
        Step::ActiveAfterRestart(unit) => {
            writeln!(out, "  it is active once {} is restarted: systemctl restart {unit}", job.name())
        }
        Step::Seen(what) => writeln!(out, "  seen: {}", escape(what)),
        Step::NotShown(what) => writeln!(out, "  not shown: {}", escape(what)),
        Step::StillCalled { stale, method, containers } => {
            still_called(job, (stale, method), containers, out)
        }
    };
}

/// An edited unit is the admin's.
fn kept(path: &Path, out: &mut dyn Write) -> io::Result<()> {
    let path = path.display();
    writeln!(out, "  kept {path}, which was changed since it was installed; remove it to get the new one")
}

fn still_called(
    job: &Job<'_>,
    (stale, method): (bool, Option<Method>),
    containers: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (name, links) = (job.name(), programs::entries_of(job.installer.engine));
    // What calls the links does not tell which it is.
    let (one, many) = match job.installer.engine {
        Engine::Containerd | Engine::CriO => ("container or sandbox", "containers and sandboxes"),
        Engine::Docker | Engine::Podman | Engine::None => ("container", "containers"),
    };
    let (who, until) = match containers {
        _ if stale => (
            format!("{name} still runs with its previous configuration"),
            format!("{name} was restarted and the containers that it started that way are gone"),
        ),
        1 => (format!("1 running {one} was started through the gate"), "it is gone".to_owned()),
        _ => {
            (format!("{containers} running {many} were started through the gate"), "they are gone".to_owned())
        }
    };
    let shown = links.display();
    writeln!(
        out,
        "  {who}: the links in {shown} stay, and lead to the real runtime; once {until} (or after a reboot), `rm -r {}` \
         removes them",
        quoted(&job.node.place(&links))
    )?;
    if stale && method == Some(Method::Hook) {
        writeln!(out, "  and so does {GATE}, for its hook")?;
    }
    Ok(())
}

/// Tells which pods passed no gate, and never will.
fn tell_older(job: &Job<'_>, out: &mut dyn Write) -> io::Result<()> {
    if !job.node.is_running() {
        return Ok(());
    }
    let policy: Policy = cache::load_fresh(&Paths::under(job.node.root())).ok().flatten().unwrap_or_default();
    let older = older::pods(job.node, job.processes, &policy);
    let until = if job.is_down() { "" } else { ", and those that start before it is restarted," };
    writeln!(
        out,
        "  open: containerd takes a container's runtime from its pod: pods older than the gate{until} \
             bypass it, including containers started in them later (a restart, kubectl debug), until they \
             are recreated; one without a controller does not come back by itself"
    )?;
    for pod in older.recreate.iter().take(MOST_PODS) {
        writeln!(out, "    {pod}")?;
    }
    if let Some(more) = older.recreate.len().checked_sub(MOST_PODS).filter(|more| *more > 0) {
        writeln!(out, "    and {more} more: `pss-guard status --verbose` names their containers")?;
    }
    if older.unread > 0 {
        writeln!(out, "    and {} of the running containers, which could not be inspected", older.unread)?;
    }
    Ok(())
}

/// Prints what would be done, or why it is refused.
fn dry_run(job: &Job<'_>, wish: &Wish<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let mut named = None;
    let prepared = job.prepare(wish, &mut named)?;
    print(job, Step::Begins(prepared.request.method), out);
    show(job, &prepared, wish, out)
}

fn show(job: &Job<'_>, prepared: &Prepared<'_>, wish: &Wish<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let node = job.node;
    let mut nothing = true;
    if let Some(other) = prepared.other {
        writeln!(out, "  would remove the {other} method first")?;
        previews(&job.preview(prepared.installed.as_ref())?, out)?;
    }
    for entry in &prepared.plan.entries {
        writeln!(out, "  gate in front of handler {}: {}", entry.handler, entry.runtime.display())?;
    }
    for piece in prepared.pieces().filter(|piece| !piece.is_there(node)) {
        nothing = false;
        match &piece {
            Piece::Program { path, .. } => writeln!(out, "  would write {}", path.display())?,
            Piece::Link { path, target } => {
                writeln!(out, "  would write {} (a link to {})", path.display(), target.display())?;
            }
            Piece::Directory { directory } if directory == piece.path() => {
                writeln!(out, "  would write {}, and move both programs there", directory.display())?;
            }
            Piece::Directory { directory } => writeln!(
                out,
                "  would write {} (a link to {}, with both programs there)",
                piece.path().display(),
                directory.display()
            )?,
        }
    }
    if let Err(own) = &prepared.command {
        where_it_is(own, out)?;
    }
    for change in &prepared.system.plan.changes {
        nothing = false;
        writeln!(out, "  would write {}", change.path.display())?;
    }
    for hook in &prepared.hooks {
        nothing = false;
        writeln!(out, "  would write {} again, so that {} reads it", hook.display(), job.name())?;
    }
    prepared.system.kept.iter().try_for_each(|path| kept(path, out))?;
    for path in units::retired(node)? {
        nothing = false;
        writeln!(out, "  would remove {}", path.display())?;
    }
    if !prepared.system.plan.changes.is_empty() {
        for command in units::notices(node) {
            writeln!(out, "  would run {}", escape(&command.join(" ")))?;
        }
    }
    if !policy_is_kept(node) {
        nothing = false;
        let kept = Paths::default().kept_policy();
        writeln!(out, "  would write {} (the policy, as the last good one)", kept.display())?;
    }
    if let Some(record) = prepared.record(node) {
        nothing = false;
        let root = prepared.kubelet_root.as_deref().unwrap_or_default();
        writeln!(out, "  would write {} (the kubelet's root directory, {})", record.display(), escape(root))?;
    }
    for change in &prepared.plan.changes {
        nothing = false;
        let before = change.before.as_deref().unwrap_or_default();
        writeln!(out, "  would write {}", change.path.display())?;
        diff(&change.path, before, change.before.is_some(), Some(&change.after), out)?;
    }
    if nothing && prepared.installed.is_some() {
        writeln!(out, "  no file would change")?;
    } else {
        writeln!(out, "  would keep in {FOLDER} what uninstall needs")?;
    }
    for open in &prepared.plan.open {
        writeln!(out, "  open: {}", escape(open))?;
    }
    if let Some(why) = &prepared.plan.not_compared {
        writeln!(out, "  not compared: {}", escape(why))?;
    }
    if let Some(how) = job.how(Some(prepared.request.method), true) {
        writeln!(out, "  would restart {}: {how}", job.name())?;
    }
    if job.restart && wish.verify.is_some() && node.is_running() {
        writeln!(
            out,
            "  would start two probe containers to prove that the gate evaluates them, and remove them"
        )?;
    }
    Ok(())
}

/// Where people find the program that is not put where they look.
fn where_it_is(own: &Path, out: &mut dyn Write) -> io::Result<()> {
    if programs::is_on_path(own) {
        return Ok(());
    }
    let folder = own.parent().unwrap_or(own).display();
    writeln!(
        out,
        "  {} stays where it is, and {folder} is not on the usual PATH: call it by its path, or `ln -s {0} {}`",
        own.display(),
        programs::COMMAND
    )
}

/// How a file would change, as `diff -u` shows it.
pub(super) fn diff(
    path: &Path,
    before: &[u8],
    exists: bool,
    after: Option<&[u8]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (old, new) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after.unwrap_or_default()));
    let shown = path.display().to_string();
    let nothing = "/dev/null";
    let diff = TextDiff::from_lines(old.as_ref(), new.as_ref());
    let header = (
        if exists { shown.as_str() } else { nothing },
        if after.is_some() { shown.as_str() } else { nothing },
    );
    write!(out, "{}", diff.unified_diff().context_radius(3).header(header.0, header.1))
}
