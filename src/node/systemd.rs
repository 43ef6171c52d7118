//! Reads how systemd starts a service: its unit and drop-ins, as `systemd.unit(5)`, `systemd.service(5)` and
//! `systemd.exec(5)` have it. What cannot be followed is an error, and no guess.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::host::{Node, shown};
use crate::files::FileError;

/// Where units lie; the first that has one wins.
const FOLDERS: [&str; 11] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// What makes a unit inactive for good.
const NOTHING: &str = "/dev/null";

/// Why it is not known how a service is started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file says what this program does not follow.
    #[error("{}: {what}, so it is unknown how the service is started", .path.display())]
    Unclear {
        /// The file.
        path: PathBuf,
        /// What stands there.
        what: String,
    },
}

/// How a service is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The file that has the command.
    pub file: PathBuf,
    /// The command as it stands there, word by word.
    pub written: Vec<String>,
    /// The same with its variables replaced.
    pub command: Vec<String>,
    /// The variables that it is started with.
    pub variables: BTreeMap<String, String>,
    /// Its working directory; `None` where that is a user's home, or not known.
    pub(super) directory: Option<PathBuf>,
    /// Where it sees something else than the node.
    pub(super) covered: Vec<Covered>,
}

/// A place at which a service sees something else than the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Covered {
    at: PathBuf,
    /// What says so, and in which file.
    setting: String,
    file: PathBuf,
}

impl Service {
    /// Whether it starts this program itself, and not a script that does.
    #[must_use]
    pub fn starts(&self, program: &str) -> bool {
        self.command.first().and_then(|word| word.rsplit('/').next()) == Some(program)
    }

    /// The value of an option, the last one if there are several.
    #[must_use]
    pub fn option(&self, names: &[&str]) -> Option<&str> {
        option(self.command.get(1..).unwrap_or_default(), names)
    }

    /// The variable that stands for the whole value of an option: `CONTAINERD_CONFIG` for `--config ${CONTAINERD_CONFIG}`.
    #[must_use]
    pub fn variable_of(&self, names: &[&str]) -> Option<&str> {
        let value = option(self.written.get(1..).unwrap_or_default(), names)?.strip_prefix('$')?;
        Some(value.strip_prefix('{').and_then(|value| value.strip_suffix('}')).unwrap_or(value))
    }

    /// The file that the value of an option names, from the service's working directory; `None` where the option is not
    /// given, or empty.
    pub fn path(&self, names: &[&str]) -> Result<Option<PathBuf>, UnitError> {
        let Some(value) = self.option(names).filter(|value| !value.is_empty()) else { return Ok(None) };
        let directory = self.directory.as_deref().or(value.starts_with('/').then_some(Path::new("/")));
        let what = || format!("it names {value} from a working directory that is not known");
        let directory = directory.ok_or_else(|| unclear(&self.file, what()))?;
        Ok(Some(directory.join(value).components().collect()))
    }

    /// Makes sure that the service sees what the node has at a path, and below it, wherever the links on its way lead.
    pub fn sees(&self, node: &dyn Node, path: &Path) -> Result<(), UnitError> {
        let paths = way(node, path);
        let is_over = |covered: &&Covered| {
            let over = |at: &PathBuf| paths.iter().any(|path| path.starts_with(at) || at.starts_with(path));
            way(node, &covered.at).iter().any(over)
        };
        match self.covered.iter().find(is_over) {
            None => Ok(()),
            Some(Covered { at, setting, file }) => {
                let what = format!("it has {setting}, by which it sees another {}", at.display());
                Err(unclear(file, what))
            }
        }
    }
}

/// A path, and what it becomes as its links are followed one after the other.
fn way(node: &dyn Node, path: &Path) -> Vec<PathBuf> {
    let mut way = vec![path.to_owned()];
    let step = |path: &Path| {
        let above: Vec<&Path> = path.ancestors().collect();
        above.into_iter().rev().find_map(|above| {
            let (target, folder) = (node.link(above)?, above.parent()?);
            let mut next = PathBuf::new();
            // No link is in the folder, so that `..` is the one above.
            for part in folder.join(target).join(path.strip_prefix(above).ok()?).components() {
                match part {
                    Component::CurDir => {}
                    Component::ParentDir => {
                        next.pop();
                    }
                    part => next.push(part),
                }
            }
            Some(next)
        })
    };
    // As many links as Linux follows (MAXSYMLINKS).
    while let Some(next) = way.last().and_then(|last| step(last)).filter(|_| way.len() <= 40) {
        way.push(next);
    }
    way
}

