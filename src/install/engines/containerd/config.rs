//! Reads containerd's configuration: its handlers, and which of its files defines them.
//!
//! What is written here of containerd was seen in its source (up to 2.3.4) and by `containerd config dump` of 1.6, 1.7 and
//! 2.1:
//!
//! - Files are read in a queue: the main file, what it imports in its order, what those import. A pattern's files come
//!   in the order of their names; a file comes once.
//! - containerd 1 takes the table of a plugin whole from the last file that has it, and a `runtimes` table there
//!   replaces the built-in one. containerd 2 merges key by key, the last file that has a key wins, and the built-in
//!   handler `runc` is always there.
//! - The table of the CRI plugin has another name in each version of the format. containerd 2 copies the handlers of the
//!   name of version 2 only if no table of the name of version 3 has any (`migrateConfig` in
//!   `plugins/cri/runtime/plugin.go`), whatever `version` says: AKS writes `version = 2` with tables of version 3.
//! - Where the two names are in different files, releases differ: up to 2.2 the files are merged and then migrated, since
//!   2.3 each file is migrated first, and a drop-in may not have a higher version than the main file.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Component, Path, PathBuf};

use super::edit::{File, name};
use super::spelling;
use crate::install::{Change, PlanError};
use crate::node::host::Node;

/// Which rules of merging hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// containerd 1.
    One,
    /// containerd 2 and later.
    Two,
}

/// The file that this program adds where containerd reads a folder of them.
pub(super) const DROP_IN: &str = "99-pss-guard.toml";

/// What stands at the head of a file that this program adds.
pub(super) const HEADER: &str = "# Written by `pss-guard install`, taken away by `pss-guard uninstall`.\n";

/// The shim that calls runc.
pub(super) const SHIM: &str = "io.containerd.runc.v2";

/// What MicroK8s writes for runc's shim into its template, and replaces at every start.
pub(super) const RUNTIME_TYPE: &str = "${RUNTIME_TYPE}";

/// The same for the default handler.
pub(super) const RUNTIME: &str = "${RUNTIME}";

/// The names of the CRI plugin's table, and of containerd's own.
pub(super) const PLUGINS: [&str; 3] = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];

/// More files than anybody has; an end for patterns that match a whole disk.
const MOST_FILES: usize = 256;

/// All files of a configuration.
#[derive(Debug)]
pub(super) struct Config {
    /// In the order in which containerd reads them.
    pub(super) files: Vec<Layer>,
    /// The name of the CRI plugin's table.
    plugin: &'static str,
    generation: Option<Generation>,
    /// Whether the built-in handler `runc` is there although no file says so.
    builtin: bool,
}

/// One file of a configuration.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) file: File,
    /// Its bytes now; `None` where there is no such file.
    pub(super) before: Option<Vec<u8>>,
    /// What containerd reads of it now: nothing where there is no such file, or the file that this is to be a copy of.
    pub(super) now: Option<Vec<u8>>,
    /// Whether its table of the CRI plugin counts.
    counts: bool,
    /// Whether its distribution writes it at every start, so that no change stays.
    is_closed: bool,
}

/// Where the configuration is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// The main file, which is edited.
    pub(super) main: &'a Path,
    /// Where its text comes from, if it is to be a new copy of a file that cannot be written.
    pub(super) copy_of: Option<&'a Path>,
    /// The distribution that writes the main file at every start, so that only a drop-in stays.
    pub(super) only_drop_in: Option<&'static str>,
    /// Whether that distribution watches the folder of the drop-ins (k0s).
    pub(super) restarts: bool,
}

impl<'a> Source<'a> {
    /// A file that is edited.
    pub(super) fn edit(main: &'a Path) -> Self {
        Self { main, copy_of: None, only_drop_in: None, restarts: false }
    }
}

/// A handler, as containerd sees it in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handler {
    pub(super) name: String,
    /// Where its table is, from the top of the file.
    at: Vec<String>,
    pub(super) kind: String,
    pub(super) shim: String,
    pub(super) binary: String,
    pub(super) spec: String,
    pub(super) pod_annotations: Vec<String>,
    pub(super) container_annotations: Vec<String>,
}

