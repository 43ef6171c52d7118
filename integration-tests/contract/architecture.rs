//! Who may import whom: the rooms of the program, the crates below it, and the tests themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::documents;

/// A room: its name, the files and folders it is made of, and the rooms that it may import.
struct Room {
    name: &'static str,
    places: &'static [&'static str],
    imports: &'static [&'static str],
}

const fn room(name: &'static str, places: &'static [&'static str], imports: &'static [&'static str]) -> Room {
    Room { name, places, imports }
}

/// What every room may stand on: the standard, what the programs agree on, and how an error becomes one line.
const GROUND: [&str; 3] = ["pss", "core", "message"];

/// All rooms, from the ground up. A room imports what is listed, itself, and the ground.
const ROOMS: &[Room] = &[
    room("pss", &["crates/pss/src"], &[]),
    room("core", &["crates/core/src"], &[]),
    // How manifests are read, for the tool and the agent.
    room("documents", &["crates/manifests/src"], &[]),
    // The gate's crate: what runs before a container starts. Its law: no scan, no report, no installer, no command line.
    room("message", &["crates/gate/src/message.rs"], &[]),
    room("finding", &["crates/gate/src/finding.rs"], &[]),
    room("inspect", &["crates/gate/src/inspect"], &[]),
    room("event", &["crates/gate/src/event"], &["inspect"]),
    room("mode in force", &["crates/gate/src/mode"], &["event"]),
    room(
        "gate",
        &[
            "crates/gate/src/lib.rs",
            "crates/gate/src/admit.rs",
            "crates/gate/src/arena.rs",
            "crates/gate/src/compare.rs",
            "crates/gate/src/dispatch.rs",
            "crates/gate/src/handover.rs",
            "crates/gate/src/hook.rs",
            "crates/gate/src/main.rs",
            "crates/gate/src/no_unwind.rs",
            "crates/gate/src/wrapper",
        ],
        &["event", "finding", "inspect", "mode in force"],
    ),
    // The tool.
    room("node", &["src/node"], &["documents"]),
    room("output", &["src/output"], &["finding", "inspect"]),
    room("manifest", &["src/manifest"], &["documents", "output"]),
    // The journal is read by `journalctl`, a child process.
    room("events", &["src/events"], &["event", "node", "output"]),
    room("mode", &["src/mode"], &["event", "events", "mode in force", "output"]),
    // The installer's own probes, which no scan counts, are in its events.
    room("scan", &["src/scan"], &["events", "inspect", "node", "output"]),
    room("report", &["src/report"], &["events", "output", "scan"]),
    room("install", &["src/install"], &["node", "output"]),
    room("status", &["src/status"], &["inspect", "install", "mode", "node", "output"]),
    room(
        "verify",
        &["src/verify"],
        &["event", "events", "inspect", "install", "mode", "node", "output", "status"],
    ),
    room(
        "metrics",
        &["src/metrics"],
        &["events", "inspect", "install", "mode", "node", "output", "scan", "status"],
    ),
    // Everything but what the others have for themselves.
    room(
        "cli",
        &["src/cli", "src/lib.rs", "src/main.rs"],
        &[
            "documents",
            "event",
            "events",
            "finding",
            "gate",
            "inspect",
            "install",
            "manifest",
            "metrics",
            "mode",
            "mode in force",
            "node",
            "output",
            "report",
            "scan",
            "status",
            "verify",
        ],
    ),
];

/// The crates of the workspace, and which of them each may depend on.
const CRATES: [(&str, &str, &[&str]); 5] = [
    ("pss", "crates/pss", &[]),
    ("pss-guard-core", "crates/core", &["pss"]),
    ("pss-guard-gate", "crates/gate", &["pss", "pss-guard-core"]),
    ("pss-guard-manifests", "crates/manifests", &["pss"]),
    ("pss-guard", ".", &["pss", "pss-guard-core", "pss-guard-gate", "pss-guard-manifests"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file in a place, by its path below the repository.
fn sources(place: &str) -> Vec<PathBuf> {
    let path = root().join(place);
    if path.is_file() {
        return vec![PathBuf::from(place)];
    }
    let mut found = Vec::new();
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{place}: {error}"));
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let inside = format!("{place}/{name}");
        if root().join(&inside).is_dir() {
            found.extend(sources(&inside));
        } else if Path::new(&name).extension().is_some_and(|extension| extension == "rs") {
            found.push(PathBuf::from(inside));
        }
    }
    found
}

/// The code of a source file: without comments and texts, and without its tests, which may know more than the room does.
fn code(file: &Path) -> String {
    let text = without_texts(&documents::read(file.to_str().unwrap()));
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            code += line;
            code.push('\n');
            continue;
        }
        // An item at the left margin ends there, or with its line.
        let item = lines.next().expect("an item");
        if item.ends_with('{') {
            lines.by_ref().find(|line| *line == "}").expect("the end of an item");
        }
    }
    code
}

/// Source text without comments, and with nothing between quotes.
fn without_texts(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let raw =
            rest.strip_prefix('r').filter(|_| !code.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        let hashes = raw.map_or(0, |raw| raw.len() - raw.trim_start_matches('#').len());
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if raw.is_some_and(|raw| raw[hashes..].starts_with('"')) {
            let ends = format!("\"{}", "#".repeat(hashes));
            let begins = hashes + 2;
            begins + rest[begins..].find(&ends).expect("a raw text that ends") + ends.len()
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.expect("a text that ends") + 2
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find("\"'").expect("a letter") + 3
        } else {
            code.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// The first names of all paths that begin with this one: `a` and `b` of `crate::a::X` and `crate::{a, b::Y}`.
fn first_names(code: &str, begins: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(begins) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + begins.len()..];
        let name = |text: &str| -> String {
            text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in list.chars() {
            match c {
                '}' if depth == 0 => break,
                ',' if depth == 0 => {
                    names.insert(name(&item));
                    item.clear();
                    continue;
                }
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            item.push(c);
        }
        names.insert(name(&item));
    }
    names.remove("");
    names
}

/// The room of a module of the gate's crate, or of the tool's.
fn room_of(folder: &str, module: &str) -> Option<&'static str> {
    let places = [format!("{folder}/{module}"), format!("{folder}/{module}.rs")];
    let room =
        ROOMS.iter().find(|room| room.places.iter().any(|place| places.iter().any(|own| own == place)));
    room.map(|room| room.name)
}

/// What the tool's crate calls by names of its own that lie in the crates below it: module to room.
fn exported() -> BTreeMap<String, &'static str> {
    let lib = code(Path::new("src/lib.rs"));
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    names.insert("pss".to_owned(), "pss");
    names.insert("documents".to_owned(), "documents");
    names.extend(first_names(&lib, "pss_guard_core::").into_iter().map(|name| (name, "core")));
    for name in first_names(&lib, "pss_guard_gate::") {
        let room = room_of("crates/gate/src", &name).unwrap_or_else(|| panic!("which room is {name} in?"));
        names.insert(name, room);
    }
    names
}

/// The rooms that a file imports, but its own.
fn imports(file: &Path, own: &Room, exported: &BTreeMap<String, &'static str>) -> BTreeSet<&'static str> {
    let code = code(file);
    let file = file.to_str().unwrap();
    let mut rooms = BTreeSet::new();
    let folder = if file.starts_with("crates/gate/") { "crates/gate/src" } else { "src" };
    if !["pss", "core", "documents"].contains(&own.name) {
        for module in first_names(&code, "crate::") {
            let room = room_of(folder, &module).or_else(|| exported.get(&module).copied());
            rooms.insert(room.unwrap_or_else(|| panic!("{file}: which room is crate::{module} in?")));
        }
        // The root of the crate by another name.
        let depth = file.strip_prefix(folder).unwrap().matches('/').count();
        let depth = if file.ends_with("/mod.rs") { depth - 1 } else { depth };
        let out = "super::".repeat(depth.max(1));
        let is_root = file.ends_with("/lib.rs") || file.ends_with("/main.rs");
        assert!(
            is_root || !code.contains(&out),
            "{file}: name what lies in another room by crate::, not {out}"
        );
    }
    for module in first_names(&code, "pss_guard_gate::") {
        rooms.insert(room_of("crates/gate/src", &module).unwrap_or_else(|| panic!("{file}: {module}")));
    }
    if !first_names(&code, "pss_guard_core::").is_empty() {
        rooms.insert("core");
    }
    if !first_names(&code, "pss::").is_empty() {
        rooms.insert("pss");
    }
    if !first_names(&code, "pss_guard_manifests::").is_empty() {
        rooms.insert("documents");
    }
    if folder != "src" || ["pss", "core", "documents"].contains(&own.name) {
        assert!(first_names(&code, "pss_guard::").is_empty(), "{file} imports the tool");
    }
    rooms.remove(own.name);
    rooms
}

#[test]
fn rooms_import_what_lies_below_them() {
    let exported = exported();
    let mut seen: BTreeMap<(&str, &str), BTreeSet<PathBuf>> = BTreeMap::new();
    let mut placed = BTreeSet::new();
    for own in ROOMS {
        for file in own.places.iter().flat_map(|place| sources(place)) {
            assert!(placed.insert(file.clone()), "{} is in two rooms", file.display());
            let is_test = file.ends_with("tests.rs") || file.ends_with("testing.rs");
            if is_test || file.components().any(|part| part.as_os_str() == "tests") {
                continue;
            }
            for room in imports(&file, own, &exported) {
                let grounded =
                    GROUND.contains(&room) && (!GROUND.contains(&own.name) || is_lower(room, own.name));
                if !own.imports.contains(&room) && !grounded {
                    seen.entry((own.name, room)).or_default().insert(file.clone());
                }
            }
        }
    }
    let homeless: Vec<PathBuf> =
        ["src", "crates/pss/src", "crates/core/src", "crates/gate/src", "crates/manifests/src"]
            .iter()
            .flat_map(|place| sources(place))
            .filter(|file| !placed.contains(file))
            .collect();
    assert!(homeless.is_empty(), "in no room of the table: {homeless:?}");
    let new: Vec<String> = seen.iter().map(|(pair, files)| format!("{pair:?}, in {files:?}")).collect();
    assert!(new.is_empty(), "the table forbids these imports:\n{}", new.join("\n"));
    // No row leads upward, and none to a room that is not there.
    for (nth, room) in ROOMS.iter().enumerate() {
        let is_below = |name: &&&str| ROOMS.iter().take(nth).any(|below| below.name == **name);
        let others: Vec<_> = room.imports.iter().filter(|name| !is_below(name)).collect();
        assert!(others.is_empty(), "{} imports what is not below it: {others:?}", room.name);
    }
}

/// Whether a part of the ground lies below another: the list is in order.
fn is_lower(one: &str, other: &str) -> bool {
    let place = |name: &str| GROUND.iter().position(|ground| *ground == name);
    place(one) < place(other)
}

#[test]
fn crates_depend_on_those_below_them() {
    for (name, folder, may) in CRATES {
        let manifest = documents::read(&format!("{folder}/Cargo.toml"));
        let manifest: toml::Table = manifest.parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some(name));
        let own: Vec<&str> = manifest["dependencies"]
            .as_table()
            .unwrap()
            .iter()
            .filter(|(_, value)| value.get("path").is_some())
            .map(|(dependency, _)| dependency.as_str())
            .collect();
        assert!(own.iter().all(|dependency| may.contains(dependency)), "{name} depends on {own:?}");
    }
    // What is before every container carries neither the command line nor what edits files of engines.
    let gate: toml::Table = documents::read("crates/gate/Cargo.toml").parse().unwrap();
    for never in ["clap", "clap_complete", "clap_mangen", "similar", "terminal_size", "toml_edit"] {
        assert!(gate["dependencies"].get(never).is_none(), "{never} is in the gate");
    }
}

#[test]
fn test_modules_import_from_support_alone() {
    let mut modules = 0;
    for target in ["cluster", "contract", "engines", "e2e", "matrix", "soak", "support"] {
        let folder = format!("integration-tests/{target}");
        for file in sources(&folder) {
            let inside = file.strip_prefix(&folder).unwrap();
            let own =
                inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
            let names = first_names(&code(&file), "crate::");
            let strangers: Vec<&String> =
                names.iter().filter(|name| *name != "support" && *name != own).collect();
            assert!(strangers.is_empty(), "{}: imports {strangers:?}", file.display());
            modules += 1;
        }
    }
    assert!(modules > 60, "only {modules} files were looked at");
}

#[test]
fn imports_are_read_as_the_compiler_reads_them() {
    let rows: [(&str, &[&str]); 9] = [
        ("use crate::a::B;", &["a"]),
        ("use crate::{a, b::{C, d::E}, f::G};", &["a", "b", "f"]),
        ("use crate::{\n    a::{self, B},\n    c,\n};", &["a", "c"]),
        ("fn f(x: &crate::a::B) -> crate::c::D { crate::e::f(x) }", &["a", "c", "e"]),
        ("use other_crate::a; use x::crate::b;", &[]),
        ("// crate::a\n/// [`crate::b`]\nuse crate::c; // crate::d", &["c"]),
        (r##"f("crate::a \" crate::b", r#"" crate::c"#, '"'); crate::d::f("")"##, &["d"]),
        ("f('\\\"', 'a', '\\''); crate::d::f()", &["d"]),
        ("pub(crate) fn f() {}", &[]),
    ];
    for (source, expected) in rows {
        let names = first_names(&without_texts(source), "crate::");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), expected, "{source}");
    }
}