/// The value of an option among words, the last one if there are several: `--config F`, `--config=F`.
#[must_use]
pub fn option<'w>(words: &'w [String], names: &[&str]) -> Option<&'w str> {
    let mut found = None;
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (name, value) =
            word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        if names.contains(&name) {
            found = value.or_else(|| rest.next().map(String::as_str)).or(found);
        }
    }
    found
}

/// Whether there is a unit of this name that can be started.
#[must_use]
pub fn is_there(node: &dyn Node, name: &str) -> bool {
    file_of(node, name).is_ok_and(|found| found.is_some())
}

/// The names of the services that begin with this, of which there is a file. Templates are none.
#[must_use]
pub fn beginning(node: &dyn Node, prefix: &str) -> Vec<String> {
    let all = FOLDERS.iter().flat_map(|folder| node.list(Path::new(folder)));
    let is_its =
        |name: &String| name.starts_with(prefix) && name.ends_with(".service") && !name.contains("@.");
    let names: BTreeSet<String> = all.filter(is_its).filter(|name| is_there(node, name)).collect();
    names.into_iter().collect()
}

/// Whether a unit is started at boot.
#[must_use]
pub fn is_enabled(node: &dyn Node, name: &str) -> bool {
    ["/etc/systemd/system", "/usr/lib/systemd/system"].iter().any(|folder| {
        let is_wanted = |by: &str| node.link(&Path::new(folder).join(by).join(name)).is_some();
        ["multi-user.target.wants", "paths.target.wants"].into_iter().any(is_wanted)
    })
}

/// How a service is started; `None` if there is no such unit, or it is masked.
pub fn service(node: &dyn Node, name: &str) -> Result<Option<Service>, UnitError> {
    service_with(node, name, None)
}

/// The same, as if a file were there: its path and its bytes.
pub fn service_with(
    node: &dyn Node,
    name: &str,
    planned: Option<(&Path, &[u8])>,
) -> Result<Option<Service>, UnitError> {
    let Some(unit) = file_of(node, name)? else { return Ok(None) };
    let mut read = Reading { name, all: BTreeMap::new() };
    for path in [unit].into_iter().chain(drop_ins(node, name, planned.map(|(path, _)| path))) {
        match planned.filter(|(planned, _)| *planned == path) {
            Some((_, bytes)) => read.file(&path, bytes)?,
            None => read.file(&path, &node.read(&path)?.unwrap_or_default())?,
        }
    }
    read.service(node)
}

/// The file of a unit.
fn file_of(node: &dyn Node, name: &str) -> Result<Option<PathBuf>, FileError> {
    for folder in FOLDERS {
        let path = Path::new(folder).join(name);
        if node.link(&path).as_deref() == Some(Path::new(NOTHING)) {
            return Ok(None);
        }
        if let Some(bytes) = node.read(&path)? {
            // An empty file masks a unit, too.
            return Ok((!bytes.is_empty()).then_some(path));
        }
    }
    Ok(None)
}

/// The drop-ins of a unit, in the order in which they count, with one that is planned. One hides another of its name in a
/// later folder.
fn drop_ins(node: &dyn Node, name: &str, planned: Option<&Path>) -> Vec<PathBuf> {
    // foo-bar.service also has those of foo-.service and of service.
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, "service"));
    let prefixes = stem.char_indices().rev().filter(|(at, letter)| *letter == '-' && at + 1 < stem.len());
    let prefixes = prefixes.filter_map(|(at, _)| stem.get(..=at)).map(|prefix| format!("{prefix}.{kind}.d"));
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for of in [format!("{name}.d")].into_iter().chain(prefixes).chain([format!("{kind}.d")]) {
        for folder in FOLDERS.map(|folder| Path::new(folder).join(&of)) {
            let planned = planned.filter(|path| path.parent() == Some(&folder)).and_then(Path::file_name);
            let names = node.list(&folder).into_iter().chain(planned.map(shown));
            for file in names.filter(|file| Path::new(file).extension().is_some_and(|end| end == "conf")) {
                found.entry(file.clone()).or_insert_with(|| folder.join(file));
            }
        }
    }
    let is_masked = |path: &PathBuf| node.link(path).as_deref() == Some(Path::new(NOTHING));
    found.into_values().filter(|path| !is_masked(path)).collect()
}