impl Config {
    /// Reads the main file and all that it imports.
    pub(super) fn load(
        node: &dyn Node,
        source: &Source<'_>,
        generation: Option<Generation>,
    ) -> Result<Self, PlanError> {
        let main = source.main;
        let mut files = read_all(node, source, generation, None)?;
        let generation = generation.or_else(|| files.iter().find_map(|layer| proof(&layer.file)));
        let drop_in = match generation {
            Some(Generation::Two) => place_for_drop_in(&files)?,
            _ => None,
        };
        if let Some(drop_in) = &drop_in
            && files.iter().all(|layer| layer.file.path() != drop_in)
        {
            files = read_all(node, source, generation, Some(drop_in))?;
        }
        let version = version(&files, generation)?;
        if let Some(name) = source.only_drop_in {
            refuse_without_drop_in(
                main,
                name,
                source.restarts,
                &files,
                generation,
                &version,
                drop_in.is_some(),
            )?;
        }
        for layer in &mut files {
            let unversioned = layer.file.version()?.is_none();
            let is_main = layer.file.path() == main && source.only_drop_in.is_none();
            if unversioned && ((is_main && version.is_new) || layer.is_missing()) {
                layer.file.set(&["version"], version.number)?;
            }
        }
        let plugin = plugin(&files, generation, &version)?;
        let has_plugin = |layer: &Layer| layer.file.get(&["plugins", plugin]).is_some();
        let owners = files.iter().filter(|layer| has_plugin(layer)).count();
        if generation.is_none() && owners > 1 {
            return Err(PlanError::Unsupported {
                what: format!(
                    "several of the files that {} reads have a table {}, and only the version of containerd says \
                    how they are merged, which is unknown here",
                    main.display(),
                    name(&["plugins", plugin])
                ),
                instead: "run this on the node itself, with its containerd in place".to_owned(),
            });
        }
        let last = files.iter().rposition(has_plugin);
        for (index, layer) in files.iter_mut().enumerate() {
            layer.counts = generation == Some(Generation::Two) || last.is_none_or(|last| last == index);
        }
        let mut config = Self { files, plugin, generation, builtin: true };
        if source.only_drop_in.is_some() {
            config.files.first_mut().into_iter().for_each(|main| main.is_closed = true);
        }
        if generation == Some(Generation::One) {
            config.builtin = config.last_with(&config.key(&["runtimes"])).is_none();
        }
        config.refuse_if_off()?;
        Ok(config)
    }

    /// All handlers.
    pub(super) fn handlers(&self) -> Result<Vec<Handler>, PlanError> {
        let runtimes = self.key(&["runtimes"]);
        let mut handlers = Vec::new();
        // Two tables of containerd 1, from before there were handlers. One without a type is not there.
        if self.generation != Some(Generation::Two) {
            for (table, name) in [("default_runtime", "default"), ("untrusted_workload_runtime", "untrusted")]
            {
                let handler = self.handler(name, self.key(&[table]))?;
                if !handler.kind.is_empty() {
                    handlers.push(handler);
                }
            }
        }
        let mut names: Vec<String> = if self.builtin { vec!["runc".to_owned()] } else { Vec::new() };
        for layer in self.counting() {
            names.extend(layer.file.keys(&refs(&runtimes))?);
        }
        for name in names {
            if handlers.iter().all(|handler| handler.name != name) {
                let mut at = runtimes.clone();
                at.push(name.clone());
                let mut handler = self.handler(&name, at)?;
                if handler.kind.is_empty() && self.builtin && name == "runc" {
                    SHIM.clone_into(&mut handler.kind);
                }
                handlers.push(handler);
            }
        }
        Ok(handlers)
    }

