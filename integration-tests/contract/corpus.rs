//! Real containers, captured on live nodes, against the API server's verdict on the same pods.
//!
//! `corpus/<engine>/<case>/expected.json` is what Pod Security admission said of the pod as it was written; what lies
//! beside it is what the engine made of it. Two things must hold for every case at every level: what admission allows
//! is never refused, and what admission denies is refused unless a node cannot prove it, and then it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::upstream::oracle;
use crate::support::{documents, program};

/// `latest` was policy v1.35 on the API server of the captures.
const POLICY: &str =
    "mode = \"enforce\"\n[cluster]\nversion = \"v1.35\"\n[controls]\nreadOnlyRootFilesystem = \"off\"\n";

/// The levels that `expected.json` has a verdict for.
const LEVELS: [&str; 4] = ["baseline:latest", "baseline:v1.24", "restricted:latest", "restricted:v1.24"];

/// Admission's reasons and the controls that give them.
const REASONS: &[(&str, &[&str])] = &[
    ("forbidden AppArmor profile", &["appArmorProfile"]),
    ("non-default capabilities", &["capabilities_baseline"]),
    ("host namespaces", &["hostNamespaces"]),
    ("hostPath volumes", &["hostPathVolumes"]),
    ("hostPort", &["hostPorts"]),
    ("probe or lifecycle host", &["hostProbesAndHostLifecycle"]),
    ("privileged", &["privileged"]),
    ("procMount", &["procMount", "procMount_restricted"]),
    ("seLinuxOptions", &["seLinuxOptions"]),
    ("seccompProfile", &["seccompProfile_baseline", "seccompProfile_restricted"]),
    ("forbidden sysctls", &["sysctls"]),
    ("hostProcess", &["windowsHostProcess"]),
    ("allowPrivilegeEscalation != false", &["allowPrivilegeEscalation"]),
    ("unrestricted capabilities", &["capabilities_restricted"]),
    ("restricted volume types", &["restrictedVolumes"]),
    ("runAsNonRoot != true", &["runAsNonRoot"]),
    ("runAsUser=0", &["runAsUser"]),
];

/// What a node cannot prove: admission's reason, how the gate says so, and why. Nothing else may be missed.
const MISSED: &[(&str, &str, &str)] = &[
    ("forbidden AppArmor profile", "unseen", "the node has no AppArmor"),
    ("seLinuxOptions", "unseen", "the node has no SELinux"),
    ("hostPath volumes", "unseen", "the volume is declared and not mounted"),
    ("restricted volume types", "unseen", "the volume is declared and not mounted"),
    ("hostPort", "unseen", "the engine does not pass the kubelet's annotations on"),
    ("hostProcess", "unseen", "only Windows has it"),
    ("non-default capabilities", "suspect", "NET_RAW is one of the engine's own defaults"),
    ("non-default capabilities", "unseen", "what was added is one of the engine's own defaults"),
    ("probe or lifecycle host", "unseen", "probes never leave the kubelet"),
    ("runAsNonRoot != true", "unseen", "the user is not root; the flag never leaves the kubelet"),
    ("runAsUser=0", "suspect", "uid 0 can be the image's; runAsNonRoot refuses it"),
    ("seccompProfile", "unseen", "unset and Unconfined look the same; or the container is privileged"),
    ("unrestricted capabilities", "unseen", "the container is privileged, which hides add and drop"),
];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/corpus")
}

/// `<engine>/<case>` of every case.
fn cases() -> BTreeSet<String> {
    let folders = |dir: PathBuf| {
        let entries = std::fs::read_dir(&dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display()));
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let engines = folders(corpus());
    let of = |engine: &String| {
        let cases = folders(corpus().join(engine));
        let engine = engine.clone();
        cases.into_iter().map(move |case| format!("{engine}/{case}"))
    };
    engines.iter().flat_map(of).collect()
}

/// Runs `check` over all cases; the containers of each case.
fn check(level: &str, cases: &BTreeSet<String>) -> BTreeMap<String, Vec<Value>> {
    let policy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(policy.path(), POLICY).unwrap();
    let output = Command::new(program::binary())
        .args(["check", "--format", "json", "--level", level, "--policy"])
        .arg(policy.path())
        .args(cases)
        .current_dir(corpus())
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut results: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        let path = object["path"].as_str().unwrap();
        let case = path.split("/containers/").next().unwrap().to_owned();
        results.entry(case).or_default().push(object);
    }
    results
}

