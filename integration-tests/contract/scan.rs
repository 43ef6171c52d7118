//! What does `scan` say of a node? The corpus as a node, real processes, hostile names, and a terminal to look at it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::captured::{Captured, config, entries, objects, sandbox, scan, scan_command, small};
use crate::support::terminal::Terminal;
use crate::support::{documents, files, needs, program, run};

#[test]
fn a_node_made_of_the_corpus_is_judged_as_check_judges_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/corpus");
    let mut compared = 0;
    for engine in entries(&corpus) {
        let name = engine.file_name().expect("a name").to_str().expect("UTF-8");
        let node = Captured::new();
        let laid: Vec<(PathBuf, PathBuf)> =
            entries(&engine).iter().flat_map(|case| node.lay_case(case, name)).collect();
        for level in ["baseline", "restricted", "baseline:v1.24", "restricted:v1.24"] {
            let options = ["--level", level, "--format", "json"];
            let scanned = objects(&scan(node.root(), &options).expect_success());
            let by_path: BTreeMap<&str, &Value> =
                scanned.iter().map(|one| (one["path"].as_str().expect("a path"), one)).collect();
            let mut check = Command::new(program::binary());
            check.arg("check").args(options).args(laid.iter().map(|(case, _)| case));
            let checked = objects(&run::run(&mut check));
            assert_eq!(checked.len(), laid.len(), "{name}");
            for ((case, bundle), checked) in laid.iter().zip(&checked) {
                let scanned = by_path.get(bundle.to_str().expect("UTF-8"));
                let scanned = scanned.unwrap_or_else(|| panic!("{} is not found", case.display()));
                for field in ["verdict", "findings", "level", "version", "because"] {
                    assert_eq!(scanned[field], checked[field], "{field} of {} at {level}", case.display());
                }
                for field in ["engine", "namespace", "pod", "name", "image"] {
                    let (ours, theirs) = (&scanned["container"][field], &checked["container"][field]);
                    assert_eq!(ours, theirs, "{field} of {}", case.display());
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 1000, "only {compared} containers were compared");
}

#[test]
fn the_answer_counts_containers_and_pods_once_and_the_exit_code_follows() {
    let node = small();
    let damaged = small();
    files::write(&damaged.bundle("containerd", "99").join("config.json"), "{");
    let unreadable = small();
    files::write(&unreadable.root().join("etc/pss-guard/policy.toml"), "mode = \"loud\"\n");
    let own = small();
    files::write(
        &own.root().join("etc/pss-guard/policy.toml"),
        "[namespaces.shop]\nenforce = \"restricted\"\n",
    );
    // What the gate refuses is tried again and again: there is a pod, and never a container in it.
    let refused = Captured::new();
    refused.lay("containerd", "sandbox-of-agent-x", &sandbox("ops", "agent-x", true));
    let beside = small();
    beside.lay("containerd", "sandbox-of-agent-y", &sandbox("ops", "agent-y", true));
    // (the node, options, exit code, a part of what is said)
    let restricted =
        "4 of 6 containers in 3 pods and 1 unmanaged would be refused at restricted; 3 need a one-line fix";
    let ours = "2 of them would be refused by readOnlyRootFilesystem alone, pss-guard's own control and not part of the \
                Pod Security Standards";
    let rows: &[(&Captured, &[&str], i32, &str)] = &[
        (&node, &["--level", "restricted"], 0, restricted),
        (&node, &["--level", "restricted", "--fail"], 1, restricted),
        (&node, &["--level", "restricted"], 0, ours),
        (&node, &["--level", "restricted"], 0, "1 is exempt (kube-system)"),
        (&node, &["--level", "baseline"], 0, "2 of 6 containers in 2 pods would be refused at baseline"),
        (&node, &["--level", "restricted:v1.24"], 0, "would be refused at restricted:v1.24"),
        (&node, &[], 0, "none of 6 containers would be refused at their own level"),
        (&node, &["--fail"], 0, "none of 6"),
        (
            &own,
            &["--fail"],
            1,
            "2 of 6 containers in 2 pods would be refused at their own level; 1 needs a one-line fix",
        ),
        (
            &node,
            &["--level", "restricted", "--fail", "--namespace", "kube-system"],
            0,
            "the one container here would not be refused at restricted",
        ),
        (&node, &["--level", "restricted", "--namespace", "shop"], 0, "2 of 3 containers in 2 pods"),
        (
            &node,
            &["--level", "restricted", "--namespace", "shop", "--namespace", "ops"],
            0,
            "3 of 4 containers in 3 pods",
        ),
        (
            &node,
            &["--level", "restricted", "--namespace", "nowhere", "--fail"],
            2,
            "no container of namespace \"nowhere\" runs here",
        ),
        (
            &node,
            &["--level", "restricted", "--control", "hostNamespaces"],
            0,
            "1 of 6 containers in 1 pod would",
        ),
        (&node, &["--level", "restricted", "--control", "runAsUser", "--fail"], 0, "none of 6"),
        (&refused, &["--level", "baseline"], 0, "1 pod in which no container runs would be refused\n"),
        (&refused, &["--level", "baseline", "--fail"], 1, "no container runs here"),
        (
            &beside,
            &["--level", "baseline", "--control", "hostNamespaces", "--fail"],
            1,
            "1 of 6 containers in 1 pod would be refused at baseline",
        ),
        (&beside, &["--level", "baseline"], 0, "1 pod in which no container runs would be refused as well"),
        (&node, &["--level", "restricted", "--control", "RUNASNONROOT", "--fail"], 1, "1 of 6"),
        (
            &damaged,
            &["--level", "restricted", "--fail"],
            2,
            "1 container could not be judged, which enforce mode refuses as well",
        ),
        (
            &damaged,
            &["--namespace", "shop"],
            2,
            "1 container could not be judged, which enforce mode refuses; none of the other",
        ),
        (&unreadable, &[], 2, "mode"),
        (&node, &["--control", "nonsense"], 2, "pss-guard explain"),
        (&node, &["--level", "loose"], 2, "loose"),
        (&node, &["--format", "text"], 0, "none of 6"),
        (&node, &["--format", "table"], 0, "none of 6"),
        (&node, &["--format", "loud"], 2, "text, json, sarif"),
    ];
    for (node, options, code, part) in rows {
        let done = scan(node.root(), options);
        assert_eq!(done.code, Some(*code), "{options:?}\n{done}");
        assert!(done.stdout.contains(part) || done.stderr.contains(part), "should say {part:?}\n{done}");
        for format in ["json", "sarif"] {
            if !options.contains(&"--format") {
                let done = scan(node.root(), &[options, &["--format", format][..]].concat());
                assert_eq!(done.code, Some(*code), "{format} {options:?}\n{done}");
            }
        }
    }
}

#[test]
fn a_pod_that_shows_nothing_has_no_heading() {
    let node = small();
    // No container runs in either, and the control that is asked about refuses none.
    node.lay("containerd", "sandbox-of-agent-y", &sandbox("ops", "agent-y", true));
    node.lay("containerd", "sandbox-of-lone", &sandbox("lone", "lone-0", false));
    let done = scan(node.root(), &["--level", "restricted", "--control", "runAsNonRoot"]).expect_success();
    let (table, _) = done.stdout.split_once("\n\n1 of 6 containers").unwrap_or_else(|| panic!("{done}"));
    // A namespace, a pod, a container: each has one further in below it.
    let depths: Vec<usize> = table.lines().map(|line| line.len() - line.trim_start().len()).collect();
    for (place, depth) in depths.iter().enumerate() {
        let next = depths.get(place + 1).copied().unwrap_or(0);
        assert!(*depth > 2 || next > *depth || table.lines().nth(place) == Some(""), "line {place}\n{done}");
    }
    assert!(!table.contains("agent-y") && !table.contains("lone"), "{done}");
    let only = Captured::new();
    only.lay("containerd", "sandbox-of-lone", &sandbox("lone", "lone-0", false));
    let done = scan(only.root(), &["--level", "restricted", "--control", "runAsNonRoot"]);
    assert_eq!(done.stdout.lines().next(), Some("no container runs here"), "{done}");
}

/// A command with a file as its standard input.
fn reading(file: &Path, arguments: &[&str]) -> run::Done {
    let mut command = Command::new("sh");
    command.args(["-c", "file=$1; shift; cat \"$file\" | \"$@\"", "sh"]).arg(file).arg(program::binary());
    run::run(command.args(arguments).env_remove("COLUMNS").env("LC_ALL", "C.UTF-8"))
}

#[test]
fn a_dash_is_standard_input() {
    let (folder, paths) = two_nodes();
    let second = paths[1].to_str().unwrap();
    let whole = merge(&[&paths[0], &paths[1]], &[]).expect_success();
    let given = reading(&paths[0], &["scan", "--merge", "-", second]).expect_success();
    assert_eq!(given.stdout, whole.stdout);
    let broken = folder.root().join("broken.json");
    files::write(&broken, "{}\n");
    let done = reading(&broken, &["scan", "--merge", "-"]);
    assert!(done.code == Some(2) && done.stderr.contains("standard input:1: no line of"), "{done}");

    let policy = folder.root().join("policy.toml");
    // (its text, the exit code, a part of what is said)
    for (text, code, says) in [
        ("mode = \"enforce\"\n".to_owned(), 0, "valid\n"),
        ("mode = \"loud\"\nmood = 1\n".to_owned(), 2, "standard input:1:8"),
        ("mode = \"loud\"\nmood = 1\n".to_owned(), 2, "standard input:2:1"),
        (format!("# {}\n", "x".repeat(1 << 20)), 2, "standard input is larger than 1048576 bytes"),
    ] {
        files::write(&policy, &text);
        let done = reading(&policy, &["policy", "check", "-"]);
        assert!(
            done.code == Some(code) && (done.stdout.contains(says) || done.stderr.contains(says)),
            "{says}: {done}"
        );
    }
}

#[test]
fn the_manual_shows_what_it_says() {
    let node = small();
    let mut scan =
        scan_command(node.root(), &["--level", "restricted", "--namespace", "ops", "--namespace", "shop"]);
    let shown = run::run(scan.env("COLUMNS", "112")).expect_success().stdout;
    let block = format!("```text\n{shown}```\n");
    assert!(documents::read("docs/scan.md").contains(&block), "{block}");
}

#[test]
fn every_format_says_the_same() {
    let node = small();
    let options = ["--level", "restricted"];
    let of =
        |format: &str| scan(node.root(), &[&options[..], &["--format", format]].concat()).expect_success();
    let objects = objects(&of("json"));
    assert_eq!(objects.len(), 8);
    let keys: BTreeSet<&str> =
        objects[0].as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "at_levels",
        "because",
        "container",
        "drift",
        "findings",
        "level",
        "path",
        "pid",
        "refused_by",
        "sandbox",
        "scan",
        "verdict",
        "version",
    ];
    assert_eq!(keys, expected.into());
    let sarif: Value = serde_json::from_str(&of("sarif").stdout).expect("JSON");
    let count = |level: &str| {
        let results = sarif["runs"][0]["results"].as_array().expect("results");
        results.iter().filter(|result| result["level"] == level).count()
    };
    let violations = objects.iter().flat_map(|one| one["findings"].as_array().expect("findings"));
    assert_eq!(count("error"), violations.filter(|finding| finding["certainty"] == "violates").count());
}

#[test]
fn names_from_outside_cannot_write_to_the_terminal() {
    let node = Captured::new();
    let evil = "\u{1b}[2J\u{202e}\r\n<script>";
    let mut hostile = config("shop", evil, evil, false);
    hostile["annotations"]["io.kubernetes.cri.sandbox-namespace"] = json!(evil);
    node.lay("containerd", "\u{1b}[31m", &hostile);
    node.lay("containerd", "broken\u{7}", &json!({"process": {"user": {"uid": evil}}}));
    for format in ["table", "json", "sarif"] {
        let done = scan(node.root(), &["--level", "restricted", "--format", format]);
        assert_eq!(done.code, Some(2), "{done}");
        for text in [&done.stdout, &done.stderr] {
            let odd = |c: char| (c.is_control() && c != '\n') || (c == '\u{202e}' && format == "table");
            assert!(!text.contains(odd), "{format}\n{text:?}");
        }
    }
    let ascii = run::run(scan_command(node.root(), &["--level", "restricted"]).env("LC_ALL", "C"));
    assert!(ascii.stdout.is_ascii(), "{ascii}");
}

#[test]
fn what_cannot_be_judged_is_a_number_where_numbers_are_kept() {
    let node = Captured::new();
    files::write(&node.bundle("containerd", "broken").join("config.json"), "{");
    let kept = node.root().join("var/lib/pss-guard/metrics/scan-own.json");
    for (arguments, code, is_kept) in [
        (&[][..], 2, false),
        (&["--keep"], 0, true),
        (&["--keep", "--format", "json"], 0, true),
        (&["--keep", "--fail"], 2, true),
    ] {
        let done = scan(node.root(), arguments);
        assert_eq!((done.code, kept.exists()), (Some(code), is_kept), "{arguments:?}: {done}");
        if is_kept {
            let numbers: Value = serde_json::from_str(&run::read(&kept)).expect("JSON");
            assert_eq!((&numbers["unjudged"], &numbers["allowed"]), (&json!(1), &json!(0)), "{numbers}");
            fs::remove_file(&kept).expect("a file of ours");
        }
    }
    // Neither without a policy that can be used, nor where nothing can be kept.
    fs::create_dir(&kept).expect("a folder in place of the file");
    assert_eq!(scan(node.root(), &["--keep"]).code, Some(2));
    fs::remove_dir(&kept).expect("a folder of ours");
    files::write(&node.root().join("etc/pss-guard/policy.toml"), "mood = 1\n");
    assert_eq!(scan(node.root(), &["--keep"]).code, Some(2));
    assert!(!kept.exists());
}

const NARROW: &str = "\
kube-system
  kube-proxy
    proxy         exempt

ops
  agent-x
    (sandbox)     deny
      host namespaces
        spec.hostNetwork: false
    agent         deny
      host namespaces
        spec.hostNetwork: false

shop
  db-0
    database      deny
      allowPrivilegeEscalation != false
        securityContext.allowPrivilegeEscalation: false
";

const WIDE: &str = "\
  web-0
    app           allow
    logger        deny          readOnlyRootFilesystem != true     securityContext.readOnlyRootFilesystem: true [pss-guard]

(unmanaged)
    c0ffee00c0ff  deny          readOnlyRootFilesystem != true     docker run --read-only [pss-guard]

4 of 6 containers in 3 pods and 1 unmanaged would be refused at restricted; 3 need a one-line fix
2 of them would be refused by readOnlyRootFilesystem alone, pss-guard's own control and not part of the Pod Security Standards
1 is exempt (kube-system)
";

#[test]
fn people_see_the_answer_at_every_width() {
    if !needs::can_run("scan::people_see_the_answer_at_every_width", &["tmux"]) {
        return;
    }
    let node = small();
    let line = "scan --level restricted";
    let narrow = Terminal::show("80", node.root(), &[], line);
    let seen = narrow.end(&[]);
    assert!(seen.contains(NARROW), "{seen}");
    assert!(seen.lines().all(|line| line.chars().count() <= 80), "{seen}");
    // A line that the terminal had to break is one when it is joined.
    assert_eq!(
        narrow.end(&["-J"]).lines().map(str::trim_end).collect::<Vec<_>>(),
        seen.lines().collect::<Vec<_>>()
    );
    let coloured = narrow.end(&["-e"]);
    assert!(
        coloured.contains("\u{1b}[1m\u{1b}[31mdeny") && coloured.contains("\u{1b}[32mallow"),
        "{coloured:?}"
    );

    let wide = Terminal::show("200", node.root(), &[], line).end(&[]);
    assert!(wide.contains(WIDE), "{wide}");
    let piped = scan(node.root(), &["--level", "restricted"]).expect_success().stdout;
    assert_eq!(
        piped.lines().collect::<Vec<_>>(),
        wide.lines().skip(1).take(piped.lines().count()).collect::<Vec<_>>()
    );

    let plain = Terminal::show("80", node.root(), &["NO_COLOR=1"], line).end(&["-e"]);
    assert!(plain.contains(NARROW) && !plain.contains('\u{1b}'), "{plain:?}");
    let told = Terminal::show("80", node.root(), &["COLUMNS=60"], line).end(&[]);
    assert!(told.lines().all(|line| line.chars().count() <= 60), "{told}");
    let dumb = Terminal::show("80", node.root(), &["TERM=dumb"], line).end(&["-e"]);
    assert!(dumb.contains(NARROW) && !dumb.contains('\u{1b}'), "{dumb:?}");
    let piped = Terminal::show("80", node.root(), &[], &format!("{line} | cat")).end(&["-e"]);
    assert!(!piped.contains('\u{1b}'), "{piped:?}");
}

#[test]
fn who_waits_at_a_terminal_sees_how_far_it_has_come() {
    if !needs::can_run("scan::who_waits_at_a_terminal_sees_how_far_it_has_come", &["tmux"]) {
        return;
    }
    let node = Captured::new();
    for number in 0..4000 {
        node.lay(
            "containerd",
            &format!("{number:064x}"),
            &config("shop", &format!("web-{number}"), "app", false),
        );
    }
    node.lay("containerd", "last", &config("few", "web", "app", true));
    let line = "scan --level restricted --control hostPorts --namespace few";
    let terminal = Terminal::show("80", node.root(), &[], line);
    assert!(run::eventually(|| terminal.screen(&[]).contains("[#")), "{}", terminal.screen(&[]));
    let seen = terminal.end(&[]);
    let taken = "pss-guard: --root: another file system, without processes\n";
    let seen = seen.strip_prefix(taken).unwrap_or_else(|| panic!("{seen}"));
    assert!(seen.starts_with("few\n  web\n    app  allow\n\n"), "the bar is gone\n{seen}");
    assert!(!seen.contains("[#") && seen.contains("\nended with 0\n"), "{seen}");
    let elsewhere =
        Terminal::show("80", node.root(), &[], &format!("{line} 2>{}", node.root().join("err").display()));
    elsewhere.end(&[]);
    assert_eq!(run::read(&node.root().join("err")), taken);
}

/// Two nodes of one cluster, and what each wrote.
fn two_nodes() -> (Captured, Vec<PathBuf>) {
    let folder = Captured::new();
    let mut paths = Vec::new();
    for node in ["node-1", "node-2"] {
        let captured = Captured::new();
        files::write(&captured.root().join("etc/hostname"), &format!("{node}\n"));
        captured.lay("containerd", "01", &config("shop", "web-5d4f8c7b9d-x7k2p", "app", false));
        captured.lay("containerd", "02", &config("shop", &format!("db-{node}"), "database", true));
        if node == "node-2" {
            captured.lay("containerd", "03", &config("ops", "agent", "agent", false));
        }
        let written = scan(captured.root(), &["--level", "restricted", "--format", "json"]).expect_success();
        let path = folder.root().join(format!("{node}.json"));
        files::write(&path, &written.stdout);
        paths.push(path);
    }
    (folder, paths)
}

fn merge<P: AsRef<std::ffi::OsStr>>(paths: &[P], options: &[&str]) -> run::Done {
    let mut command = Command::new(program::binary());
    command.arg("scan").args(options).arg("--merge").args(paths);
    run::run(command.env_remove("COLUMNS").env("LC_ALL", "C.UTF-8"))
}

#[test]
fn the_scans_of_nodes_are_merged_and_none_is_lost() {
    let (folder, paths) = two_nodes();
    let both: Vec<&Path> = paths.iter().map(|path| &**path).collect();
    let text = merge(&both, &[]).expect_success();
    for says in [
        "3 of 5 containers on 2 nodes in 3 pods would be refused at restricted; 3 need a one-line fix\n",
        "node-1: 1 of 2 containers refused (scanned 20",
        "node-2: 2 of 3 containers refused (scanned 20",
        "\n  web-5d4f8c7b9d-x7k2p on node-1\n",
        "\n  web-5d4f8c7b9d-x7k2p on node-2\n",
    ] {
        assert!(text.stdout.contains(says), "{says:?}\n{text}");
    }
    assert_eq!(merge(&both, &["--fail"]).code, Some(1));

    let page = merge(&both, &["--format", "html"]).expect_success().stdout;
    for says in ["2 nodes: node-1, node-2 · checked against restricted", "node-2: 2 of 3 containers refused"]
    {
        assert!(page.contains(says), "{says:?}\n{page}");
    }
    // One workload on both nodes is one thing to fix.
    assert_eq!(page.matches("web / app").count(), 1, "{page}");
    assert!(
        page.contains("×2")
            && page.contains("web-5d4f8c7b9d-x7k2p (on node-1), web-5d4f8c7b9d-x7k2p (on node-2)"),
        "{page}"
    );

    // What is merged can be merged again, and then says the same.
    let json = merge(&both, &["--format", "json"]).expect_success().stdout;
    let again = folder.root().join("both.json");
    files::write(&again, &json);
    assert_eq!(merge(&[&again], &["--format", "json"]).expect_success().stdout, json);
    assert_eq!(merge(&[&again], &[]).stdout, text.stdout);
    let all: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let own: Vec<Value> = both
        .iter()
        .flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    assert!(all.len() == 5 && own.iter().all(|line| all.contains(line)), "{all:#?}");
}

#[test]
fn what_is_no_whole_scan_is_not_merged() {
    let (folder, paths) = two_nodes();
    let first = fs::read_to_string(&paths[0]).unwrap();
    let lines: Vec<&str> = first.lines().collect();
    let patched = |patch: &dyn Fn(&mut Value)| {
        let mut line: Value = serde_json::from_str(lines[0]).unwrap();
        patch(&mut line);
        format!("{line}\n{}\n", lines[1])
    };
    let rows: Vec<(&str, String, &str)> = vec![
        (
            "cut between lines",
            format!("{}\n", lines[0]),
            "has 1 of the 2 lines of the scan of node \"node-1\"",
        ),
        ("cut within a line", first[..first.len() - 40].to_owned(), "x.json:2: no line of"),
        ("a line twice", format!("{first}{}\n", lines[1]), "has 3 of the 2 lines"),
        ("empty", String::new(), "is empty"),
        ("another program's", "{\"a\":1}\n".to_owned(), "missing field `container`"),
        ("no JSON", "hello\n".to_owned(), "x.json:1: no line of"),
        (
            "an older version's",
            patched(&|line| drop(line.as_object_mut().unwrap().remove("scan"))),
            "missing field `scan`",
        ),
        (
            "an unknown control",
            patched(&|line| line["refused_by"] = json!(["madeUp"])),
            "unknown control \"madeUp\"",
        ),
        ("an unknown verdict", patched(&|line| line["verdict"] = json!("fine")), "unknown verdict \"fine\""),
        (
            "no time",
            patched(&|line| line["scan"]["at"] = json!("<b>")),
            "a time, a level or a control that is none",
        ),
        (
            "another scan of the node",
            patched(&|line| line["scan"]["lines"] = json!(7)),
            "another scan of node \"node-1\"",
        ),
    ];
    let path = folder.root().join("x.json");
    for (what, text, says) in rows {
        files::write(&path, &text);
        for format in ["text", "html", "json"] {
            let done = merge(&[&path, &paths[1]], &["--format", format]);
            let is_said = done.stderr.contains(says) && done.stderr.contains("nothing was merged");
            assert!(done.code == Some(2) && is_said && done.stdout.is_empty(), "{what}\n{done}");
        }
    }
    let twice = merge(&[&paths[0], &paths[0]], &[]);
    assert!(twice.code == Some(2) && twice.stderr.contains("node \"node-1\" is in "), "{twice}");
    let other = first.replace(
        "\"level\":\"restricted:latest\",\"namespaces\"",
        "\"level\":\"baseline:latest\",\"namespaces\"",
    );
    files::write(&path, &other);
    let other = merge(&[&path, &paths[1]], &[]);
    assert!(other.code == Some(2) && other.stderr.contains("with other options"), "{other}");
    for format in ["policyreport", "openreports"] {
        assert_eq!(merge(&[&paths[0]], &["--format", format]).code, Some(2));
    }
    // A node that could not be inspected whole makes the whole answer partial, and says which.
    let partial = first.replace("\"unseen\":0", "\"unseen\":3");
    files::write(&path, &partial);
    let partial = merge(&[&path, &paths[1]], &[]);
    let says = "cannot inspect node node-1: its scan could not inspect 3 places";
    assert!(partial.code == Some(2) && partial.stdout.contains(says), "{partial}");
    // As many as the sentence says, on however many nodes.
    assert!(partial.stdout.contains("\n3 places could not be inspected; "), "{partial}");
    // Names are of whoever wrote the file.
    let evil = first.replace("\"node\":\"node-1\"", "\"node\":\"<script>x</script>\\u001b[31m\"");
    files::write(&path, &evil);
    let page = merge(&[&path, &paths[1]], &["--format", "html"]).expect_success().stdout;
    assert!(
        !page.contains("<script>") && !page.contains('\u{1b}') && page.contains("&lt;script&gt;"),
        "{page}"
    );
    assert!(!merge(&[&path, &paths[1]], &[]).expect_success().stdout.contains('\u{1b}'));
}