    fn handler(&self, name: &str, at: Vec<String>) -> Result<Handler, PlanError> {
        let string = |key: &[&str]| -> Result<String, PlanError> {
            let mut keys = refs(&at);
            keys.extend(key);
            let set = self.counting().rev().map(|layer| layer.file.string(&keys));
            Ok(set
                .collect::<Result<Vec<_>, _>>()?
                .into_iter()
                .flatten()
                .next()
                .unwrap_or_default()
                .to_owned())
        };
        let strings = |key: &str| -> Result<Vec<String>, PlanError> {
            let mut keys = refs(&at);
            keys.push(key);
            let set = self.counting().rev().map(|layer| layer.file.strings(&keys));
            Ok(set.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().next().unwrap_or_default())
        };
        let kind = string(&["runtime_type"])?;
        Ok(Handler {
            name: name.to_owned(),
            kind: if kind == RUNTIME_TYPE { SHIM.to_owned() } else { kind },
            shim: string(&["runtime_path"])?,
            binary: string(&["options", "BinaryName"])?,
            spec: string(&["base_runtime_spec"])?,
            pod_annotations: strings("pod_annotations")?,
            container_annotations: strings("container_annotations")?,
            at,
        })
    }

    /// What a handler has below the file that this program added; `None` where there is no such file, or it says
    /// nothing of this key.
    pub(super) fn below(&self, handler: &Handler, key: &[&str]) -> Result<Option<String>, PlanError> {
        let keys = handler.key(key);
        let mut layers = self.counting().rev().skip_while(|layer| layer.file.get(&keys).is_none());
        match layers.next() {
            Some(layer) if layer.file.path().file_name().is_some_and(|name| name == DROP_IN) => {}
            _ => return Ok(None),
        }
        for layer in layers {
            if let Some(value) = layer.file.string(&keys)? {
                return Ok(Some(value.to_owned()));
            }
        }
        Ok(Some(String::new()))
    }

    /// Changes a handler in a file after which none says anything of it.
    pub(super) fn change(
        &mut self,
        handler: &Handler,
        edit: impl FnOnce(&mut File) -> Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        let drop_in = match self.generation {
            Some(Generation::Two) => self.files.iter().rposition(Layer::is_drop_in),
            _ => None,
        };
        let plugin = self.last_with(&["plugins".to_owned(), self.plugin.to_owned()]);
        let index = self.last_with(&handler.at).max(drop_in).or(plugin).unwrap_or(0);
        let Some(layer) = self.files.get_mut(index) else { return Ok(()) };
        layer.refuse_closed()?;
        if layer.file.get(&handler.key(&[])).is_none() {
            layer.file.set(&handler.key(&["runtime_type"]), handler.kind.as_str())?;
        }
        edit(&mut layer.file)
    }

    /// Takes a key away from a handler in the file that has the last word on it.
    pub(super) fn remove(&mut self, handler: &Handler, key: &[&str]) -> Result<(), PlanError> {
        let keys = handler.key(key);
        let mut counting = self.files.iter_mut().rev().filter(|layer| layer.counts);
        if let Some(layer) = counting.find(|layer| layer.file.get(&keys).is_some()) {
            layer.refuse_closed()?;
            layer.file.remove(&keys)?;
        }
        Ok(())
    }

    /// The files that are not as they should be, in containerd's order.
    pub(super) fn changes(self) -> Vec<Change> {
        let changed = self.files.into_iter().filter_map(|layer| {
            let after = layer.file.render();
            let wanted = layer.is_wanted();
            let change = Change { path: layer.file.path().to_owned(), before: layer.before, after };
            (wanted && change.before.as_ref() != Some(&change.after)).then_some(change)
        });
        changed.collect()
    }

    /// What containerd says of itself, which is one file.
    pub(super) fn of_dump(file: File, generation: Option<Generation>) -> Result<Self, PlanError> {
        let plugin = if file.version()?.unwrap_or(1) < 3 { PLUGINS[1] } else { PLUGINS[2] };
        let layer = Layer { file, before: None, now: None, counts: true, is_closed: false };
        Ok(Self { files: vec![layer], plugin, generation, builtin: false })
    }

    /// The handler of containers that name none.
    pub(super) fn default_handler(&self) -> Result<String, PlanError> {
        let keys = self.key(&["default_runtime_name"]);
        let set = self.counting().rev().map(|layer| layer.file.string(&refs(&keys)));
        let named = set.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().find(|name| !name.is_empty());
        Ok(named.filter(|name| *name != RUNTIME).unwrap_or("runc").to_owned())
    }

