//! Files as people and programs write them, made at random: only lines of ours come and go.

use super::*;
use crate::install::engines::containerd::edit::File;

/// A small generator, so that a failure can be repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// A handler, in one of the ways in which TOML can say it.
fn handler(random: &mut Random, plugin: &str, name: &str) -> Vec<String> {
    let binary = random.of(&["'/usr/bin/crun'", "\"crun\"", "\"\"\"runc\"\"\""]);
    let list = random.of(&[
        "['a/*']",
        "[ \"a/*\", 'b' ]",
        "[\n  'a/*', # a\n  'b' # b\n]",
        "[\n    'a/*',\n    # more\n    'b',\n  ]",
        "[]",
        "[ 'pod-security.kubernetes.io/*' ]",
        "['a/*',]",
        "[\n'a'\n,'b' ]",
    ]);
    let table = format!("plugins.{plugin}.containerd.runtimes.{name}");
    let kind = "runtime_type = 'io.containerd.runc.v2'";
    let note = random.of(&["", " # a note", "\t"]);
    let indent = random.of(&["", "  ", "\t"]);
    match random.below(6) {
        0 => vec![format!("[{table}]\n{indent}{kind}{note}")],
        1 => vec![
            format!("{indent}[{table}]{note}\n{indent}  pod_annotations = {list}\n{indent}  {kind}"),
            format!("[{table}.options]{note}\n\n# The runtime.\nBinaryName = {binary}"),
        ],
        2 => {
            let options = format!("[{table}.options]\nBinaryName = {binary}{note}\nSystemdCgroup = true");
            // No header of its own, or one that comes later.
            let is_built_in = name == "runc" && plugin.contains(".cri.v1.");
            let own = (!is_built_in).then(|| format!("[{table}] # [later]\n{kind}"));
            [options].into_iter().chain(own).collect()
        }
        3 => vec![format!(
            "[{table}]\n{kind}\noptions.SystemdCgroup = true{note}\noptions.BinaryName = {binary}"
        )],
        4 => vec![format!(
            "[{table}]\n{kind}\noptions = {{ BinaryName = {binary}, Root = \"\" }}{note}\ncontainer_annotations = {list}"
        )],
        _ => vec![format!(
            "[{table}]\n{kind}\n{}{note}",
            random.of(&["options = {}", "options = { }", "options = {Root=''}"])
        )],
    }
}

/// A configuration file, and the generation of containerd that it is for.
fn file(random: &mut Random) -> (String, Option<Generation>) {
    let old = random.below(2) == 0;
    let (id, version, generation) =
        if old { ("io.containerd.grpc.v1.cri", 2, ONE) } else { ("io.containerd.cri.v1.runtime", 3, TWO) };
    let quoted = [format!("'{id}'"), format!("\"{id}\"")];
    let mut parts = Vec::new();
    for name in ["runc", "crun", "'nvidia'"].iter().take(1 + random.below(3)) {
        let plugin = &quoted[random.below(2)];
        parts.extend(handler(random, plugin, name));
    }
    for other in [
        "[debug]\n  level = \"info\" # ]",
        "# A comment, [not.a.table]\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = '/opt/containerd'",
        "[[stream]]\na = '''\n[x]\n'''\n\n[[stream]]\na = \"\\\" [y]\"",
        "[grpc]",
    ] {
        if random.below(2) == 0 {
            parts.insert(random.below(parts.len() + 1), other.to_owned());
        }
    }
    let plugin = &quoted[random.below(2)];
    match random.below(4) {
        0 => parts.insert(0, format!("[plugins.{plugin}.containerd]\ndefault_runtime_name = \"runc\"")),
        // After the tables in it.
        1 => parts.push(format!("[plugins.{plugin}.containerd]\ndefault_runtime_name = \"runc\"")),
        _ => {}
    }
    let head = random.of(&["# The node's.\n", "", "\n\n", "root = '/r' # here\n"]);
    let mut text = format!(
        "{head}version = {version}\n{}{}",
        random.of(&["", "\n"]),
        parts.join(random.of(&["\n", "\n\n", "\n\n\n"]))
    );
    text += random.of(&["", "\n", "\n\n", "\n# The end.\n", " # the end", "\n# The end"]);
    if random.below(3) == 0 {
        let mixed = random.below(2) == 0;
        let lines: Vec<&str> = text.split('\n').collect();
        let ends = lines.iter().enumerate().map(|(index, line)| {
            let last = index + 1 == lines.len();
            let cr = !last && (!mixed || random.below(2) == 0);
            format!("{line}{}{}", if cr { "\r" } else { "" }, if last { "" } else { "\n" })
        });
        text = ends.collect();
    }
    (format!("{}{text}", random.of(&["", "", "", "\u{feff}"])), generation)
}

