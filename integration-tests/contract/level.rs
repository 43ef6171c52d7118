//! What do `policy` and `namespaces` say, and what does the removal of a policy leave?

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use pss_guard::cli;
use pss_guard::cli::policy::{Look, Subject};
use pss_guard::level::cache::{Loaded, load};
use pss_guard::level::date::Date;
use pss_guard::level::{Mode, Policy};
use pss_guard::paths::Paths;
use serde_json::{Value, json};

use crate::support::captured::{Captured, config};
use crate::support::root::Root;

/// A node's root directory, and what the library calls the files in it.
struct Files {
    root: Root,
    paths: Paths,
}

impl Files {
    fn new() -> Self {
        let root = Root::new();
        let paths = Paths::under(root.root());
        fs::create_dir_all(paths.policy().parent().unwrap()).unwrap();
        fs::create_dir_all(paths.policy_cache().parent().unwrap()).unwrap();
        Self { root, paths }
    }

    fn with_policy(text: &str) -> Self {
        let files = Self::new();
        files.root.policy(text);
        files
    }

    /// A node that knows its policy: longer ago than the clock that file systems stamp with takes to move on.
    fn with_known_policy(text: &str) -> Self {
        let files = Self::with_policy(text);
        thread::sleep(Duration::from_millis(80));
        files.good();
        assert!(files.paths.policy_cache().is_file(), "no cache was written");
        files
    }

    /// The policy, which must be one that can be used.
    fn good(&self) -> Policy {
        match load(&self.paths) {
            Loaded::Good(policy) => policy,
            loaded => panic!("{loaded:?}"),
        }
    }

    /// The last good policy, which must be what judges.
    fn kept(&self) -> Policy {
        match load(&self.paths) {
            Loaded::Kept { policy, .. } => policy,
            loaded => panic!("{loaded:?}"),
        }
    }

    /// What a boot leaves of the files.
    fn reboot(&self) {
        fs::remove_dir_all(self.paths.policy_cache().parent().unwrap()).unwrap();
    }

    fn import(&self, text: &str) {
        let (code, _, err) =
            run(|out, err| cli::namespaces::import(&self.paths, &mut text.as_bytes(), out, err));
        assert_eq!((code, &*err), (0, ""));
    }

    /// The same text without the folder of this test.
    fn shown(&self, text: &str) -> String {
        text.replace(self.root.root().to_str().unwrap(), "")
    }
}

/// Files count only if root owns them.
fn is_root() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("SKIPPED: this test needs root, because only root's files are believed");
    }
    root
}

const TWO: &str = r#"{"apiVersion":"v1","kind":"List","items":[
    {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"team":"a",
        "pod-security.kubernetes.io/enforce":"baseline","pod-security.kubernetes.io/enforce-version":"v1.30"}},
     "spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}},
    {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"bare"}}],
    "metadata":{"resourceVersion":""}}"#;

#[test]
fn only_its_removal_ends_a_policy() {
    if !is_root() {
        return;
    }
    let node = Files::with_known_policy("mode = 'enforce'");
    let remove = |yes| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = cli::policy::remove(&node.paths, "new node", yes, &mut out, &mut err);
        (code, node.shown(&String::from_utf8([out, err].concat()).unwrap()))
    };
    // Tests have no terminal.
    let (code, said) = remove(false);
    assert_eq!(code, 1, "{said}");
    assert_eq!(node.good().mode, Mode::Enforce);
    fs::remove_file(node.paths.policy()).unwrap();
    node.reboot();
    assert_eq!(node.kept().mode, Mode::Enforce);
    let (code, said) = remove(true);
    let expected = "removed /var/lib/pss-guard/policy.toml\nthe built-in defaults apply; the mode is audit\n";
    assert_eq!((code, &*said), (0, expected));
    assert_eq!(node.good(), Policy::default());
    let events = fs::read_to_string(node.paths.decisions()).unwrap();
    assert!(
        events.contains("mode audit: the policy was removed by") && events.contains("new node"),
        "{events}"
    );
    assert_eq!(remove(true), (0, "there is no policy; the built-in defaults apply\n".to_owned()));
    // It ends one that is there, too.
    node.root.policy("mode = 'enforce'");
    node.good();
    assert_eq!(remove(true).0, 0);
    assert_eq!(node.good(), Policy::default());
}

