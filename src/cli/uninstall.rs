//! `pss-guard uninstall`: removes the gate, and lists what remains.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::OK;
use super::install::{Failure, Job, Options, as_root, diff};
use crate::install::transaction::{
    FOLDER, Manifest, Store, Undone, edited, installations, manifest, strip_whole,
};
use crate::install::{GATE, Installer, Method, Request, before, detect, engines, programs, units};
use crate::message::escape;
use crate::node::host::{Live, Node as _};
use crate::node::procfs::Processes;
use crate::pss::facts::Engine;

/// Takes the gate away.
pub fn uninstall(root: &Path, options: &Options<'_>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let node = Live::under(root);
    let processes = Processes::of(root);
    if let Err(failure) = as_root(&node, "uninstall") {
        return failure.tell(None, err);
    }
    let all = engines::ALL.into_iter();
    let installers: Vec<&Installer> = match options.engine {
        Some(engine) => all.filter(|installer| installer.engine == engine).collect(),
        None => all.filter(|installer| has_something(&node, installer.engine)).collect(),
    };
    let (nothing, mut code) = (installers.is_empty(), OK);
    for installer in installers {
        let job = Job { node: &node, processes: &processes, installer, options };
        match job.uninstall(out) {
            Ok(()) => {}
            Err(failure) => code = failure.tell(Some(installer.engine.name()), err),
        }
    }
    let rest = if code == OK { rest(&node, &processes, options, nothing, out) } else { Ok(()) };
    rest.map_or_else(|failure| failure.tell(None, err), |()| code)
}

/// What no engine needs any more, and what is left.
fn rest(
    node: &Live,
    processes: &Processes,
    options: &Options<'_>,
    nothing: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if options.dry_run {
        return show_sweep(node, options, out);
    }
    let swept = sweep(node, processes, out)?;
    if nothing && !swept {
        writeln!(out, "pss-guard is not installed on this node; nothing was changed")?;
    }
    Ok(tell_left(node, out)?)
}

/// Whether anything of an installation is left for this engine.
fn has_something(node: &Live, engine: Engine) -> bool {
    installations(node).iter().any(|name| name == engine.name()) || programs::has_entries(node, engine)
}

impl Job<'_> {
    fn uninstall(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let installed = manifest(self.node, self.name())?;
        if installed.is_none() && !programs::has_entries(self.node, self.installer.engine) {
            writeln!(out, "{}: the gate is not installed", self.name())?;
            return Ok(());
        }
        self.reaches_engine()?;
        let usual = Path::new(detect::daemon(self.installer.engine).config);
        let config = installed.as_ref().and_then(|installed| installed.config.as_deref()).unwrap_or(usual);
        if let Some(other) = self.options.config.filter(|other| *other != config) {
            let (other, config) = (other.display(), config.display());
            return Err(Failure::new(format!("the gate is not installed in {other}, but in {config}")));
        }
        writeln!(out, "{}", self.name())?;
        let store = Store::open(self.node)?;
        store.is_unchanged(self.name(), installed.as_ref())?;
        let method = installed.as_ref().and_then(|installed| installed.method);
        if self.options.dry_run {
            let held = installed.as_ref().is_some_and(|installed| self.is_held(installed));
            self.preview(&store, held, out)?;
            if let Some(how) = self.how(method, false) {
                writeln!(out, "  would restart {}: {how}", self.name())?;
            }
            return Ok(());
        }
        self.undo(&store, installed.as_ref(), &self.running(), out)?;
        // What an upgrade left that was killed: there is nothing to go back to any more.
        before::forget(self.node)?;
        let restarted = self.restart(method, false);
        // Also after a restart that failed: what the engine still calls stays until it does not.
        self.clear(method, out)?;
        restarted.map_err(|error| {
            let by_command = self.options.restart_command.is_some();
            let failure = Failure::of_restart(&error, self.name(), by_command);
            failure.and(format!("the gate was removed; {} has yet to be restarted", self.name()))
        })
    }

    /// How the engine's files would change.
    pub(super) fn preview(&self, store: &Store<'_>, held: bool, out: &mut dyn Write) -> Result<(), Failure> {
        for preview in store.preview(self.name(), self.installer.strip, held)? {
            let now = preview.now.as_deref().unwrap_or_default();
            diff(&preview.path, now, preview.now.is_some(), preview.wanted.as_deref(), out)?;
        }
        Ok(())
    }

    /// Removes what nobody of an engine calls any more.
    pub(super) fn clear(&self, method: Option<Method>, out: &mut dyn Write) -> Result<(), Failure> {
        let Self { node, processes, installer, .. } = *self;
        let needs = method.is_none_or(|method| installer.needs_restart(method));
        let stale = needs && programs::entries_are_called(node, installer.engine, processes);
        let callers = programs::callers(node, installer.engine, processes);
        if stale || callers > 0 {
            // What they call is the real runtime by now.
            let (name, links) = (self.name(), programs::entries_of(installer.engine));
            let (who, until) = match callers {
                _ if stale => (
                    format!("{name} still runs with its previous configuration"),
                    format!("{name} was restarted and the containers that it started that way are gone"),
                ),
                1 => ("1 running container was started through the gate".to_owned(), "it is gone".to_owned()),
                _ => (
                    format!("{callers} running containers were started through the gate"),
                    "they are gone".to_owned(),
                ),
            };
            let links = links.display();
            writeln!(
                out,
                "  {who}: the links in {links} stay, and lead to the real runtime; once {until} (or after a reboot), \
                 `rm -r {}` removes them",
                quoted(&node.place(&programs::entries_of(installer.engine)))
            )?;
            if stale && method == Some(Method::Hook) {
                writeln!(out, "  and so does {GATE}, for its hook")?;
            }
        } else {
            programs::remove_entries(node, installer.engine)?;
        }
        if stale && method == Some(Method::Hook) {
            // Its specs name the hook for as long as it runs; a sweep must not take the program away.
            programs::keep_gate(node, &self.running())?;
        }
        Ok(())
    }

    /// Whether containers remember names that the installation gave.
    pub(super) fn is_held(&self, installed: &Manifest) -> bool {
        let method = installed.method.unwrap_or(Method::Runtime);
        let request = Request { method, config: installed.config.as_deref() };
        !(self.installer.holders)(self.node, &request).is_empty()
    }
}