/// The settings of a service that are followed. Each is a list, which an empty value empties.
const LISTS: [&str; 13] = [
    "ExecStart",
    "Environment",
    "EnvironmentFile",
    "UnsetEnvironment",
    "PassEnvironment",
    "ExecSearchPath",
    "ExtensionImages",
    "ExtensionDirectories",
    "BindPaths",
    "BindReadOnlyPaths",
    "MountImages",
    "TemporaryFileSystem",
    "InaccessiblePaths",
];

/// The same with one value, which is the last.
const VALUES: [&str; 5] = ["WorkingDirectory", "RootDirectory", "RootImage", "ProtectHome", "PrivateTmp"];

/// What has been read so far of a unit.
struct Reading<'a> {
    /// The unit.
    name: &'a str,
    /// What its settings say, and in which file.
    all: BTreeMap<&'static str, Vec<(PathBuf, String)>>,
}

impl Reading<'_> {
    fn file(&mut self, path: &Path, bytes: &[u8]) -> Result<(), UnitError> {
        let text = std::str::from_utf8(bytes).map_err(|_| unclear(path, "it is no UTF-8 text".to_owned()))?;
        let mut section = String::new();
        for line in lines(text) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| section == "Service") else { continue };
            let (key, value) = (key.trim_end(), value.trim());
            let Some(known) = LISTS.iter().chain(&VALUES).find(|known| **known == key) else { continue };
            let said = self.all.entry(known).or_default();
            if value.is_empty() || VALUES.contains(known) {
                said.clear();
            }
            if !value.is_empty() {
                said.push((path.to_owned(), value.to_owned()));
            }
        }
        Ok(())
    }

    /// What a setting says.
    fn said(&self, key: &str) -> &[(PathBuf, String)] {
        self.all.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    fn service(self, node: &dyn Node) -> Result<Option<Service>, UnitError> {
        let (file, line) = match self.said("ExecStart") {
            [] => return Ok(None),
            [one] => one,
            [_, (path, _), ..] => return Err(unclear(path, "it has a second ExecStart=".to_owned())),
        };
        for key in
            ["RootDirectory", "RootImage", "PassEnvironment", "ExtensionImages", "ExtensionDirectories"]
        {
            if let Some((path, _)) = self.said(key).iter().find(|(_, value)| value != "/") {
                return Err(unclear(path, format!("it has {key}=")));
            }
        }
        let mut variables = BTreeMap::new();
        for (path, line) in self.said("Environment") {
            for word in words(path, line)? {
                let Some((name, value)) = word.split_once('=') else { continue };
                variables.insert(name.to_owned(), specifiers(self.name, path, value)?);
            }
        }
        // They go before Environment=, whichever stands first.
        for (path, value) in self.said("EnvironmentFile") {
            variables.extend(environment_file(node, self.name, path, value)?);
        }
        for unset in self.said("UnsetEnvironment").iter().flat_map(|(_, line)| line.split_whitespace()) {
            variables.remove(unset);
        }
        let plain = line.trim_start_matches(['@', '-', ':', '+', '!', '|']);
        let marks = &line[..line.len() - plain.len()];
        let mut written = words(file, plain)?;
        if marks.contains('@') && written.len() > 1 {
            written.remove(1);
        }
        if written.first().is_some_and(|program| !program.starts_with('/'))
            && let Some((path, _)) = self.said("ExecSearchPath").first()
        {
            return Err(unclear(path, "it has ExecSearchPath=".to_owned()));
        }
        let mut command = Vec::new();
        for word in &written {
            let word = specifiers(self.name, file, word)?;
            if marks.contains(':') {
                command.push(word);
            } else {
                expand(file, &word, &variables, &mut command)?;
            }
        }
        let (directory, covered) = (self.directory()?, self.covered()?);
        Ok(Some(Service { file: file.clone(), written, command, variables, directory, covered }))
    }

    /// The working directory, which is `/` where nothing is said.
    fn directory(&self) -> Result<Option<PathBuf>, UnitError> {
        let Some((path, value)) = self.said("WorkingDirectory").first() else { return Ok(Some("/".into())) };
        let directory = specifiers(self.name, path, value.strip_prefix('-').unwrap_or(value))?;
        Ok((directory != "~").then(|| directory.into()))
    }

    /// The places at which the service sees something else than the node.
    fn covered(&self) -> Result<Vec<Covered>, UnitError> {
        let mut all = Vec::new();
        let mut add = |key: &str, (file, value): &(PathBuf, String), at: &str| {
            all.push(Covered { at: at.into(), setting: format!("{key}={value}"), file: file.clone() });
        };
        for key in
            ["BindPaths", "BindReadOnlyPaths", "MountImages", "TemporaryFileSystem", "InaccessiblePaths"]
        {
            for said in self.said(key) {
                for word in words(&said.0, &said.1)? {
                    let word = specifiers(self.name, &said.0, &word)?;
                    let mut parts = word.trim_start_matches(['-', '+']).split(':');
                    let first = parts.next().unwrap_or_default();
                    let is_pair = !matches!(key, "TemporaryFileSystem" | "InaccessiblePaths");
                    let second = parts.next().filter(|path| is_pair && !path.is_empty());
                    // One that is bound to where it is changes nothing.
                    if !key.starts_with("Bind") || second.is_some_and(|second| second != first) {
                        add(key, said, second.unwrap_or(first));
                    }
                }
            }
        }
        for (key, folders) in
            [("ProtectHome", &["/home", "/root", "/run/user"][..]), ("PrivateTmp", &["/tmp", "/var/tmp"])]
        {
            let is_off = |value: &str| {
                let off = ["0", "no", "n", "false", "f", "off", "read-only"];
                off.iter().any(|off| value.eq_ignore_ascii_case(off))
            };
            for said in self.said(key).iter().filter(|(_, value)| !is_off(value)) {
                for folder in folders {
                    add(key, said, folder);
                }
            }
        }
        Ok(all)
    }
}