fn run(command: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>) -> u8) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = command(&mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// A text that sets nothing is a policy only as long as there was none that set something.
#[test]
fn policy_check_tells_a_first_draft_from_a_policy_that_was_cut_off() {
    if !is_root() {
        return;
    }
    for text in ["", "# The levels of this cluster.\n", "# To come.\n[defaults]\n"] {
        for (before, cut_off) in
            [(None, false), (Some("# A first draft.\n"), false), (Some("mode = 'enforce'"), true)]
        {
            let node = Files::with_policy(before.unwrap_or(text));
            let mode = node.good().mode;
            node.root.policy(text);
            let checked = run(|out, err| {
                cli::policy::check(&node.paths, None, "2027-06-01".parse().unwrap(), Look::PLAIN, out, err)
            });
            let said = node.shown(&format!("{}{}", checked.1, checked.2));
            let row = format!("{text:?} after {before:?}: {said}");
            if cut_off {
                assert!(checked.0 == 2 && said.contains("policy.toml sets nothing, but there was"), "{row}");
                assert_eq!(node.kept().mode, mode, "{row}");
            } else {
                assert!(checked.0 == 0 && said.starts_with("valid\n"), "{row}");
                assert_eq!(node.good().mode, Mode::Audit, "{row}");
            }
        }
    }
}

#[test]
fn policy_check_says_whom_an_exception_names_and_what_it_leaves_in_force() {
    if !is_root() {
        return;
    }
    let exception = |names: &str, controls: &str| {
        format!(
            "[[exceptions]]\nnamespace = 'shop'\n{names}\ncontrols = [{controls}]\nreason = 'why'\nexpires = 2099-01-01\n"
        )
    };
    let text = [
        exception("owner = 'web'\nimage = 'quay.io/a/b'", "'restrictedVolumes'"),
        exception("pod = 'db-0'\ncontainer = 'db'", "'restrictedVolumes', 'hostPathVolumes'"),
    ]
    .concat();
    let node = Files::with_policy(&text);
    let today: Date = "2027-06-01".parse().unwrap();
    let (code, out, err) =
        run(|out, err| cli::policy::check(&node.paths, None, today, Look::PLAIN, out, err));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let shown = out.split_once("exceptions ").unwrap().1;
    let expected = "       2
                    shop/* (owner web, image quay.io/a/b): restrictedVolumes (\"why\"), until 2099-01-01
                      leaves hostPathVolumes in force
                    shop/db (pod db-0): restrictedVolumes, hostPathVolumes (\"why\"), until 2099-01-01
";
    assert_eq!(shown, expected);
}

#[test]
fn policy_check_says_what_a_policy_means() {
    if !is_root() {
        return;
    }
    let exception = |container: &str, expires: &str| {
        format!(
            "[[exceptions]]\nnamespace = 'shop'\n{container}\ncontrols = ['sysctls']\nreason = 'why'\nexpires = {expires}\n"
        )
    };
    let text = [
        "mode = 'enforce'\n[exemptions]\nnamespaces = ['kube-system', 'ops']\nruntime-classes = ['kata']\n",
        "[namespaces.shop]\nenforce = 'baseline'\n[node]\nseccomp-default = true\nnot-host-paths = ['/opt/x']\n",
        &exception("container = 'web'", "2027-05-31"),
        &exception("", "2027-06-01"),
        &exception("", "2027-06-02"),
        &exception("", "2027-07-01"),
        &exception("", "2027-07-02"),
    ]
    .concat();
    let node = Files::with_policy(&text);
    let today: Date = "2027-06-01".parse().unwrap();
    let expected = "\
valid
  mode              enforce: what violates the enforce level is stopped
  latest            v1.37, the newest version known
  defaults          enforce privileged:latest, audit restricted:latest, warn restricted:latest
  unmanaged         enforce privileged:latest, audit privileged:latest, warn privileged:latest
  namespaces        shop
  exempt            kube-system, ops
                    runtime classes: kata
  pod annotations   tighten, floor privileged
  unknown namespace defaults
  missing facts     unseen
  on fault          deny (in enforce mode; audit mode never stops anything)
  on suspect        audit
  log allowed       no
  controls          readOnlyRootFilesystem enforce, injectedMounts audit
  node              kubelet /var/lib/kubelet, seccomp default on, AppArmor auto
                    no host paths: /opt/x
  runtime           /usr/sbin/runc
  exceptions        5
                    shop/web: sysctls (\"why\"), expired on 2027-05-31
                    shop/*: sysctls (\"why\"), expires today (2027-06-01)
                    shop/*: sysctls (\"why\"), expires in 1 day (2027-06-02)
                    shop/*: sysctls (\"why\"), expires in 30 days (2027-07-01)
                    shop/*: sysctls (\"why\"), until 2027-07-02
";
    let check = |file: Option<PathBuf>| {
        run(|out, err| cli::policy::check(&node.paths, file.as_deref(), today, Look::PLAIN, out, err))
    };
    assert_eq!(check(None), (0, expected.to_owned(), String::new()));
    assert_eq!(check(Some(node.paths.policy())), (0, expected.to_owned(), String::new()));

    // Another file may be anybody's, the node's own may not.
    let draft = node.root.root().join("draft.toml");
    fs::copy(node.paths.policy(), &draft).unwrap();
    chown(&draft, Some(1000), None).unwrap();
    assert_eq!(check(Some(draft.clone())).0, 0);
    chown(node.paths.policy(), Some(1000), None).unwrap();
    let (code, out, err) = check(None);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(node.shown(&err).contains("/etc/pss-guard/policy.toml must be owned by root"), "{err}");
    fs::write(&draft, "mode = 'enforce'\nenforce = 1").unwrap();
    let (code, out, err) = check(Some(draft.clone()));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(node.shown(&err).starts_with("pss-guard: /draft.toml:2:1: unknown key \"enforce\"; "), "{err}");
    // All mistakes at once, in the order of the file.
    fs::write(
        &draft,
        "mode = 'off'\n[defaults]\nenforce = 'restrictd'\naudit = 1\n[cluster]\nversio = 'v1.30'\n",
    )
    .unwrap();
    let (code, _, err) = check(Some(draft.clone()));
    let places: Vec<&str> = err.lines().map(|line| line.rsplit_once("/draft.toml:").unwrap().1).collect();
    let places: Vec<&str> = places.iter().map(|place| place.split_once(": ").unwrap().0).collect();
    assert_eq!((code, places), (2, vec!["1:8", "3:11", "4:9", "6:1"]), "{err}");
    // What a node would not take is said where it is said by root.
    fs::write(&draft, "mode = 'audit'").unwrap();
    let (code, out, err) = check(Some(draft));
    assert!(code == 0 && out.starts_with("valid\n"), "{out}");
    assert!(
        err.contains("a node would reject this file as it is: ") && err.contains("chown root:root"),
        "{err}"
    );

    let fresh = Files::new();
    let (code, out, _) = run(|out, err| cli::policy::check(&fresh.paths, None, today, Look::PLAIN, out, err));
    assert_eq!(code, 0);
    assert!(
        fresh.shown(&out).starts_with("no /etc/pss-guard/policy.toml: the built-in defaults apply\n"),
        "{out}"
    );
}

#[test]
fn policy_show_says_which_level_holds_and_because_of_what() {
    if !is_root() {
        return;
    }
    let node = Files::with_policy("on-unknown-namespace = 'deny'\n[unmanaged]\naudit = 'baseline'");
    node.import(TWO);
    let (code, out, err) =
        run(|out, err| cli::policy::show(&node.paths, Subject::All, &[], Look::PLAIN, out, err));
    let expected = "\
namespace    enforce            audit              warn               enforce level from
bare         privileged:latest  restricted:latest  restricted:latest  [defaults] of /etc/pss-guard/policy.toml
kube-system  exempt             exempt             exempt             [exemptions]
shop         baseline:v1.30     restricted:latest  restricted:latest  namespace \"shop\" (/run/pss-guard/namespaces/shop.json)
(any other)  denied             denied             denied             on-unknown-namespace
(unmanaged)  privileged:latest  baseline:latest    privileged:latest  [unmanaged] of /etc/pss-guard/policy.toml
";
    assert_eq!((code, &*node.shown(&out), &*err), (0, expected, ""));
    // A typo gets an answer, and is said to be none of the cluster's.
    let lenient = Files::with_policy("");
    lenient.import(TWO);
    for (name, said) in
        [("shopp", "namespace \"shopp\" is not known on this node"), ("shop", ""), ("kube-system", "")]
    {
        let (code, _, err) = run(|out, err| {
            cli::policy::show(&lenient.paths, Subject::Namespace(name), &[], Look::PLAIN, out, err)
        });
        assert!(code == 0 && err.contains(said) && err.is_empty() == said.is_empty(), "{name}: {err}");
    }
    let show = |subject, annotations: &[&str]| {
        let annotations: Vec<String> = annotations.iter().map(|pair| (*pair).to_owned()).collect();
        let (code, out, err) =
            run(|out, err| cli::policy::show(&node.paths, subject, &annotations, Look::PLAIN, out, err));
        (code, node.shown(&format!("{out}{err}")))
    };
    let rows: &[(Subject<'_>, &[&str], u8, &str)] = &[
        (
            Subject::Namespace("shop"),
            &["pod-security.kubernetes.io/enforce=restricted"],
            0,
            "\
enforce  baseline:v1.30     level from namespace \"shop\" (/run/pss-guard/namespaces/shop.json)
  and    restricted:v1.30   level from pod annotation pod-security.kubernetes.io/enforce
audit    restricted:latest  level from [defaults] of /etc/pss-guard/policy.toml
warn     restricted:latest  level from [defaults] of /etc/pss-guard/policy.toml
latest   v1.37, the newest version known
",
        ),
        (
            Subject::Unmanaged,
            &[],
            0,
            "\
enforce  privileged:latest  level from [unmanaged] of /etc/pss-guard/policy.toml
audit    baseline:latest    level from [unmanaged] of /etc/pss-guard/policy.toml
warn     privileged:latest  level from [unmanaged] of /etc/pss-guard/policy.toml
latest   v1.37, the newest version known
",
        ),
        (
            Subject::Namespace("kube-system"),
            &[],
            0,
            "exempt: namespace \"kube-system\" is exempt; nothing is evaluated\n",
        ),
        (
            Subject::Namespace("new"),
            &[],
            0,
            "denied: namespace \"new\" is not in /run/pss-guard/namespaces, and on-unknown-namespace is \"deny\"\n",
        ),
        (
            Subject::Namespace("../x"),
            &[],
            2,
            "pss-guard: \"../x\" cannot be the name of a namespace: it is not a DNS label\n",
        ),
        (
            Subject::Namespace("shop"),
            &["enforce"],
            2,
            "pss-guard: --pod-annotation \"enforce\" must be KEY=VALUE\n",
        ),
        (
            Subject::Namespace("shop"),
            &["enforce=baseline"],
            2,
            "pss-guard: --pod-annotation \"enforce\" sets no level; those that do are pod-security.kubernetes.io/enforce, \
             pod-security.kubernetes.io/enforce-version, pod-security.kubernetes.io/audit, \
             pod-security.kubernetes.io/audit-version, pod-security.kubernetes.io/warn, \
             pod-security.kubernetes.io/warn-version\n",
        ),
    ];
    for (subject, annotations, code, expected) in rows {
        assert_eq!(
            show(*subject, annotations),
            (*code, (*expected).to_owned()),
            "{subject:?} {annotations:?}"
        );
    }
}

#[test]
fn namespaces_import_prints_what_it_did_or_why_it_did_nothing() {
    if !is_root() {
        return;
    }
    let node = Files::new();
    let import =
        |text: &str| run(|out, err| cli::namespaces::import(&node.paths, &mut text.as_bytes(), out, err));
    assert_eq!(import(TWO), (0, "imported 2 namespaces (2 changed, 0 removed)\n".to_owned(), String::new()));
    let one = r#"{"kind":"Namespace","metadata":{"name":"bare","labels":{}}}"#;
    let said = "1 namespace is unchanged; this node knows 1 more, which are unchanged\n";
    assert_eq!(import(one), (0, said.to_owned(), String::new()));
    let nothing = "pss-guard: the list has no namespaces (is the cluster reachable, and may this user list them?); nothing was changed\n";
    assert_eq!(import(r#"{"kind":"List","items":[]}"#), (2, String::new(), nothing.to_owned()));
}

/// `namespaces list` shows the files, `policy show` what they come to: neither knows a namespace that the other does not.
#[test]
fn list_shows_what_is_imported_and_what_is_not() {
    const LIST: &str = r#"{"kind":"List","items":[
        {"kind":"Namespace","metadata":{"name":"shop","labels":{"pod-security.kubernetes.io/enforce":"baseline",
         "pod-security.kubernetes.io/enforce-version":"v1.30","pod-security.kubernetes.io/warn":"restricted"}}},
        {"kind":"Namespace","metadata":{"name":"odd","labels":{"pod-security.kubernetes.io/enforce":"restrictd"}}},
        {"kind":"Namespace","metadata":{"name":"bare"}}]}"#;
    let node = Captured::new();
    node.lay("containerd", "01", &config("shop", "db-0", "database", false));
    node.lay("containerd", "02", &config("new", "web-0", "app", true));
    let folder = node.path("run/pss-guard/namespaces");
    let list = |format: &str| node.call(&["namespaces", "list", "--format", format]);
    let nothing = list("text").expect_success();
    assert!(nothing.stdout.starts_with("no namespaces are imported (/"), "{nothing}");
    assert!(nothing.stdout.ends_with("run here and are not imported: new, shop\n"), "{nothing}");
    let nothing: Value = serde_json::from_str(&list("json").expect_success().stdout).unwrap();
    assert_eq!((&nothing["imported"], &nothing["namespaces"]), (&Value::Null, &json!([])));

    let files = Files { paths: Paths::under(node.root()), root: Root::new() };
    let import =
        |text: &str| run(|out, err| cli::namespaces::import(&files.paths, &mut text.as_bytes(), out, err));
    assert_eq!(import(LIST).0, 0);
    let done = list("text").expect_success();
    let rest = done.stdout.split_once('\n').unwrap();
    assert!(
        rest.0.starts_with("3 namespaces in ") && rest.0.contains(", last list imported 0 seconds ago"),
        "{done}"
    );
    let expected = "namespace  enforce            audit              warn\n\
                    bare       -                  -                  -\n\
                    odd        restrictd:latest   -                  -\n\
                    shop       baseline:v1.30     -                  restricted:latest\n\
                    namespace \"odd\": label pod-security.kubernetes.io/enforce has the invalid value \"restrictd\"\n\
                    run here and are not imported: new\n";
    assert_eq!(rest.1, expected);
    let shown = node.call(&["policy", "show"]).expect_success().stdout;
    assert!(["bare", "odd", "shop"].iter().all(|name| shown.contains(&format!("\n{name} "))), "{shown}");
    let json: Value = serde_json::from_str(&list("json").expect_success().stdout).unwrap();
    assert_eq!(json["namespaces"].as_array().unwrap().len(), 3);
    assert_eq!(json["namespaces"][2]["enforce_version"], "v1.30");
    assert_eq!(json["namespaces"][1]["invalid"].as_array().unwrap().len(), 1);
    assert_eq!(json["not_imported"], json!(["new"]));

    // Each fault has the name of its file, and hides no other namespace.
    let file = folder.join("shop.json");
    for (text, says) in [
        ("", "EOF while parsing"),
        ("{\"v\":99}", "format version 99 is newer than 1"),
        ("{\"x\":\"y\"}", "is not a Pod Security label"),
    ] {
        fs::write(&file, text).unwrap();
        let done = list("text");
        assert!(
            done.code == Some(2) && done.stderr.contains(says) && done.stderr.contains("shop.json"),
            "{done}"
        );
        assert!(
            done.stdout.contains("shop       cannot be read\n") && done.stdout.contains("odd  "),
            "{done}"
        );
        let json: Value = serde_json::from_str(&list("json").stdout).unwrap();
        assert!(json["namespaces"][2]["fault"].as_str().unwrap().contains(says), "{json}");
    }
    fs::write(&file, "{}").unwrap();
    chown(&file, Some(1000), None).unwrap();
    assert_eq!(list("text").code, Some(2));
    chown(&file, Some(0), None).unwrap();
    chown(&folder, Some(1000), None).unwrap();
    assert!(list("text").code == Some(2), "{}", list("text"));
    chown(&folder, Some(0), None).unwrap();
    assert_eq!(list("text").code, Some(0));
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    let empty = list("text");
    assert!(empty.code == Some(0) && empty.stdout.starts_with("no namespaces are imported (/"), "{empty}");
    // To the gate every namespace is unknown there.
    fs::write(folder.join("README"), "").unwrap();
    let empty = list("text");
    assert!(empty.code == Some(2) && empty.stderr.contains("has no namespace in it"), "{empty}");
}