pub(super) fn tell(done: &[(PathBuf, Undone)], out: &mut dyn Write) -> io::Result<()> {
    for (path, undone) in done {
        let what = match undone {
            Undone::Restored => "restored",
            Undone::Removed => "removed",
            Undone::Stripped => "was changed since; removed only our part:",
            Undone::AsItWas => "our part was already gone from",
            Undone::Gone => "was already removed:",
            Undone::Kept => "kept, because another engine's installation needs it:",
        };
        writeln!(out, "  {what} {}", path.display())?;
    }
    Ok(())
}

/// Removes what all engines share once there is none. Whether anything was removed.
pub(super) fn sweep(node: &Live, processes: &Processes, out: &mut dyn Write) -> Result<bool, Failure> {
    let is_left = || !units::engines(node).is_empty();
    if is_left() || !programs::is_there(node) {
        return Ok(false);
    }
    // Asked again under the lock, which is held to the end: an installation that another run makes for another engine
    // meanwhile must not lose the gate, nor what uninstall needs.
    let store = Store::open(node)?;
    if is_left() || programs::gate_is_called(node, processes) {
        return Ok(false);
    }
    let entries = engines::ALL.iter().any(|installer| programs::has_entries(node, installer.engine));
    let mut swept = false;
    if manifest(node, units::NAME)?.is_some() {
        let complaints = units::disable(node);
        let (mut done, errors) = store.undo(units::NAME, strip_whole, false);
        // They are ours as a whole, so one that is still there was changed by somebody.
        let is_somebodys = |path: &Path| node.read(path).is_ok_and(|bytes| bytes.is_some());
        done.retain(|(path, undone)| {
            let kept = *undone == Undone::AsItWas && is_somebodys(path);
            if kept {
                let (shown, place) = (path.display(), quoted(&node.place(path)));
                let _ = writeln!(
                    out,
                    "  kept {shown}, which was changed since it was installed: `rm {place}` removes it"
                );
            }
            !kept
        });
        tell(&done, out)?;
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        for complaint in complaints.iter().chain(&units::forget(node)) {
            writeln!(out, "  not done: {}", escape(complaint))?;
        }
        swept = true;
    }
    for program in programs::programs(node) {
        writeln!(out, "  removed {}", program.display())?;
        swept = true;
    }
    programs::remove_gate(node)?;
    if !entries {
        programs::remove_rest(node)?;
    }
    drop(store);
    Ok(swept)
}

/// What a sweep would remove.
fn show_sweep(node: &Live, options: &Options<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let goes = |name: &String| options.engine.is_none_or(|engine| engine.name() == name);
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
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    if text.bytes().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", escape(&text).replace('\'', r"'\''"))
    }
}