/// The findings of one certainty, by control.
fn controls(containers: &[Value], certainty: &str) -> BTreeSet<String> {
    let findings = containers.iter().flat_map(|container| container["findings"].as_array().unwrap());
    let of = findings.filter(|finding| finding["certainty"] == certainty);
    of.map(|finding| finding["control"].as_str().unwrap().to_owned()).collect()
}

/// The pod of a case as its capture made it: one of upstream's fixtures under the name that the container has. `check` takes no
/// other pod's.
fn renamed(pod: &Path, case: &str) -> tempfile::NamedTempFile {
    let text = std::fs::read_to_string(pod).unwrap();
    let containers = corpus().join(case).join("containers").read_dir().unwrap();
    let config = containers.last().unwrap().unwrap().path().join("config.json");
    let config: Value = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    let keys = ["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"];
    let name = keys.iter().find_map(|key| config["annotations"][key].as_str()).unwrap();
    let before =
        text.lines().skip_while(|line| *line != "metadata:").find(|line| line.starts_with("  name: "));
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let own = format!("\n{}\n", before.unwrap());
    assert_eq!(text.matches(&own).count(), 1, "{case}: {text}");
    std::fs::write(file.path(), text.replace(&own, &format!("\n  name: {name}\n"))).unwrap();
    file
}

