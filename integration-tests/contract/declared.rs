//! Is the second reading of the standard upstream's? Its own evaluator is the oracle (`integration-tests/oracle`, in Go): over
//! the table of checks, upstream's fixtures, captured pods, and pods that nobody would write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pss::controls::CONTROLS;
use pss::pod::{Manifest, Pod};
use pss::{Control, Level, Minor, NEWEST, Origin, Version, evaluate_pod};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::support::documents;
use crate::support::oracle::oracle;
use crate::support::random::Numbers;

/// A row of upstream's table.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: String,
    level: String,
    versions: Vec<Minor>,
    overrides: Vec<Option<Vec<String>>>,
}

/// What is said from a version on, until the next; nothing is allowed.
#[derive(Debug, PartialEq, Deserialize)]
struct Verdict {
    since: Minor,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    path: PathBuf,
    #[serde(default)]
    pod: Value,
    baseline: Vec<Verdict>,
    restricted: Vec<Verdict>,
}

/// What is not upstream's is lifted.
fn ours(control: &Control) -> bool {
    control.origin == Origin::PssGuard
}

fn message(level: Level, minor: Minor, pod: &Pod) -> Option<String> {
    let evaluation = evaluate_pod(level, minor, pod, ours);
    (!evaluation.is_allowed()).then(|| evaluation.message())
}

/// Our answer at every version that there is, and at one more.
fn verdicts(level: Level, pod: &Pod) -> Vec<Verdict> {
    let mut all: Vec<Verdict> = Vec::new();
    for since in 0..=NEWEST + 1 {
        let message = message(level, since, pod);
        if all.last().is_none_or(|last| last.message != message) {
            all.push(Verdict { since, message });
        }
    }
    all
}

/// The pod, as we read it.
fn read(json: &str) -> Pod {
    let manifest: Manifest = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    manifest.into()
}

/// The same answers as the oracle's, at every version and both levels.
fn compare(name: &str, pod: &Pod, answer: &Answer) {
    assert_eq!(verdicts(Level::Baseline, pod), answer.baseline, "baseline, {name}");
    assert_eq!(verdicts(Level::Restricted, pod), answer.restricted, "restricted, {name}");
}