    /// Whether containerd says the same of its handlers.
    pub(super) fn compare(&self, main: &Path, dump: &str) -> Result<(), PlanError> {
        let differ = |what: String| PlanError::Unsupported {
            what: format!(
                "`containerd --config {} config dump` and the files do not agree: {what}",
                main.display()
            ),
            instead:
                "set what the gate needs by hand, and report it to the authors of pss-guard, with these files"
                    .to_owned(),
        };
        let file = File::parse(Path::new("containerd config dump"), dump.as_bytes())?;
        // containerd 1 takes a relative pattern from the folder it runs in, until 1.6.39 and 1.7.24; it says what it read.
        if self.generation == Some(Generation::One) {
            let read = file.strings(&["imports"])?.unwrap_or_default();
            let read: BTreeSet<_> = read.iter().map(|path| absolute(main, path)).collect();
            let ours: BTreeSet<_> = self.files.iter().map(|layer| layer.file.path().to_owned()).collect();
            if let Some(path) = read.symmetric_difference(&ours).next() {
                return Err(differ(format!("only one of them has {}", path.display())));
            }
        }
        let theirs = Self::of_dump(file, self.generation)?.handlers()?;
        let ours = self.handlers()?;
        if let Some(handler) = theirs.iter().find(|their| ours.iter().all(|our| our.name != their.name)) {
            return Err(differ(format!("only containerd knows the handler {:?}", handler.name)));
        }
        for our in &ours {
            match theirs.iter().find(|their| their.name == our.name) {
                None => return Err(differ(format!("containerd does not know the handler {:?}", our.name))),
                Some(their) if Handler { at: our.at.clone(), ..their.clone() } != *our => {
                    return Err(differ(format!(
                        "the handler {:?} is {} to containerd",
                        our.name,
                        their.describe()
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn refuse_if_off(&self) -> Result<(), PlanError> {
        for layer in &self.files {
            let off = layer.file.strings(&["disabled_plugins"])?.unwrap_or_default();
            let Some(plugin) = off.iter().find(|plugin| PLUGINS.contains(&plugin.as_str())) else { continue };
            return Err(PlanError::Unsupported {
                what: format!(
                    "{} turns the CRI plugin off (disabled_plugins has {plugin:?}), so that the kubelet cannot \
                    start containers with this containerd",
                    layer.file.path().display()
                ),
                instead:
                    "install the gate for the engine that starts them (for docker: --engine docker), or \
                          remove the plugin from disabled_plugins first"
                        .to_owned(),
            });
        }
        Ok(())
    }

    fn counting(&self) -> impl DoubleEndedIterator<Item = &Layer> {
        self.files.iter().filter(|layer| layer.counts)
    }

    fn last_with(&self, keys: &[String]) -> Option<usize> {
        self.files.iter().rposition(|layer| layer.counts && layer.file.get(&refs(keys)).is_some())
    }

    fn key(&self, keys: &[&str]) -> Vec<String> {
        ["plugins", self.plugin, "containerd"].iter().chain(keys).map(ToString::to_string).collect()
    }
}

impl Handler {
    /// A key of its table.
    pub(super) fn key<'a>(&'a self, key: &[&'a str]) -> Vec<&'a str> {
        self.at.iter().map(String::as_str).chain(key.iter().copied()).collect()
    }

    fn describe(&self) -> String {
        format!(
            "runtime_type {:?}, runtime_path {:?}, BinaryName {:?}, base_runtime_spec {:?}, pod_annotations {:?}, \
            container_annotations {:?}",
            self.kind, self.shim, self.binary, self.spec, self.pod_annotations, self.container_annotations
        )
    }
}

impl Layer {
    /// A file of ours in which nothing is set is none.
    pub(super) fn is_wanted(&self) -> bool {
        self.now.is_some() || self.file.get(&["plugins"]).is_some()
    }

    /// Whether containerd has no such file yet.
    pub(super) fn is_missing(&self) -> bool {
        self.now.is_none()
    }

    /// A change to a file that is written at every start would be lost.
    fn refuse_closed(&self) -> Result<(), PlanError> {
        if !self.is_closed {
            return Ok(());
        }
        Err(PlanError::Unsupported {
            what: format!(
                "{} would have to be changed, and is written at every start",
                self.file.path().display()
            ),
            instead: "move what it says of its handlers into files that it imports first".to_owned(),
        })
    }

    fn is_drop_in(&self) -> bool {
        self.file.path().file_name().is_some_and(|name| name == DROP_IN)
    }
}

fn refs(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

/// The version that all files have.
struct Version {
    number: i64,
    /// Whether the main file has yet to be told.
    is_new: bool,
}

fn version(files: &[Layer], generation: Option<Generation>) -> Result<Version, PlanError> {
    let unsupported = |layer: &Layer, what: &str, instead: &str| PlanError::Unsupported {
        what: format!("{} {what}", layer.file.path().display()),
        instead: instead.to_owned(),
    };
    // Then the table that counts has its own name, whatever the version.
    let newer = generation == Some(Generation::Two)
        && files.iter().any(|layer| has_handlers(&layer.file, PLUGINS[2]));
    let mut found: Option<(i64, &Layer)> = None;
    for layer in files {
        let Some(number) = layer.file.version()? else { continue };
        if !(1..=4).contains(&number) || (generation == Some(Generation::One) && number > 2) {
            let what = format!("has version = {number}, which this containerd does not have");
            return Err(unsupported(layer, &what, "write it for the containerd that is installed first"));
        }
        // 3 and 4 call the table alike.
        match found {
            Some((other, first)) if !newer && other.min(3) != number.min(3) => {
                let what = format!(
                    "has version = {number} and {} has version = {other}; containerd ignores parts of such \
                    a mixture silently",
                    first.file.path().display()
                );
                return Err(unsupported(layer, &what, "give all files the version of the main file first"));
            }
            Some(_) => {}
            None => found = Some((number, layer)),
        }
    }
    if let Some((number, layer)) = found {
        if number == 1 && generation == Some(Generation::Two) && !newer {
            return Err(unsupported(layer, FIRST_VERSION, MIGRATE));
        }
        return Ok(Version { number, is_new: false });
    }
    if newer {
        return Ok(Version { number: 3, is_new: false });
    }
    // Without a version it is 1, which matters only to what names plugins.
    let keys = ["plugins", "disabled_plugins", "required_plugins"];
    let named = files.iter().find(|layer| keys.iter().any(|key| layer.file.get(&[key]).is_some()));
    match (named, generation) {
        (Some(layer), Some(Generation::Two)) => Err(unsupported(layer, FIRST_VERSION, MIGRATE)),
        (Some(_), _) => Ok(Version { number: 1, is_new: false }),
        (None, Some(Generation::Two)) => Ok(Version { number: 3, is_new: true }),
        // Both generations understand 2.
        (None, _) => Ok(Version { number: 2, is_new: true }),
    }
}

/// Whether a file has handlers in the table of this name.
fn has_handlers(file: &File, plugin: &str) -> bool {
    file.get(&["plugins", plugin, "containerd", "runtimes"]).is_some()
}

/// Which containerd a file can only be for: containerd 1 does not start with a higher version than 2, and knows no table of
/// version 3.
fn proof(file: &File) -> Option<Generation> {
    let is_new = matches!(file.version(), Ok(Some(3..))) || has_handlers(file, PLUGINS[2]);
    is_new.then_some(Generation::Two)
}

/// The table whose handlers count.
fn plugin(
    files: &[Layer],
    generation: Option<Generation>,
    version: &Version,
) -> Result<&'static str, PlanError> {
    let [first, second, third] = PLUGINS;
    let new = files.iter().find(|layer| has_handlers(&layer.file, third));
    if generation != Some(Generation::Two) || (new.is_none() && version.number < 3) {
        return Ok(if version.number == 1 { first } else { second });
    }
    let is_old = |layer: &&Layer| has_handlers(&layer.file, second) && !has_handlers(&layer.file, third);
    if let Some(old) = files.iter().find(is_old) {
        let other = new.map_or_else(
            || format!("version = {}", version.number),
            |new| format!("{} in {}", name(&["plugins", third]), new.file.path().display()),
        );
        return Err(PlanError::Unsupported {
            what: format!(
                "{} has handlers in {}, beside {other}; containerd 2.3 takes them, and releases before it ignore them",
                old.file.path().display(),
                name(&["plugins", second])
            ),
            instead: format!("move them to {} first", name(&["plugins", third])),
        });
    }
    Ok(third)
}

/// Refuses a distribution's configuration that reads no drop-in of ours, or not as it should.
fn refuse_without_drop_in(
    main: &Path,
    distribution: &str,
    restarts: bool,
    files: &[Layer],
    generation: Option<Generation>,
    version: &Version,
    has_place: bool,
) -> Result<(), PlanError> {
    let unsupported = |what, instead| Err(PlanError::Unsupported { what, instead });
    let main_path = main.display();
    if files.first().is_none_or(Layer::is_missing) {
        return unsupported(
            format!("there is no {main_path} yet, which {distribution} writes when it starts"),
            format!("start {distribution} once, then install"),
        );
    }
    let folder = match (restarts, version.number) {
        (true, _) => "containerd.d",
        (_, 3..) => "config-v3.toml.d",
        _ => "config.toml.d",
    };
    let import = main.with_file_name(folder).join("*.toml");
    let upgrade = || {
        format!(
            "upgrade to a release of {distribution} whose {main_path} imports {} (with a template of your own: let \
             it import them)",
            import.display()
        )
    };
    match generation {
        None => unsupported(
            format!(
                "{main_path} does not say for which containerd it is, and its containerd cannot be asked here"
            ),
            "run this on the node itself, with its containerd in place".to_owned(),
        ),
        Some(Generation::One) => unsupported(
            format!(
                "{distribution} writes {main_path} at every start, and its containerd 1 would take the CRI plugin's \
                 settings from a drop-in alone"
            ),
            upgrade(),
        ),
        Some(Generation::Two) if !has_place => unsupported(
            format!(
                "{distribution} writes {main_path} at every start, and it imports no folder for files of others"
            ),
            upgrade(),
        ),
        // k0s does not start with a drop-in of another version, or with tables of version 2.
        Some(Generation::Two) if restarts && version.number != 3 => unsupported(
            format!(
                "{main_path} has version = {}, and {distribution} takes drop-ins of version 3 alone",
                version.number
            ),
            upgrade(),
        ),
        Some(Generation::Two) => Ok(()),
    }
}

const FIRST_VERSION: &str =
    "has no version, or version = 1, and containerd 2 ignores the CRI plugin's settings in it";
const MIGRATE: &str = "convert it with `containerd config migrate` first, and check the result";

/// The main file and all that it imports, in containerd's order. `extra` is read where it would be if it were there.
fn read_all(
    node: &dyn Node,
    source: &Source<'_>,
    mut generation: Option<Generation>,
    extra: Option<&Path>,
) -> Result<Vec<Layer>, PlanError> {
    let main = source.main;
    let mut files: Vec<Layer> = Vec::new();
    let mut queue = VecDeque::from([(main.to_owned(), main.to_owned())]);
    while let Some((path, importer)) = queue.pop_front() {
        if files.iter().any(|layer| layer.file.path() == path) {
            continue;
        }
        if files.len() >= MOST_FILES {
            return Err(PlanError::Unsupported {
                what: format!("{} imports more than {MOST_FILES} files", main.display()),
                instead: "narrow its patterns first".to_owned(),
            });
        }
        let copied = source.copy_of.filter(|_| path == main);
        let now = node.read(copied.unwrap_or(&path))?;
        let text = match &now {
            Some(bytes) => bytes.as_slice(),
            None if path == main || Some(path.as_path()) == extra => HEADER.as_bytes(),
            None => {
                let cause = format!("it imports {}, and there is no such file", path.display());
                return Err(PlanError::Malformed { path: importer, cause });
            }
        };
        let file = File::parse(&path, text)?;
        spelling::check(&file)?;
        if path == main {
            generation = generation.or_else(|| proof(&file));
        }
        for import in file.strings(&["imports"])?.unwrap_or_default() {
            let pattern = absolute(copied.unwrap_or(&path), &import);
            if copied.is_some() && !import.starts_with('/') {
                return Err(PlanError::Unsupported {
                    what: format!(
                        "{} imports {import:?} from its own folder, and a copy of it would not",
                        copied.unwrap_or(&path).display()
                    ),
                    instead: format!(
                        "make {} with an absolute path in it, and let the unit name it",
                        main.display()
                    ),
                });
            }
            if has_wildcard(&pattern)
                && (import.contains(['[', '\\']) || (generation.is_none() && !import.starts_with('/')))
            {
                return Err(PlanError::Unsupported {
                    what: format!(
                        "{} imports {import:?}, which not every containerd resolves to the same files",
                        path.display()
                    ),
                    instead: "write it as an absolute path with no other wildcard than a star first"
                        .to_owned(),
                });
            }
            let mut found = matches(node, &pattern);
            if let Some(extra) = extra
                && is_match(&pattern, extra)
                && !found.iter().any(|path| path == extra)
            {
                found.push(extra.to_owned());
                found.sort_unstable();
            }
            queue.extend(found.into_iter().map(|found| (found, path.clone())));
        }
        let before = if copied.is_some() { None } else { now.clone() };
        files.push(Layer { file, before, now, counts: false, is_closed: false });
    }
    Ok(files)
}

/// Where a file of ours would be read, if the main file imports a whole folder.
fn place_for_drop_in(files: &[Layer]) -> Result<Option<PathBuf>, PlanError> {
    let Some(main) = files.first() else { return Ok(None) };
    for import in main.file.strings(&["imports"])?.unwrap_or_default() {
        let pattern = absolute(main.file.path(), &import);
        let Some(folder) = pattern.parent() else { continue };
        let place = folder.join(DROP_IN);
        if has_wildcard(&pattern) && !has_wildcard(folder) && is_match(&pattern, &place) {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// An import as containerd takes it: cleaned, and from the folder of the file that has it.
fn absolute(importer: &Path, import: &str) -> PathBuf {
    let joined = importer.parent().unwrap_or(Path::new("/")).join(import);
    let mut clean = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// Only a star makes a pattern of an import.
fn has_wildcard(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b'*')
}

/// The files that an import means, in the order of their names: as Go's `Glob`, which looks for each part from the first
/// with a wildcard on in its folder, and takes what is no folder for an empty one.
pub(super) fn matches(node: &dyn Node, pattern: &Path) -> Vec<PathBuf> {
    if !has_wildcard(pattern) {
        return vec![pattern.to_owned()];
    }
    let mut found = vec![PathBuf::new()];
    let mut is_listed = false;
    for component in pattern.components() {
        let part = component.as_os_str().to_string_lossy();
        is_listed |= part.contains(['*', '?', '[', '\\']);
        found = match component {
            Component::Normal(_) if is_listed => {
                let inside = |folder: PathBuf| {
                    let names = node.list(&folder).into_iter().filter(|name| glob(&part, name));
                    names.map(move |name| folder.join(name)).collect::<Vec<_>>()
                };
                found.into_iter().flat_map(inside).collect()
            }
            _ => found.into_iter().map(|folder| folder.join(component)).collect(),
        };
    }
    found
}

fn is_match(pattern: &Path, path: &Path) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) = (pattern.iter().collect(), path.iter().collect());
    pattern.len() == path.len()
        && pattern.iter().zip(path).all(|(one, other)| glob(&one.to_string_lossy(), &other.to_string_lossy()))
}

/// Go's `path.Match` for one part of a path, without classes of characters.
pub(super) fn glob(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // Behind the last star, and where in the name it was tried last.
    let mut star = None;
    loop {
        let at = name.clone();
        match (pattern.next(), name.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((pattern.clone(), at.clone()));
                name = at;
            }
            (Some(wanted), Some(c)) if wanted == '?' || wanted == c => {}
            _ => {
                let Some((behind, tried)) = &mut star else { return false };
                if tried.next().is_none() {
                    return false;
                }
                (pattern, name) = (behind.clone(), tried.clone());
            }
        }
    }
}