/// The same for one case whose pod is at hand.
fn check_with(pod: &Path, level: &str, case: &str, policy: &Path) -> Vec<Value> {
    let fixture = (!pod.starts_with(corpus())).then(|| renamed(pod, case));
    let pod = fixture.as_ref().map_or(pod, |file| file.path());
    let output = Command::new(program::binary())
        .args(["check", "--format", "json", "--level", level, "--policy"])
        .args([policy, Path::new("--pod"), pod])
        .arg(corpus().join(case))
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The pod of a case: beside it, or one of upstream's fixtures by name (`restricted-v1-35-fail-runasnonroot1`).
fn pod_of(case: &str, fixtures: Option<&Path>) -> Option<PathBuf> {
    let own = corpus().join(case).join("pod.yaml");
    if own.exists() {
        return Some(own);
    }
    let (_, name) = case.split_once('/')?;
    let (level, rest) = name.split_once("-v1-")?;
    let (minor, rest) = rest.split_once('-')?;
    let (outcome, name) = rest.split_once('-')?;
    let folder = fixtures?.join(level).join(format!("v1.{minor}")).join(outcome);
    let found = folder.join(format!("{}.yaml", name.replace('-', "_")));
    assert!(found.exists(), "{case}: no {}", found.display());
    Some(found)
}

#[test]
fn with_the_pod_at_hand_every_verdict_is_admissions_and_nothing_is_unproven() {
    let oracle = oracle("corpus::with_the_pod_at_hand_every_verdict_is_admissions_and_nothing_is_unproven");
    let fixtures = oracle.map(|oracle| oracle.module.join("test/testdata"));
    let policy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(policy.path(), POLICY).unwrap();
    let cases = cases();
    let with_pod: Vec<(&String, PathBuf)> =
        cases.iter().filter_map(|case| Some((case, pod_of(case, fixtures.as_deref())?))).collect();
    let expected = if fixtures.is_some() { cases.len() } else { 124 };
    assert!(with_pod.len() >= expected, "only {} of {expected} cases have a pod", with_pod.len());
    let mut wrong = String::new();
    for (case, pod) in &with_pod {
        let verdicts = std::fs::read(corpus().join(case).join("expected.json")).unwrap();
        let verdicts: Value = serde_json::from_slice(&verdicts).unwrap();
        for level in LEVELS {
            let expected = &verdicts["psa"][level];
            let containers = check_with(pod, level, case, policy.path());
            assert!(!containers.is_empty(), "{case}");
            // Admission evaluates the pod, and so does each of its containers.
            let verdict = if expected["allowed"] == true { "allow" } else { "deny" };
            for container in &containers {
                if container["verdict"] != verdict {
                    let _ =
                        writeln!(wrong, "{case} at {level}: {} instead of {verdict}", container["verdict"]);
                }
                for finding in container["findings"].as_array().unwrap() {
                    if finding["certainty"] != "violates" {
                        let _ = writeln!(wrong, "{case} at {level}: {finding} is not proven");
                    }
                }
                let texts = |key: &str| -> Vec<String> {
                    let findings = container["findings"].as_array().unwrap().iter();
                    let upstreams = findings.filter(|finding| finding["origin"] == "upstream");
                    upstreams.map(|finding| finding[key].as_str().unwrap().to_owned()).collect()
                };
                let admissions = |key: &str| -> Vec<String> {
                    let texts = expected[key].as_array().into_iter().flatten();
                    texts.map(|text| text.as_str().unwrap().to_owned()).collect()
                };
                for (ours, theirs) in [("reason", "reasons"), ("detail", "details")] {
                    let (ours, theirs) = (texts(ours), admissions(theirs));
                    // These pods are as they were written. The API server makes every port of a pod on the host's network the
                    // host's, and a node whose engine tells of ports has one more thing to show.
                    let same = if case.ends_with("seed-4-host-network-ingress") {
                        theirs.iter().all(|text| ours.contains(text)) && ours.len() <= theirs.len() + 1
                    } else {
                        ours == theirs
                    };
                    if !same {
                        let _ = writeln!(wrong, "{case} at {level}: {ours:?} instead of {theirs:?}");
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_admission_allows_is_never_refused_and_what_it_denies_is_refused_or_said_to_be_unseen() {
    let cases = cases();
    assert!(cases.len() >= 239, "only {} cases: the corpus is not whole", cases.len());
    let mut wrong = String::new();
    let mut counts: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    let (mut allowed, mut refused, mut missed) = (0, 0, BTreeSet::new());
    for level in LEVELS {
        let results = check(level, &cases);
        for case in &cases {
            let expected = std::fs::read(corpus().join(case).join("expected.json")).unwrap();
            let expected: Value = serde_json::from_slice(&expected).unwrap();
            let expected = &expected["psa"][level];
            let containers = &results[case];
            let denied = containers.iter().any(|container| container["verdict"] == "deny");
            if let Some(fault) = containers.iter().find(|container| container["verdict"] == "cannot-judge") {
                let _ = writeln!(wrong, "{case} at {level}: {}", fault["because"]);
            }
            let violates = controls(containers, "violates");
            if expected["allowed"] == true {
                allowed += 1;
                // Stronger than the verdict: no single control may claim a proof.
                if denied || !violates.is_empty() {
                    let _ = writeln!(wrong, "{case} at {level}: admission allows it, but {violates:?}");
                }
                continue;
            }
            if denied {
                refused += 1;
            } else {
                missed.insert((level, case.as_str()));
            }
            for reason in expected["reasons"].as_array().unwrap() {
                let reason = reason.as_str().unwrap().replace("profiles", "profile");
                let row = REASONS.iter().find(|(known, _)| *known == reason);
                let (reason, ids) =
                    row.unwrap_or_else(|| panic!("{case}: no control gives the reason {reason:?}"));
                if ids.iter().any(|id| violates.contains(*id)) {
                    continue;
                }
                let says =
                    |certainty: &str| ids.iter().any(|id| controls(containers, certainty).contains(*id));
                let said =
                    ["suspect", "unseen"].into_iter().find(|certainty| says(certainty)).unwrap_or("nothing");
                match MISSED.iter().find(|(r, certainty, _)| r == reason && *certainty == said) {
                    Some((_, certainty, _)) => {
                        let count = counts.entry((reason, certainty)).or_default();
                        count.0 += 1;
                        count.1 += usize::from(!denied);
                    }
                    None => {
                        let _ = writeln!(
                            wrong,
                            "{case} at {level}: {reason} is missed, and the gate says {said}"
                        );
                    }
                }
            }
        }
    }
    println!(
        "{} verdicts of admission: {allowed} allow, all let through; {} deny, {refused} refused",
        allowed + refused + missed.len(),
        refused + missed.len()
    );
    println!(
        "{:<28} {:<8} {:>5} {:>10}  why a node cannot prove it",
        "reason", "said", "times", "let through"
    );
    for (reason, said, why) in MISSED {
        let (times, through) = counts.get(&(*reason, *said)).copied().unwrap_or_default();
        println!("{reason:<28} {said:<8} {times:>5} {through:>10}  {why}");
        if times == 0 {
            let _ = writeln!(wrong, "the table says that {reason} is missed as {said}, but it never is");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let limits = documents::read("docs/limits.md");
    let total = allowed + refused + missed.len();
    for number in [format!("against {total} verdicts"), format!("Of the {allowed} that admission allows")] {
        assert!(limits.contains(&number), "docs/limits.md does not say {number:?}");
    }
}