/// What is written of a pod is read as the same pod.
fn projected(pod: &Pod) -> Value {
    let text = serde_json::to_string(pod).unwrap();
    assert_eq!(serde_json::from_str::<Pod>(&text).unwrap(), *pod, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_table_is_upstreams() {
    let Some(oracle) = oracle("declared::the_table_is_upstreams") else { return };
    let rows: Vec<Row> = oracle.ask(&["checks"], "");
    let upstream: BTreeMap<_, _> = rows
        .iter()
        .map(|row| {
            let overrides: Vec<&str> = row.overrides[0].iter().flatten().map(String::as_str).collect();
            assert!(row.overrides.iter().all(|of_version| *of_version == row.overrides[0]), "{}", row.id);
            (row.id.as_str(), (row.level.as_str(), row.versions.clone(), overrides))
        })
        .collect();
    let table: BTreeMap<_, _> = CONTROLS
        .iter()
        .filter(|control| !ours(control))
        .map(|control| {
            let versions: Vec<Minor> = control.declared.iter().map(|(since, _)| *since).collect();
            (control.id, (control.level.name(), versions, control.overrides.to_vec()))
        })
        .collect();
    assert_eq!(table, upstream);
    assert_eq!(upstream.values().flat_map(|(_, versions, _)| versions).max(), Some(&NEWEST));
}

#[test]
fn upstreams_fixtures_and_captured_pods_get_upstreams_answers() {
    let Some(oracle) = oracle("declared::upstreams_fixtures_and_captured_pods_get_upstreams_answers") else {
        return;
    };
    let testdata = oracle.module.join("test/testdata");
    let fixtures: Vec<Answer> = oracle.ask(&["files", testdata.to_str().unwrap()], "");
    assert!(fixtures.len() >= 4537, "{}", fixtures.len());
    let mut seen = BTreeSet::new();
    for fixture in &fixtures {
        let name = fixture.path.strip_prefix(&testdata).unwrap().to_str().unwrap();
        let [level, version, outcome, _] = name.split('/').collect::<Vec<_>>()[..] else { panic!("{name}") };
        let minor = version.strip_prefix("v1.").unwrap().parse().unwrap();
        let json = fixture.pod.to_string();
        let pod = read(&json);
        let said = message(level.parse().unwrap(), minor, &pod);
        assert_eq!(said.is_none(), outcome == "pass", "{name}: {said:?}");
        assert!(["pass", "fail"].contains(&outcome), "{name}");
        // The same pods are there for most versions.
        if seen.insert(json) {
            compare(name, &pod, fixture);
            projected(&pod);
        }
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/corpus");
    let captured: Vec<Answer> = oracle.ask(&["files", corpus.to_str().unwrap()], "");
    assert!(captured.len() >= 124, "{}", captured.len());
    for case in captured {
        let name = case.path.to_str().unwrap();
        let pod = read(&case.pod.to_string());
        compare(name, &pod, &case);
        projected(&pod);
        // And what a real API server said of it, when `latest` was v1.35.
        let expected = documents::read(case.path.with_file_name("expected.json").to_str().unwrap());
        let expected: Value = serde_json::from_str(&expected).unwrap();
        for (policy, said) in expected["psa"].as_object().unwrap() {
            let (level, version) = policy.split_once(':').unwrap();
            let minor = version.parse::<Version>().unwrap().minor(35);
            let found = evaluate_pod(level.parse().unwrap(), minor, &pod, ours).found;
            let found = found.iter().map(|found| &found.finding);
            let (reasons, details): (Vec<_>, Vec<_>) =
                found.map(|finding| (finding.reason.as_ref(), finding.detail.as_ref())).unzip();
            assert_eq!(
                json!({"allowed": reasons.is_empty(), "reasons": reasons, "details": details}),
                *said,
                "{name} at {policy}"
            );
        }
    }
}

#[test]
fn pods_that_nobody_would_write_get_upstreams_answers() {
    let Some(oracle) = oracle("declared::pods_that_nobody_would_write_get_upstreams_answers") else { return };
    let mut any = Any(Numbers(0x9e37_79b9_7f4a_7c15));
    let pods: Vec<String> = (0..10_000).map(|_| any.pod().to_string()).collect();
    // Each as it came, and as it is when we have read and written it.
    let mut input = String::new();
    for pod in &pods {
        let projection = projected(&read(pod));
        let projection =
            json!({"metadata": {"annotations": projection["annotations"]}, "spec": projection["spec"]});
        input.extend([pod.as_str(), "\n", &projection.to_string(), "\n"]);
    }
    let answers: Vec<Answer> = oracle.ask(&["pods"], &input);
    assert_eq!(answers.len(), 2 * pods.len());
    let mut allowed = [0; 2];
    for (pod, answers) in pods.iter().zip(answers.chunks(2)) {
        let parsed = read(pod);
        compare(pod, &parsed, &answers[0]);
        let [asked, projection] = answers else { panic!("two answers") };
        assert_eq!(asked.baseline, projection.baseline, "{pod}");
        assert_eq!(asked.restricted, projection.restricted, "{pod}");
        for (count, verdicts) in allowed.iter_mut().zip([&asked.baseline, &asked.restricted]) {
            *count += usize::from(verdicts.iter().any(|verdict| verdict.message.is_none()));
        }
    }
    // A generator of nothing but refusals would prove little.
    assert!(allowed.iter().all(|count| *count > 200), "{allowed:?}");
}

/// Makes one value.
type Make<'m> = &'m dyn Fn(&mut Any) -> Value;

/// Makes pods: mostly absurd, sometimes compliant, always of the types that the API has.
struct Any(Numbers);

/// What a text can be.
const TEXTS: [&str; 15] = [
    "a",
    "b",
    "app",
    "",
    "a\"b",
    "a, b",
    "\\",
    "\n\t\u{0}\u{7}\u{b}\u{1b}\u{7f}",
    "\u{e9}\u{301}\u{200b}\u{2028}\u{feff}\u{fffd}",
    "\u{1f600}\u{e000}\u{10ffff}",
    "runtime/default",
    "RuntimeDefault",
    "Localhost",
    "Unconfined",
    "localhost/x",
];

impl Any {
    fn one_in(&mut self, count: usize) -> bool {
        self.0.below(count) == 0
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.0.below(texts.len())]
    }

    fn text(&mut self) -> &'static str {
        self.of(&TEXTS)
    }

    /// An object of these keys, each present once in so many times; some null, and some others that nobody knows.
    fn object(&mut self, one_in: usize, keys: &[(&str, Make<'_>)]) -> Value {
        let mut object = Map::new();
        for (key, value) in keys {
            if self.one_in(one_in) {
                let value = if self.one_in(12) { Value::Null } else { value(self) };
                object.insert((*key).to_owned(), value);
            }
        }
        if self.one_in(20) {
            object.insert("x-unknown".into(), json!([{"name": "x"}, null, 7]));
        }
        object.into()
    }

    fn list(&mut self, most: usize, item: &dyn Fn(&mut Self) -> Value) -> Value {
        let length = self.0.below(most + 1);
        let null = |any: &mut Self| any.one_in(25);
        (0..length).map(|_| if null(self) { Value::Null } else { item(self) }).collect()
    }

    fn flag(&mut self) -> Value {
        self.one_in(2).into()
    }

    fn profile(&mut self) -> Value {
        let kinds = ["RuntimeDefault", "RuntimeDefault", "Localhost", "Unconfined", "", "runtimedefault"];
        let kind = |any: &mut Self| any.of(&kinds).into();
        let path = |any: &mut Self| any.text().into();
        self.object(1, &[("type", &kind), ("localhostProfile", &path)])
    }

    fn se_linux(&mut self) -> Value {
        let kinds =
            ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t", "spc_t", "a\"b"];
        let kind = |any: &mut Self| any.of(&kinds).into();
        let other = |any: &mut Self| any.of(&["", "", "", "system_u"]).into();
        self.object(2, &[("type", &kind), ("user", &other), ("role", &other), ("level", &other)])
    }

    fn user(&mut self) -> Value {
        json!([0, 1000, -1, i64::MAX][self.0.below(4)])
    }

    fn windows(&mut self) -> Value {
        let user = |any: &mut Self| any.text().into();
        self.object(2, &[("hostProcess", &Self::flag), ("runAsUserName", &user)])
    }

    fn sysctl(&mut self) -> Value {
        let names = [
            "kernel.shm_rmid_forced",
            "kernel/shm_rmid_forced",
            "net.ipv4.ip_local_reserved_ports",
            "net.ipv4.tcp_keepalive_time",
            "net.ipv4.tcp_rmem",
            "net.ipv4.tcp_notsent_lowat",
            "vm.swappiness",
            "",
        ];
        let name = |any: &mut Self| any.of(&names).into();
        self.object(1, &[("name", &name), ("value", &|_| json!("1"))])
    }

    fn volume(&mut self) -> Value {
        let sources = [
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "image",
            "persistentVolumeClaim",
            "projected",
            "secret",
            "hostPath",
            "gcePersistentDisk",
            "awsElasticBlockStore",
            "gitRepo",
            "nfs",
            "iscsi",
            "glusterfs",
            "rbd",
            "flexVolume",
            "cinder",
            "cephfs",
            "flocker",
            "fc",
            "azureFile",
            "vsphereVolume",
            "quobyte",
            "azureDisk",
            "photonPersistentDisk",
            "portworxVolume",
            "scaleIO",
            "storageos",
            "newerThanThis",
            "HostPath",
        ];
        let mut volume = self.object(1, &[("name", &|any| any.text().into())]);
        for _ in 0..[1, 1, 1, 1, 0, 2, 3][self.0.below(7)] {
            let source = if self.one_in(5) { Value::Null } else { json!({}) };
            volume[self.of(&sources)] = source;
        }
        volume
    }

    fn handler(&mut self) -> Value {
        let host = |any: &mut Self| any.of(&["", "", "", "127.0.0.1", "b.example", "a\"b"]).into();
        let call = |any: &mut Self| any.object(2, &[("host", &host), ("port", &|_| json!(80))]);
        self.object(2, &[("httpGet", &call), ("tcpSocket", &call), ("exec", &|_| json!({"command": ["x"]}))])
    }

    fn capabilities(&mut self) -> Value {
        let added = [
            "NET_BIND_SERVICE",
            "NET_BIND_SERVICE",
            "CHOWN",
            "chown",
            "CAP_CHOWN",
            "NET_RAW",
            "SYS_ADMIN",
            "ALL",
            "",
        ];
        let dropped = ["ALL", "ALL", "ALL", "all", "NET_RAW", ""];
        let add = |any: &mut Self| any.list(2, &|any| any.of(&added).into());
        let drop = |any: &mut Self| any.list(2, &|any| any.of(&dropped).into());
        self.object(2, &[("add", &add), ("drop", &drop)])
    }

    fn context(&mut self) -> Value {
        let privileged = |any: &mut Self| any.one_in(6).into();
        let non_root = |any: &mut Self| (!any.one_in(4)).into();
        let mount = |any: &mut Self| any.of(&["Default", "Default", "Unmasked", "", "default"]).into();
        self.object(
            3,
            &[
                ("privileged", &privileged),
                ("allowPrivilegeEscalation", &Self::flag),
                ("capabilities", &Self::capabilities),
                ("procMount", &mount),
                ("readOnlyRootFilesystem", &Self::flag),
                ("seccompProfile", &Self::profile),
                ("appArmorProfile", &Self::profile),
                ("seLinuxOptions", &Self::se_linux),
                ("runAsUser", &Self::user),
                ("runAsNonRoot", &non_root),
                ("windowsOptions", &Self::windows),
            ],
        )
    }

    /// What restricted allows; the rest of the container may not be.
    fn compliant_context() -> Value {
        json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        })
    }

    fn container(&mut self, compliant: bool) -> Value {
        let port = |any: &mut Self| {
            let number = |any: &mut Self| json!([0, 0, 80, 443, 9, 100, -1, 70000][any.0.below(8)]);
            any.object(1, &[("hostPort", &number), ("containerPort", &|_| json!(80))])
        };
        let ports = |any: &mut Self| any.list(3, &port);
        let lifecycle =
            |any: &mut Self| any.object(2, &[("postStart", &Self::handler), ("preStop", &Self::handler)]);
        let mount = |any: &mut Self| {
            let text = |any: &mut Self| any.text().into();
            any.object(1, &[("name", &text), ("mountPath", &text), ("readOnly", &Self::flag)])
        };
        let mounts = |any: &mut Self| any.list(2, &mount);
        let context = move |any: &mut Self| if compliant { Self::compliant_context() } else { any.context() };
        let rarely = if compliant { 30 } else { 5 };
        let mut container = self.object(
            rarely,
            &[
                ("ports", &ports),
                ("livenessProbe", &Self::handler),
                ("readinessProbe", &Self::handler),
                ("startupProbe", &Self::handler),
                ("lifecycle", &lifecycle),
                ("volumeMounts", &mounts),
            ],
        );
        container["name"] = self.text().into();
        if compliant || self.one_in(2) {
            container["securityContext"] = context(self);
        }
        container
    }

    fn spec(&mut self) -> Value {
        let compliant = self.one_in(4);
        let containers = move |any: &mut Self| any.list(3, &move |any| any.container(compliant));
        let sysctls = |any: &mut Self| any.list(3, &Self::sysctl);
        let volumes = |any: &mut Self| any.list(3, &Self::volume);
        let context = move |any: &mut Self| {
            let non_root = |any: &mut Self| (!any.one_in(4)).into();
            any.object(
                if compliant { 30 } else { 4 },
                &[
                    ("seccompProfile", &Self::profile),
                    ("appArmorProfile", &Self::profile),
                    ("seLinuxOptions", &Self::se_linux),
                    ("runAsUser", &Self::user),
                    ("runAsNonRoot", &non_root),
                    ("sysctls", &sysctls),
                    ("windowsOptions", &Self::windows),
                ],
            )
        };
        let system = |any: &mut Self| json!({"name": any.of(&["windows", "windows", "linux", "Windows"])});
        let class = |any: &mut Self| any.text().into();
        let mut spec = self.object(
            if compliant { 20 } else { 6 },
            &[
                ("hostNetwork", &Self::flag),
                ("hostPID", &Self::flag),
                ("hostIPC", &Self::flag),
                ("hostUsers", &Self::flag),
                ("os", &system),
                ("runtimeClassName", &class),
                ("volumes", &volumes),
                ("initContainers", &containers),
                ("ephemeralContainers", &containers),
            ],
        );
        if !self.one_in(30) {
            spec["containers"] = containers(self);
        }
        if self.one_in(2) {
            spec["securityContext"] = context(self);
        }
        spec
    }

    fn annotations(&mut self) -> Value {
        let mut annotations = Map::new();
        for _ in 0..self.0.below(4) {
            let prefix = self.of(&[
                "container.apparmor.security.beta.kubernetes.io/",
                "container.apparmor.security.beta.kubernetes.io",
                "container.seccomp.security.alpha.kubernetes.io/",
                "seccomp.security.alpha.kubernetes.io/pod",
                "example.com/",
            ]);
            let name = if prefix.ends_with("pod") { "" } else { self.text() };
            let value = if self.one_in(12) { Value::Null } else { self.text().into() };
            annotations.insert(format!("{prefix}{name}"), value);
        }
        annotations.into()
    }

    fn pod(&mut self) -> Value {
        let metadata = |any: &mut Self| {
            let annotations = |any: &mut Self| any.annotations();
            any.object(3, &[("annotations", &annotations), ("name", &|_| json!("x"))])
        };
        let mut pod = self.object(1, &[("metadata", &metadata), ("apiVersion", &|_| json!("v1"))]);
        pod["spec"] = self.spec();
        pod
    }
}
