//! Are the pages of the manual well-formed? What mandoc and man say of them; and do they name what the programs read?

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::{documents, needs, program, run};

const PAGES: [&str; 4] = ["pss-guard", "pss-guard-gate", "pss-guard-agent", "pss-guard.toml"];

fn page(name: &str) -> String {
    run::run(Command::new(program::binary()).args(["man", name])).expect_success().stdout
}

#[test]
fn mandoc_and_man_find_no_fault_in_the_pages() {
    let test = "manual::mandoc_and_man_find_no_fault_in_the_pages";
    if !needs::can_run(test, &["mandoc", "man"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    for name in PAGES {
        let file = folder.path().join(name);
        std::fs::write(&file, page(name)).expect("a file in a fresh directory");
        let lint = run::run(Command::new("mandoc").args(["-Tlint", "-Wall"]).arg(&file));
        // Two builds of one version are the same bytes, so a page has no date; and mandoc looks for the other pages on
        // this machine.
        let excused = ["missing date, using \"\": TH", "referenced manual not found"];
        let faults = lint.stdout.lines().filter(|line| !excused.iter().any(|own| line.contains(own)));
        assert_eq!(faults.collect::<Vec<_>>(), Vec::<&str>::new(), "{name}\n{}", page(name));
        let mut man = Command::new("man");
        man.args(["--warnings", "--local-file"]).arg(&file).env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8");
        let shown = run::run(&mut man).expect_success();
        assert_eq!(shown.stderr, "", "{name}");
        assert!(shown.stdout.lines().count() > 60, "{name}\n{}", shown.stdout);
        let names = run::run(Command::new("lexgrog").arg(&file)).expect_success().stdout;
        assert!(names.contains(&format!("\"{name} - ")), "what `apropos` finds: {names}");
    }
}

/// The variables of the environment that a source file names.
fn variables(file: &Path, found: &mut BTreeSet<String>) {
    let source = run::read(file);
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    // The look of a terminal is told its variables; elsewhere this word is another's.
    let told = if file.ends_with("output/terminal.rs") { "variable(\"" } else { "env::var(\"" };
    for begin in ["env::var(\"", "env::var_os(\"", told] {
        let names = code.split(begin).skip(1).filter_map(|rest| rest.split('"').next());
        found.extend(names.map(str::to_owned));
    }
}

#[test]
fn every_variable_that_a_program_reads_is_on_its_page() {
    for (name, folders, least) in
        [("pss-guard", &["src"][..], 4), ("pss-guard-gate", &["crates/gate/src"], 2)]
    {
        let mut found = BTreeSet::new();
        let mut folders: Vec<_> =
            folders.iter().map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).collect();
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().expect("a folder of sources").flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    variables(&entry.path(), &mut found);
                }
            }
        }
        assert!(found.len() >= least, "{name}: {found:?}");
        let page = page(name);
        let environment = page.split(".SH ENVIRONMENT\n").nth(1).and_then(|rest| rest.split("\n.SH ").next());
        let environment = environment.unwrap_or_else(|| panic!("{name} has no ENVIRONMENT"));
        for variable in found {
            assert!(environment.contains(&variable), "{name} reads {variable}\n{environment}");
        }
    }
}

/// The gate reads its arguments by hand: what it says of them is what its page says.
#[test]
fn the_gates_page_has_the_options_that_the_gate_knows() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    crate::support::files::write(&folder.path().join("etc/pss-guard/policy.toml"), "mode = \"enforce\"\n");
    let mut gate = Command::new(program::gate());
    gate.args(["hook", "--root"]).arg(folder.path()).arg("--nonsense");
    let said = run::feed(&mut gate, b"{}");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let known = said.split("known are ").nth(1).unwrap_or_else(|| panic!("{said}"));
    let known: BTreeSet<&str> = known.split([' ', ',']).filter(|word| word.starts_with("--")).collect();
    let page = page("pss-guard-gate").replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
    let options =
        page.split(".SH OPTIONS\n").nth(1).and_then(|rest| rest.split("\n.SH ").next()).expect("OPTIONS");
    let described: BTreeSet<&str> = options
        .lines()
        .zip(options.lines().skip(1))
        .filter(|(begin, _)| *begin == ".TP")
        .filter_map(|(_, word)| word.split(' ').next())
        .collect();
    assert_eq!(known, described, "{page}");
    assert!(known.len() == 3, "{said}");
}

/// What comes with the units names a page that there is.
#[test]
fn what_systemd_shows_names_a_page_of_the_manual() {
    let mut named = 0;
    for entry in Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").read_dir().expect("a folder").flatten()
    {
        let file = format!("systemd/{}", entry.file_name().to_string_lossy());
        for line in documents::read(&file).lines().filter(|line| line.contains("man:")) {
            let page = line.split("man:").nth(1).expect("a page");
            let program = if file.contains("agent") { "pss-guard-agent(8)" } else { "pss-guard(8)" };
            assert!(page.starts_with(program), "{file}: {line}");
            named += 1;
        }
    }
    assert!(named > 10, "{named}");
}