pub(super) fn unclear(path: &Path, what: String) -> UnitError {
    UnitError::Unclear { path: path.to_owned(), what }
}

/// The lines of a unit that count, without what is blank at their ends. A backslash at the end of a line joins it with the
/// next one that is no comment.
fn lines(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) || (line.is_empty() && !goes_on) {
            continue;
        }
        let (line, more) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
        match all.last_mut().filter(|_| goes_on) {
            Some(before) => {
                before.push(' ');
                before.push_str(line);
            }
            None => all.push(line.to_owned()),
        }
        goes_on = more;
    }
    all
}

/// Splits a line into words, as systemd does with quotes and C's escapes.
pub(super) fn words(path: &Path, line: &str) -> Result<Vec<String>, UnitError> {
    let (mut all, mut word): (Vec<String>, Option<String>) = (Vec::new(), None);
    let (mut quote, mut letters) = (None, line.chars());
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', _) => {
                let escaped = match letters.next() {
                    Some('s') => ' ',
                    Some('t') => '\t',
                    Some('n') => '\n',
                    Some(plain @ ('\\' | '"' | '\'')) => plain,
                    Some('x') => hexadecimal(&mut letters)
                        .ok_or_else(|| unclear(path, "it has the escape \\x".to_owned()))?,
                    other => {
                        let shown = other.map(String::from).unwrap_or_default();
                        return Err(unclear(path, format!("it has the escape \\{shown}")));
                    }
                };
                word.get_or_insert_default().push(escaped);
            }
            (_, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (_, None) if letter.is_whitespace() => all.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(unclear(path, "a quote is not closed".to_owned()));
    }
    all.extend(word);
    Ok(all)
}

/// The letter of ASCII that two digits stand for.
fn hexadecimal(letters: &mut std::str::Chars<'_>) -> Option<char> {
    let digits: String = letters.by_ref().take(2).collect();
    u8::from_str_radix(&digits, 16).ok().filter(|byte| byte.is_ascii() && *byte != 0).map(char::from)
}

