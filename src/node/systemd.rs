//! Reads how systemd starts a service: its unit and drop-ins, as `systemd.unit(5)`, `systemd.service(5)` and
//! `systemd.exec(5)` have it. What cannot be followed is an error, and no guess.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::host::Node;
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
}

impl Service {
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
    let Some(unit) = file_of(node, name)? else { return Ok(None) };
    let mut read = Reading { name, ..Reading::default() };
    for path in [unit].into_iter().chain(drop_ins(node, name)) {
        let bytes = node.read(&path)?.unwrap_or_default();
        read.file(&path, &bytes)?;
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

/// The drop-ins of a unit, in the order in which they count. One hides another of its name in a later folder.
fn drop_ins(node: &dyn Node, name: &str) -> Vec<PathBuf> {
    // foo-bar.service also has those of foo-.service and of service.
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, "service"));
    let prefixes = stem.char_indices().rev().filter(|(at, letter)| *letter == '-' && at + 1 < stem.len());
    let prefixes = prefixes.filter_map(|(at, _)| stem.get(..=at)).map(|prefix| format!("{prefix}.{kind}.d"));
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for of in [format!("{name}.d")].into_iter().chain(prefixes).chain([format!("{kind}.d")]) {
        for folder in FOLDERS.map(|folder| Path::new(folder).join(&of)) {
            for file in node
                .list(&folder)
                .into_iter()
                .filter(|file| Path::new(file).extension().is_some_and(|end| end == "conf"))
            {
                found.entry(file.clone()).or_insert_with(|| folder.join(file));
            }
        }
    }
    let is_masked = |path: &PathBuf| node.link(path).as_deref() == Some(Path::new(NOTHING));
    found.into_values().filter(|path| !is_masked(path)).collect()
}

/// What has been read so far of a unit.
#[derive(Debug, Default)]
struct Reading<'a> {
    /// The unit.
    name: &'a str,
    commands: Vec<(PathBuf, String)>,
    environment: Vec<(PathBuf, String)>,
    files: Vec<(PathBuf, String)>,
    unset: Vec<String>,
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
            let list = match key {
                "ExecStart" => &mut self.commands,
                "Environment" => &mut self.environment,
                "EnvironmentFile" => &mut self.files,
                "UnsetEnvironment" => {
                    self.unset.extend(value.split_whitespace().map(str::to_owned));
                    continue;
                }
                "RootDirectory" | "RootImage" | "PassEnvironment" if !value.is_empty() => {
                    return Err(unclear(path, format!("it has {key}=")));
                }
                _ => continue,
            };
            if value.is_empty() {
                list.clear();
            } else {
                list.push((path.to_owned(), value.to_owned()));
            }
        }
        Ok(())
    }

    fn service(self, node: &dyn Node) -> Result<Option<Service>, UnitError> {
        let (file, line) = match &self.commands[..] {
            [] => return Ok(None),
            [one] => one,
            [_, (path, _), ..] => return Err(unclear(path, "it has a second ExecStart=".to_owned())),
        };
        let mut variables = BTreeMap::new();
        for (path, line) in &self.environment {
            for word in words(path, line)? {
                let Some((name, value)) = word.split_once('=') else { continue };
                variables.insert(name.to_owned(), specifiers(self.name, path, value)?);
            }
        }
        // They go before Environment=, whichever stands first.
        for (path, value) in &self.files {
            variables.extend(environment_file(node, self.name, path, value)?);
        }
        for unset in &self.unset {
            variables.remove(unset);
        }
        let plain = line.trim_start_matches(['@', '-', ':', '+', '!', '|']);
        let marks = &line[..line.len() - plain.len()];
        let mut written = words(file, plain)?;
        if marks.contains('@') && written.len() > 1 {
            written.remove(1);
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
        Ok(Some(Service { file: file.clone(), written, command, variables }))
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

/// Replaces `%%` and the name of the unit. Other specifiers depend on the machine.
fn specifiers(name: &str, path: &Path, word: &str) -> Result<String, UnitError> {
    let (mut done, mut letters) = (String::new(), word.chars());
    while let Some(letter) = letters.next() {
        match (letter, (letter == '%').then(|| letters.next()).flatten()) {
            ('%', Some('%')) => done.push('%'),
            ('%', Some('n')) => done.push_str(name),
            ('%', Some('N' | 'p')) => done.push_str(name.rsplit_once('.').map_or(name, |(stem, _)| stem)),
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
    use std::path::Path;

    use super::{is_there, service};
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
            ("EnvironmentFile=/etc/none\nExecStart=/a", "there is no such file"),
            ("EnvironmentFile=/etc/*.env\nExecStart=/a", "EnvironmentFile=/etc/*.env"),
            ("ExecStart=/a --config ${A:-b}", "a variable that cannot be followed"),
        ] {
            let node = unit(&format!("[Service]\n{text}\n"));
            let says = service(&node, "containerd.service").unwrap_err().to_string();
            assert!(says.starts_with(UNIT) && says.contains(what), "{text}: {says}");
        }
        let mut node = unit("[Service]\n");
        node.files.insert(UNIT.into(), vec![0xff]);
        assert!(service(&node, "containerd.service").unwrap_err().to_string().contains("UTF-8"));
        assert_eq!(super::drop_ins(&node, "k3s-agent.service"), Vec::<&Path>::new());
    }

    #[test]
    fn names_with_dashes_share_drop_ins() {
        let node = Fake::default()
            .file("/etc/systemd/system/k3s-.service.d/b.conf", "")
            .file("/etc/systemd/system/k3s-agent.service.d/a.conf", "")
            .file("/usr/lib/systemd/system/service.d/a.conf", "")
            .file("/usr/lib/systemd/system/service.d/c.txt", "");
        let found = super::drop_ins(&node, "k3s-agent.service");
        let names =
            ["/etc/systemd/system/k3s-agent.service.d/a.conf", "/etc/systemd/system/k3s-.service.d/b.conf"];
        assert_eq!(found, names.map(Path::new));
    }
}