/// All that is set, but for what the gate sets.
fn others(text: &str) -> Vec<String> {
    fn walk(value: &toml::Value, key: &str, found: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => {
                table.iter().for_each(|(name, value)| walk(value, &format!("{key}.{name}"), found));
            }
            toml::Value::Array(list) => {
                let kept = |value: &&toml::Value| {
                    value
                        .as_str()
                        .is_none_or(|word| ![POD_ANNOTATIONS, CONTAINER_ANNOTATIONS].contains(&word))
                };
                found.extend(list.iter().filter(kept).map(|value| format!("{key} has {value:?}")));
            }
            _ if key.ends_with(".BinaryName") || key.ends_with(".runtime_type") => {}
            value => found.push(format!("{key} = {value:?}")),
        }
    }
    let mut found = Vec::new();
    let table: toml::Table = text.trim_start_matches('\u{feff}').parse().unwrap();
    walk(&toml::Value::Table(table), "", &mut found);
    found.sort_unstable();
    found
}

#[test]
fn only_lines_of_ours_come_and_go() {
    let mut planned = 0;
    for seed in 1..=600_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (text, generation) = file(&mut random);
        let node = with(&text);
        // What TOML itself forbids.
        if text.trim_start_matches('\u{feff}').parse::<toml::Table>().is_err() {
            continue;
        }
        let plan = plan_on(&node, generation, Method::Runtime)
            .unwrap_or_else(|error| panic!("{seed}: {error}\n{text}"));
        let [change] = plan.changes.as_slice() else { panic!("{seed}: {plan:?}") };
        let after = String::from_utf8(change.after.clone()).unwrap();
        assert_eq!(others(&after), others(&text), "{seed}\n{text}\n---\n{after}");
        // Each line that says nothing of what is ours is there, in its order, with its end.
        let mut lines = after.split_inclusive('\n');
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let is_ours = ["BinaryName", "annotations", "options = {", "'a", "'b", "[ "]
                .iter()
                .any(|part| line.contains(part));
            assert!(is_ours || lines.any(|new| new == line), "{seed}: {line:?}\n{text}\n---\n{after}");
        }
        let again =
            plan_on(&node.clone().after(Engine::Containerd, &plan), generation, Method::Runtime).unwrap();
        assert_eq!(again.changes, [], "{seed}");

        let undone = strip::strip(&stripped(change, &plan, &change.after)).unwrap();
        assert_eq!(String::from_utf8(undone.unwrap()).unwrap(), text, "{seed}: undone\n{after}");
        // And with what somebody added since, at the end or at the beginning.
        let more = "\n[metrics]\naddress = '127.0.0.1:1'\n";
        let end = if after.ends_with('\n') { "" } else { "\n" };
        let now = format!("{after}{end}{more}");
        let undone = strip::strip(&stripped(change, &plan, now.as_bytes())).unwrap().unwrap();
        // Where the last line had no end, ours is as good as theirs.
        let ends = |text: String| if end.is_empty() { text } else { text.replace('\r', "") };
        let undone = ends(String::from_utf8(undone).unwrap());
        assert_eq!(undone, ends(format!("{text}{end}{more}")), "{seed}: undone with more");
        planned += 1;
    }
    assert!(planned > 500, "{planned} files");
}

#[test]
fn a_word_comes_into_a_list_and_leaves_it_again() {
    let rows = [
        ("[]", "[\"w\"]"),
        ("[ ]", "[\"w\" ]"),
        ("['a']", "['a', \"w\"]"),
        ("[ 'a' ]", "[ 'a', \"w\" ]"),
        ("['a',]", "['a', \"w\",]"),
        ("[\n  'a'\n]", "[\n  'a',\n  \"w\"\n]"),
        ("[\n  'a', # one\n]", "[\n  'a', # one\n  \"w\",\n]"),
        ("[\n  'a' # one, two\n]", "[\n  'a', # one, two\n  \"w\"\n]"),
        ("[\r\n\t'a'\r\n]", "[\r\n\t'a',\r\n\t\"w\"\r\n]"),
        ("[\n  'a' ]", "[\n  'a',\n  \"w\" ]"),
        ("[\n  'a'\n  , # one\n]", "[\n  'a'\n  , # one\n  \"w\",\n]"),
        ("[ # none\n]", "[\"w\" # none\n]"),
    ];
    for (before, after) in rows {
        let text = format!("a.b = {before} # the end");
        let mut file = File::parse(Path::new("x"), text.as_bytes()).unwrap();
        file.add(&["a", "b"], &["w".to_owned()]).unwrap();
        assert_eq!(String::from_utf8(file.render()).unwrap(), format!("a.b = {after} # the end"));
        file.take(&["a", "b"], "w").unwrap();
        assert_eq!(String::from_utf8(file.render()).unwrap(), text);
    }
    let rows = [
        ("[\"w\", 'a']", "['a']"),
        ("[\n  \"w\", # ours\n  'a',\n]", "[ # ours\n  'a',\n]"),
        ("['a', \"w\", 'b']", "['a', 'b']"),
        ("['w', 'w']", "[]"),
    ];
    for (before, after) in rows {
        let mut file = File::parse(Path::new("x"), format!("a = {before}").as_bytes()).unwrap();
        file.take(&["a"], "w").unwrap();
        assert_eq!(String::from_utf8(file.render()).unwrap(), format!("a = {after}"));
    }
}