/// Replaces `%%`, the name of the unit, and the folders that every system has. Other specifiers depend on the machine.
fn specifiers(name: &str, path: &Path, word: &str) -> Result<String, UnitError> {
    let (mut done, mut letters) = (String::new(), word.chars());
    while let Some(letter) = letters.next() {
        match (letter, (letter == '%').then(|| letters.next()).flatten()) {
            ('%', Some('%')) => done.push('%'),
            ('%', Some('n')) => done.push_str(name),
            ('%', Some('N' | 'p')) => done.push_str(name.rsplit_once('.').map_or(name, |(stem, _)| stem)),
            ('%', Some('E')) => done.push_str("/etc"),
            ('%', Some('t')) => done.push_str("/run"),
            ('%', Some('S')) => done.push_str("/var/lib"),
            ('%', Some('C')) => done.push_str("/var/cache"),
            ('%', Some('L')) => done.push_str("/var/log"),
            ('%', _) => return Err(unclear(path, format!("{word:?} has a specifier"))),
            _ => done.push(letter),
        }
    }
    Ok(done)
}

/// Replaces the variables of a word: `${A}` anywhere, and `$A` as a word of its own, which is split into words.
fn expand(
    path: &Path,
    word: &str,
    variables: &BTreeMap<String, String>,
    into: &mut Vec<String>,
) -> Result<(), UnitError> {
    let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    if let Some(name) = word.strip_prefix('$').filter(|name| is_name(name)) {
        into.extend(value(name).split_whitespace().map(str::to_owned));
        return Ok(());
    }
    let (mut done, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            if !is_name(name) {
                return Err(unclear(path, format!("{word:?} has a variable that cannot be followed")));
            }
            done.push_str(value(name));
            rest = after;
        } else {
            done.push('$');
            rest = after;
        }
    }
    done.push_str(rest);
    into.push(done);
    Ok(())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The variables of a file that `EnvironmentFile=` names. A `-` before the name says that it need not be there.
