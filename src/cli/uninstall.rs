//! `pss-guard uninstall`: removes the gate, and lists what remains.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::OK;
use super::arguments::Uninstall as Arguments;
use super::install::{as_root, diff, distribution_for, job, print, tell};
use crate::install::job::{Failure, Job, Removable, sweep};
use crate::install::transaction::{FOLDER, Preview, edited, installations, manifest};
use crate::install::{GATE, Installer, engines, programs, units};
use crate::message::escape;
use crate::node::distribution::{Distribution, PLAIN};
use crate::node::host::{Live, Node as _};
use crate::node::procfs::Processes;
use crate::node::recognize::Unrecognized;
use crate::pss::facts::Engine;

/// Takes the gate away.
pub fn uninstall(root: &Path, arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let node = Live::under(root);
    let processes = Processes::of(root);
    if let Err(failure) = as_root(&node, "uninstall") {
        return tell(&failure, None, err);
    }
    let all = engines::ALL.into_iter();
    let installers: Vec<&'static Installer> = match arguments.engine.0 {
        Some(engine) => all.filter(|installer| installer.engine == engine).collect(),
        None => all.filter(|installer| has_something(&node, installer.engine)).collect(),
    };
    let (nothing, mut code) = (installers.is_empty(), OK);
    // What was written down at the installation counts; where nothing was, and nothing is recognized, the usual places.
    let said = arguments.change.distribution;
    let recognized = match Distribution::declared(&node, &processes, said) {
        Err(error @ Unrecognized::Other { .. }) => return tell(&error.into(), None, err),
        recognized => recognized.unwrap_or_else(|_| PLAIN.clone()),
    };
    for installer in installers {
        let distribution = distribution_for(&node, installer, &recognized);
        let job = job(&node, &processes, installer, (&distribution, recognized.name), &arguments.change);
        if let Err(failure) = uninstall_one(&job, arguments.change.dry_run, out) {
            code = tell(&failure, Some(job.name()), err);
        }
    }
    let rest = if code == OK { rest(&node, &processes, arguments, nothing, out) } else { Ok(()) };
    rest.map_or_else(|failure| tell(&failure, None, err), |()| code)
}

/// What no engine needs any more, and what is left.
fn rest(
    node: &Live,
    processes: &Processes,
    arguments: &Arguments,
    nothing: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if arguments.change.dry_run {
        return show_sweep(node, arguments.engine.0, out);
    }
    // Its steps are of no engine.
    let any = job(node, processes, engines::ALL[0], (&PLAIN, PLAIN.name), &arguments.change);
    let swept = sweep(node, processes, &mut |step| print(&any, step, out))?;
    if nothing && !swept {
        writeln!(out, "pss-guard is not installed on this node; nothing was changed")?;
    }
    Ok(tell_left(node, out)?)
}

/// Whether anything of an installation is left for this engine.
fn has_something(node: &Live, engine: Engine) -> bool {
    installations(node).iter().any(|name| name == engine.name()) || programs::has_entries(node, engine)
}

fn uninstall_one(job: &Job<'_>, dry_run: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(Removable { installed }) = job.removable()? else {
        writeln!(out, "{}: the gate is not installed", job.name())?;
        return Ok(());
    };
    writeln!(out, "{}", job.name())?;
    let installed = installed.as_ref();
    if !dry_run {
        return job.uninstall(installed, &mut |step| print(job, step, out));
    }
    previews(&job.preview(installed)?, out)?;
    if let Some(how) = job.how(installed.and_then(|installed| installed.method), false) {
        writeln!(out, "  would restart {}: {how}", job.name())?;
    }
    Ok(())
}

/// How files would change.
pub(super) fn previews(previews: &[Preview], out: &mut dyn Write) -> io::Result<()> {
    previews.iter().try_for_each(|preview| {
        let now = preview.now.as_deref().unwrap_or_default();
        diff(&preview.path, now, preview.now.is_some(), preview.wanted.as_deref(), out)
    })
}

/// What a sweep would remove.
fn show_sweep(node: &Live, only: Option<Engine>, out: &mut dyn Write) -> Result<(), Failure> {
    let goes = |name: &String| only.is_none_or(|engine| engine.name() == name);
    if !units::engines(node).iter().all(goes) {
        return Ok(());
    }
    let files = manifest(node, units::NAME)?.map_or_else(Vec::new, |manifest| manifest.files);
    let edited = edited(node, units::NAME)?;
    let files = files.into_iter().map(|file| file.path).filter(|path| !edited.contains(path));
    for path in files.chain(programs::programs(node)).filter(|path| node.place(path).exists()) {
        writeln!(out, "  would remove {}", path.display())?;
    }
    Ok(())
}

/// Says what stays on the node after the last installation has gone, and how that is removed.
fn tell_left(node: &Live, out: &mut dyn Write) -> io::Result<()> {
    if !units::engines(node).is_empty() {
        return Ok(());
    }
    let mut left = units::beside(node);
    for folder in ["/etc/pss-guard", "/var/lib/pss-guard", "/run/pss-guard", "/var/log/pss-guard"] {
        let inside: Vec<PathBuf> =
            node.list(Path::new(folder)).iter().map(|name| Path::new(folder).join(name)).collect();
        // What engines and containers still call has been said, and is not to be removed yet.
        let is_called = |path: &PathBuf| programs::CALLED.iter().any(|called| path == Path::new(called));
        let is_needed = |path: &PathBuf| {
            is_called(path) || [GATE, FOLDER].iter().any(|own| Path::new(own).starts_with(path))
        };
        if inside.iter().any(is_called) {
            left.extend(inside.into_iter().filter(|path| !is_needed(path)));
        } else if node.is_folder(Path::new(folder)) {
            left.push(folder.into());
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
    let places: Vec<String> = left.iter().map(|path| quoted(&node.place(path))).collect();
    writeln!(
        out,
        "what remains (policy, namespaces, counters, events): {}; `rm -r {}` removes it",
        escape(&shown.join(", ")),
        places.join(" ")
    )
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    if text.bytes().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", escape(&text).replace('\'', r"'\''"))
    }
}