fn environment_file(
    node: &dyn Node,
    service: &str,
    unit: &Path,
    value: &str,
) -> Result<BTreeMap<String, String>, UnitError> {
    let (name, optional) = value.strip_prefix('-').map_or((value, false), |name| (name, true));
    let path = PathBuf::from(specifiers(service, unit, name)?);
    if name.contains(['*', '?', '[']) || !path.is_absolute() {
        return Err(unclear(unit, format!("it has EnvironmentFile={value}")));
    }
    let Some(bytes) = node.read(&path)? else {
        return if optional {
            Ok(BTreeMap::new())
        } else {
            Err(unclear(unit, format!("it has EnvironmentFile={value}, and there is no such file")))
        };
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| unclear(&path, "it is no UTF-8 text".to_owned()))?;
    let mut variables = BTreeMap::new();
    for line in lines(text) {
        if let Some((name, value)) = line.split_once('=') {
            variables.insert(name.trim().to_owned(), words(&path, value)?.join(" "));
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    use super::{is_there, service, service_with};
    use crate::node::host::fake::Fake;

    const UNIT: &str = "/usr/lib/systemd/system/containerd.service";
    const CONFIG: &[&str] = &["--config", "-c"];

    fn unit(text: &str) -> Fake {
        Fake::default().file(UNIT, text)
    }

    #[test]
    fn a_service_is_started_as_its_unit_and_drop_ins_say() {
        let plain = "[Unit]\nExecStart=/no\n[Service]\nExecStart=/usr/bin/containerd\n";
        let flatcar = "[Service]\nEnvironment=CONTAINERD_CONFIG=/usr/share/containerd/config.toml\n\
                       ExecStart=/usr/bin/containerd --config ${CONTAINERD_CONFIG}\n";
        let ours = "[Service]\nEnvironment=CONTAINERD_CONFIG=/etc/containerd/config.toml\n";
        let drop_in = |folder: &str, name: &str, text: &str| {
            let path = format!("{folder}/containerd.service.d/{name}.conf");
            unit(flatcar).file(&path, text)
        };
        let (etc, run, usr) = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system");
        let reset = "[Service]\nExecStart=\nExecStart=-/opt/containerd -c '/a b' \\\n# no\n --x\n";
        let masked = |mut node: Fake, path: &str| {
            node.links.insert(path.into(), "/dev/null".into());
            node
        };
        // The node; the configuration that is named, and the variable that does so.
        let rows: Vec<(Fake, Option<&str>, Option<&str>)> = vec![
            (unit(plain), None, None),
            (unit(flatcar), Some("/usr/share/containerd/config.toml"), Some("CONTAINERD_CONFIG")),
            (drop_in(etc, "10-a", ours), Some("/etc/containerd/config.toml"), Some("CONTAINERD_CONFIG")),
            (drop_in(run, "10-a", ours), Some("/etc/containerd/config.toml"), Some("CONTAINERD_CONFIG")),
            // Of one name the first folder's counts; of several the last name.
            (
                drop_in(usr, "10-a", ours).file(
                    "/etc/systemd/system/containerd.service.d/10-a.conf",
                    "[Service]\nEnvironment=CONTAINERD_CONFIG=/c\n",
                ),
                Some("/c"),
                Some("CONTAINERD_CONFIG"),
            ),
            (
                drop_in(etc, "20-b", ours).file(
                    "/usr/lib/systemd/system/containerd.service.d/30-a.conf",
                    "[Service]\nEnvironment=\"CONTAINERD_CONFIG=/last one\"\n",
                ),
                Some("/last one"),
                Some("CONTAINERD_CONFIG"),
            ),
            (
                masked(drop_in(usr, "10-a", ours), "/usr/lib/systemd/system/containerd.service.d/10-a.conf"),
                Some("/usr/share/containerd/config.toml"),
                Some("CONTAINERD_CONFIG"),
            ),
            (drop_in(etc, "10-a", reset), Some("/a b"), None),
            (drop_in(etc, "10-a", "[Service]\nEnvironment=\n"), Some(""), Some("CONTAINERD_CONFIG")),
            (
                drop_in(etc, "10-a", "[Service]\nEnvironmentFile=-/etc/default/x\nEnvironmentFile=/etc/%N\n")
                    .file("/etc/containerd", "# A=b\nexport=1\nCONTAINERD_CONFIG=\"/from y\"\n"),
                Some("/from y"),
                Some("CONTAINERD_CONFIG"),
            ),
            (
                drop_in(etc, "10-a", "[Service]\nUnsetEnvironment=CONTAINERD_CONFIG\n"),
                Some(""),
                Some("CONTAINERD_CONFIG"),
            ),
            (
                unit(
                    "[Service]\nEnvironment=A=--config B=/x\nExecStart=@/usr/bin/containerd me $A ${B}/$$c\n",
                ),
                Some("/x/$c"),
                None,
            ),
            (
                unit(
                    "[Service]\nEnvironment='OPTIONS=--log-level debug --config=/d'\nExecStart=/usr/bin/containerd $OPTIONS\n",
                ),
                Some("/d"),
                None,
            ),
            (unit(plain).file("/etc/systemd/system/service.d/a.conf", reset), Some("/a b"), None),
            (unit("[Service]\nExecStart=/x -c /a\\x20b%%/%n\n"), Some("/a b%/containerd.service"), None),
        ];
        for (node, config, variable) in rows {
            let found = service(&node, "containerd.service").unwrap().unwrap();
            assert_eq!(found.option(CONFIG), config, "{node:?}");
            assert_eq!(found.variable_of(CONFIG), variable, "{node:?}");
        }
        for node in [
            Fake::default(),
            unit(""),
            unit("[Service]\n"),
            masked(unit(plain), "/etc/systemd/system/containerd.service"),
        ] {
            assert_eq!(service(&node, "containerd.service").unwrap(), None, "{node:?}");
        }
        // The unit in `/etc` stands for the one below it, and for its folder of drop-ins it does not.
        let node = unit(flatcar).file("/etc/systemd/system/containerd.service", plain);
        assert_eq!(service(&node, "containerd.service").unwrap().unwrap().option(CONFIG), None);
        assert!(is_there(&node, "containerd.service") && !is_there(&node, "k3s.service"));
    }

    #[test]
    fn what_cannot_be_followed_is_no_guess() {
        for (text, what) in [
            ("ExecStart=/a\nExecStart=/b", "a second ExecStart="),
            ("ExecStart=/a --config /x/%i", "a specifier"),
            ("ExecStart=/a --config \"/x", "a quote is not closed"),
            (r"ExecStart=/a --config /\xff", r"the escape \x"),
            (r"ExecStart=/a --config /\u0041", r"the escape \u"),
            ("RootDirectory=/srv\nExecStart=/a", "RootDirectory="),
            ("RootDirectory=/\nRootImage=/x.raw\nExecStart=/a", "RootImage="),
            ("ExtensionImages=/x.raw\nExecStart=/a", "ExtensionImages="),
            ("ExecSearchPath=/opt\nExecStart=containerd", "ExecSearchPath="),
            ("EnvironmentFile=/etc/none\nExecStart=/a", "there is no such file"),
            ("EnvironmentFile=/etc/*.env\nExecStart=/a", "EnvironmentFile=/etc/*.env"),
            ("ExecStart=/a --config ${A:-b}", "a variable that cannot be followed"),
        ] {
            let node = unit(&format!("[Service]\n{text}\n"));
            let says = service(&node, "containerd.service").unwrap_err().to_string();
            assert!(says.starts_with(UNIT) && says.contains(what), "{text}: {says}");
        }
        let mut odd = unit("[Service]\nExecStart=/a\n");
        let name = std::ffi::OsStr::from_bytes(b"/etc/systemd/system/containerd.service.d/\xff.conf");
        odd.files.insert(name.into(), b"[Service]\nExecStart=\n".to_vec());
        let says = crate::message::line(&service(&odd, "containerd.service").unwrap_err());
        assert!(says.contains("its name is not UTF-8"), "{says}");
        let mut node = unit("[Service]\n");
        node.files.insert(UNIT.into(), vec![0xff]);
        assert!(service(&node, "containerd.service").unwrap_err().to_string().contains("UTF-8"));
        assert_eq!(super::drop_ins(&node, "k3s-agent.service", None), Vec::<&Path>::new());
    }

    #[test]
    fn a_relative_path_is_from_the_working_directory() {
        let late = "/etc/systemd/system/containerd.service.d/9.conf";
        for (text, drop_in, expected) in [
            ("ExecStart=/a --config /etc/c.toml", "", Ok("/etc/c.toml")),
            ("ExecStart=/a --config srv/c.toml", "", Ok("/srv/c.toml")),
            ("WorkingDirectory=/srv\nExecStart=/a -c=./c.toml", "", Ok("/srv/c.toml")),
            ("WorkingDirectory=-/srv/%N\nExecStart=/a -c c.toml", "", Ok("/srv/containerd/c.toml")),
            ("WorkingDirectory=/srv\nExecStart=/a -c c.toml", "WorkingDirectory=/opt", Ok("/opt/c.toml")),
            ("WorkingDirectory=/srv\nExecStart=/a -c c.toml", "WorkingDirectory=", Ok("/c.toml")),
            ("WorkingDirectory=~\nExecStart=/a -c /c.toml", "", Ok("/c.toml")),
            (
                "WorkingDirectory=~\nExecStart=/a -c c.toml",
                "",
                Err("it names c.toml from a working directory that is not known"),
            ),
        ] {
            let node = unit(&format!("[Service]\n{text}\n")).file(late, &format!("[Service]\n{drop_in}\n"));
            let found = service(&node, "containerd.service").unwrap().unwrap().path(CONFIG);
            match (found, expected) {
                (Ok(found), expected) => assert_eq!(found.as_deref(), expected.ok().map(Path::new), "{text}"),
                (Err(error), Err(what)) => assert!(error.to_string().contains(what), "{text}: {error}"),
                (Err(error), Ok(_)) => panic!("{text}: {error}"),
            }
        }
        for text in ["ExecStart=/a", "ExecStart=/a --config ${NONE}"] {
            let node = unit(&format!("[Service]\n{text}\n"));
            assert_eq!(service(&node, "containerd.service").unwrap().unwrap().path(CONFIG).unwrap(), None);
        }
    }

    #[test]
    fn what_is_mounted_over_a_place_hides_what_the_node_has_there() {
        // The setting; the paths that the service sees as the node has them, and those that it does not.
        let rows: [(&str, &[&str], &[&str]); 16] = [
            ("", &["/etc/containerd", "/usr/bin/runc"], &[]),
            (
                "BindReadOnlyPaths=/srv/c.toml:/etc/containerd/config.toml",
                &["/usr", "/srv"],
                &["/etc/containerd", "/etc/containerd/config.toml"],
            ),
            (
                "BindPaths=-/srv:/etc:rbind '/a b:/opt/x y'",
                &["/srv", "/opt/x"],
                &["/etc/containerd", "/opt/x y/z"],
            ),
            ("BindPaths=/srv:/etc\nBindPaths=", &["/etc/containerd"], &[]),
            ("BindPaths=/etc/containerd /etc/cni:/etc/cni:norbind", &["/etc/containerd", "/etc/cni"], &[]),
            ("BindPaths=%t/x:%E/containerd", &["/etc/cni"], &["/etc/containerd"]),
            ("MountImages=/srv/image.raw:/etc", &["/usr"], &["/etc/containerd"]),
            ("TemporaryFileSystem=/etc:ro /var", &["/usr"], &["/etc/containerd", "/var/lib/pss-guard"]),
            (
                "InaccessiblePaths=-/etc/containerd +/x",
                &["/etc/cni"],
                &["/etc/containerd/config.toml", "/x/y"],
            ),
            ("ProtectHome=tmpfs", &["/etc"], &["/root/c.toml", "/home"]),
            ("ProtectHome=read-only\nPrivateTmp=no", &["/root/c.toml", "/tmp/c.toml"], &[]),
            ("PrivateTmp=yes", &["/etc"], &["/tmp/c.toml"]),
            ("RootDirectory=/", &["/etc"], &[]),
            // `/etc/linked` leads to `/srv/a`, and that to `/opt/b`.
            ("BindPaths=/x:/opt/b/c", &["/etc/containerd"], &["/etc/linked", "/srv/a/c/d"]),
            ("BindPaths=/x:/etc/linked", &["/etc/containerd"], &["/srv/a/c.toml", "/opt/b"]),
            ("RootDirectory=/srv\nRootDirectory=", &["/etc"], &[]),
        ];
        for (setting, seen, hidden) in rows {
            let mut node = unit(&format!("[Service]\nExecStart=/a\n{setting}\n"));
            node.links.insert("/etc/linked".into(), "../srv/./a".into());
            node.links.insert("/srv/a".into(), "/opt/b".into());
            let service = service(&node, "containerd.service").unwrap().unwrap();
            for path in seen {
                service.sees(&node, Path::new(path)).unwrap_or_else(|error| panic!("{setting}: {error}"));
            }
            for path in hidden {
                let says = service.sees(&node, Path::new(path)).expect_err(setting).to_string();
                let key = setting.split('=').next().unwrap();
                assert!(says.starts_with(&format!("{UNIT}: it has {key}=")), "{setting}, {path}: {says}");
            }
        }
    }

    #[test]
    fn a_planned_drop_in_has_its_place_among_the_others() {
        let folder = "/etc/systemd/system/containerd.service.d";
        let text = "[Service]\nEnvironment=C=/unit\nExecStart=/a -c ${C}\n";
        let says = |file: &str| format!("[Service]\nEnvironment=C=/{file}\n");
        let planned = format!("{folder}/10-ours.conf");
        for (there, expected) in
            [("05-x.conf", "/ours"), ("20-x.conf", "/20-x.conf"), ("10-ours.conf", "/ours")]
        {
            let node = unit(text).file(&format!("{folder}/{there}"), &says(there));
            let ours = says("ours");
            let found =
                service_with(&node, "containerd.service", Some((Path::new(&planned), ours.as_bytes())));
            assert_eq!(found.unwrap().unwrap().option(CONFIG), Some(expected), "{there}");
        }
    }

    #[test]
    fn names_with_dashes_share_drop_ins() {
        let node = Fake::default()
            .file("/etc/systemd/system/k3s-.service.d/b.conf", "")
            .file("/etc/systemd/system/k3s-agent.service.d/a.conf", "")
            .file("/usr/lib/systemd/system/service.d/a.conf", "")
            .file("/usr/lib/systemd/system/service.d/c.txt", "");
        let found = super::drop_ins(&node, "k3s-agent.service", None);
        let names =
            ["/etc/systemd/system/k3s-agent.service.d/a.conf", "/etc/systemd/system/k3s-.service.d/b.conf"];
        assert_eq!(found, names.map(Path::new));
    }
}
