//! What does `check` say of manifests, and with which exit code does it end?

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::support::needs::{self, skip};
use crate::support::program;
use crate::support::run::{self, Done};
use crate::support::upstream::oracle;

/// A folder of manifests, on a node that never had a policy.
struct Here {
    folder: tempfile::TempDir,
    root: tempfile::TempDir,
}

impl Here {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), root: tempfile::tempdir().unwrap() }
    }

    /// With one file.
    fn of(name: &str, text: impl AsRef<[u8]>) -> Self {
        let here = Self::new();
        here.write(name, text);
        here
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let file = self.folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program::binary());
        command.arg("--root").arg(self.root.path()).arg("check").args(arguments);
        command.current_dir(self.folder.path());
        command
    }

    fn check(&self, arguments: &[&str]) -> Done {
        run::run(&mut self.command(arguments))
    }

    /// Each workload and its verdict: `Pod shop/web deny`.
    fn verdicts(&self, arguments: &[&str]) -> String {
        let done = self.check(&[&["--format", "json"], arguments].concat());
        let shown = objects(&done).into_iter().map(|object| {
            let workload = &object["workload"];
            let text = |key: &str| workload[key].as_str().unwrap_or("?").to_owned();
            format!(
                "{} {}/{} {}",
                text("kind"),
                text("namespace"),
                text("name"),
                object["verdict"].as_str().unwrap()
            )
        });
        shown.collect::<Vec<_>>().join("; ")
    }
}

/// Results in JSON.
fn objects(done: &Done) -> Vec<Value> {
    done.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}\n{done}")))
        .collect()
}

/// A container that restricted allows.
const GOOD: &str = "{name: app, securityContext: {allowPrivilegeEscalation: false, runAsNonRoot: true, capabilities: {drop: \
                    [ALL]}, seccompProfile: {type: RuntimeDefault}}}";

/// The `spec` of a pod that only privileged allows.
const HOST: &str = "{hostNetwork: true, containers: [{name: app}]}";

fn good() -> String {
    format!("{{containers: [{GOOD}]}}")
}

/// An object in one line.
fn object(kind: &str, metadata: &str, spec: &str) -> String {
    let (version, spec) = match kind {
        "Pod" => ("v1", format!("spec: {spec}")),
        "PodTemplate" => ("v1", format!("template: {{spec: {spec}}}")),
        "CronJob" => ("batch/v1", format!("spec: {{jobTemplate: {{spec: {{template: {{spec: {spec}}}}}}}}}")),
        "Job" => ("batch/v1", format!("spec: {{template: {{spec: {spec}}}}}")),
        "ReplicationController" => ("v1", format!("spec: {{template: {{spec: {spec}}}}}")),
        _ => ("apps/v1", format!("spec: {{template: {{spec: {spec}}}}}")),
    };
    format!("{{apiVersion: {version}, kind: {kind}, metadata: {metadata}, {spec}}}")
}

fn pod(name: &str, spec: &str) -> String {
    object("Pod", &format!("{{name: {name}}}"), spec)
}

fn namespace(labels: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {labels}\n")
}

#[test]
fn every_kind_of_workload_is_evaluated() {
    let kinds = [
        "Pod",
        "PodTemplate",
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "Job",
        "CronJob",
        "ReplicationController",
    ];
    for kind in kinds {
        for (spec, verdict, code) in [(good().as_str(), "allow", 0), (HOST, "deny", 1)] {
            let here = Here::of("a.yaml", object(kind, "{name: web}", spec));
            assert_eq!(
                here.verdicts(&["--level", "restricted", "a.yaml"]),
                format!("{kind} default/web {verdict}")
            );
            assert_eq!(here.check(&["--level", "restricted", "a.yaml"]).code, Some(code));
        }
    }
}

#[test]
fn documents_lists_streams_and_folders_are_taken_apart() {
    let (good, bad) = (pod("good", &good()), pod("bad", HOST));
    let in_json = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"hostPID": true, "containers": [{"name": "app"}]}})
            .to_string()
    };
    let both = "Pod default/good allow; Pod default/bad deny";
    let rows = [
        ("a.yaml", format!("{good}\n---\n{bad}\n"), both),
        ("a.yaml", format!("---\n# Source: a\n\n---\n{good}\n...\n---\n{bad}"), both),
        ("a.yaml", format!("\u{feff}{good}\r\n---\r\n{bad}\r\n"), both),
        ("a.yml", format!("apiVersion: v1\nkind: List\nitems:\n- {good}\n- {bad}\n"), both),
        (
            "a.yaml",
            format!("apiVersion: v1\nkind: List\nitems: [{{apiVersion: v1, kind: List, items: [{good}]}}, {bad}]\n"),
            both,
        ),
        (
            "a.yaml",
            "apiVersion: apps/v1\nkind: DeploymentList\nitems:\n- metadata: {name: web}\n  spec: {template: {spec: \
             {hostIPC: true, containers: [{name: app}]}}}\n"
                .to_owned(),
            "Deployment default/web deny",
        ),
        ("a.json", format!("{}{}\n{}", in_json("a"), in_json("b"), in_json("c")), "Pod default/a deny; Pod default/b deny; Pod default/c deny"),
        // What a tool printed, without the name of a manifest.
        ("rendered", format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec: {HOST}\n"), "Pod default/x deny"),
        ("rendered", in_json("x"), "Pod default/x deny"),
        // A generated name, a name of nothing, and a namespace that is left open.
        ("a.yaml", object("Job", "{generateName: job-, namespace: ''}", HOST), "Job default/job- deny"),
    ];
    for (name, text, expected) in rows {
        let here = Here::of(name, &text);
        assert_eq!(here.verdicts(&["--level", "baseline", name]), expected, "{text}");
        let done =
            run::feed(&mut here.command(&["--level", "baseline", "--format", "json", "-"]), text.as_bytes());
        let printed = String::from_utf8(done.stdout).unwrap();
        assert_eq!(printed.lines().count(), expected.split("; ").count(), "{printed}");
        assert!(printed.contains("\"path\":\"stdin\""), "{printed}");
    }

    let here = Here::of("b.yaml", &bad);
    here.write("a.yml", &good);
    here.write("c.json", in_json("c"));
    here.write("README.md", "kind: regards\napiVersion: none\n");
    here.write("inside/d.yaml", &bad);
    assert_eq!(here.verdicts(&["--level", "baseline", "."]), format!("{both}; Pod default/c deny"));
    assert_eq!(
        here.verdicts(&["--level", "baseline", "inside", "a.yml"]),
        "Pod default/bad deny; Pod default/good allow"
    );
}

#[test]
fn the_level_is_the_arguments_the_namespaces_or_the_policys() {
    const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
    let host_port = "{containers: [{name: app, ports: [{containerPort: 80, hostPort: 80}]}]}";
    let in_shop =
        |spec: &str, more: &str| object("Pod", &format!("{{name: web, namespace: shop{more}}}"), spec);
    let labelled = |labels: &str| format!("{}---\n{}\n", namespace(labels), in_shop(HOST, ""));
    let unset = "give --level";
    // (manifests, arguments, verdict, a part of what is printed)
    let rows: [(String, &[&str], &str, &str); 27] = [
        (
            labelled(&format!("{{{ENFORCE}: baseline}}")),
            &[],
            "deny",
            "baseline:latest, level from namespace \"shop\" (",
        ),
        (labelled(&format!("{{{ENFORCE}: privileged}}")), &[], "allow", "privileged:latest"),
        (labelled(&format!("{{{ENFORCE}: Baseline}}")), &[], "deny", "restricted:latest"),
        (labelled(&format!("{{{ENFORCE}: ''}}")), &[], "deny", "restricted:latest"),
        // In the API's maps of texts null is the empty text.
        (labelled(&format!("{{{ENFORCE}: null}}")), &[], "deny", "restricted:latest"),
        (
            labelled(&format!("{{{ENFORCE}: baseline, {ENFORCE}-version: v1.0}}")),
            &[],
            "deny",
            "baseline:v1.0",
        ),
        (
            labelled(&format!("{{{ENFORCE}: baseline, {ENFORCE}-version: v9}}")),
            &[],
            "deny",
            "baseline:latest",
        ),
        (
            labelled(&format!("{{{ENFORCE}: baseline, {ENFORCE}-version: 1.30}}")),
            &[],
            "cannot-judge",
            "quote the value",
        ),
        (labelled(&format!("{{{ENFORCE}: true}}")), &[], "cannot-judge", "is no text"),
        (labelled("x"), &[], "cannot-judge", "metadata.labels is no mapping"),
        (labelled("{}"), &[], "cannot-judge", "has no label pod-security.kubernetes.io/enforce"),
        (labelled("{pod-security.kubernetes.io/warn: restricted}"), &[], "cannot-judge", unset),
        // Which of two holds depends on when the pod is applied.
        (
            format!(
                "{}---\n{}",
                namespace(&format!("{{{ENFORCE}: restricted}}")),
                labelled(&format!("{{{ENFORCE}: privileged}}"))
            ),
            &[],
            "cannot-judge",
            "the Namespace \"shop\" is in the manifests twice, with other labels",
        ),
        (
            format!(
                "{}---\n{}",
                namespace(&format!("{{{ENFORCE}: baseline}}")),
                labelled(&format!("{{{ENFORCE}: baseline}}"))
            ),
            &[],
            "deny",
            "baseline:latest",
        ),
        // A name that the API server completes is another name.
        (
            labelled(&format!("{{{ENFORCE}: privileged}}")).replacen(
                "  name: shop",
                "  generateName: shop",
                1,
            ),
            &[],
            "cannot-judge",
            unset,
        ),
        // --level is above all.
        (
            labelled(&format!("{{{ENFORCE}: privileged}}")),
            &["--level", "baseline:v1.24"],
            "deny",
            "baseline:v1.24, level from --level",
        ),
        (
            labelled(&format!("{{{ENFORCE}: restricted}}")),
            &["--level", "privileged"],
            "allow",
            "level from --level",
        ),
        // Nobody said anything, and that is no all-clear.
        (in_shop(HOST, ""), &[], "cannot-judge", unset),
        (
            pod("web", HOST),
            &["--namespace", "shop"],
            "cannot-judge",
            "no level is known of namespace \"shop\"",
        ),
        (
            format!("{}---\n{}\n", namespace(&format!("{{{ENFORCE}: baseline}}")), pod("web", HOST)),
            &["-n", "shop"],
            "deny",
            "namespace \"shop\"",
        ),
        (
            format!("{}---\n{}\n", namespace(&format!("{{{ENFORCE}: baseline}}")), pod("web", HOST)),
            &[],
            "cannot-judge",
            "no level is known of namespace \"default\"",
        ),
        // A pod's own annotation tightens, and an annotation that asks for nothing changes nothing.
        (
            labelled(&format!("{{{ENFORCE}: privileged}}")).replace(
                "namespace: shop",
                &format!("namespace: shop, annotations: {{{ENFORCE}: baseline}}"),
            ),
            &[],
            "deny",
            "pod annotation",
        ),
        (
            labelled(&format!("{{{ENFORCE}: baseline}}")).replace(
                "namespace: shop",
                &format!("namespace: shop, annotations: {{{ENFORCE}: privileged}}"),
            ),
            &[],
            "deny",
            "baseline:latest, level from namespace \"shop\"",
        ),
        (
            in_shop(HOST, &format!(", annotations: {{{ENFORCE}: 1}}")),
            &["--level", "privileged"],
            "cannot-judge",
            "is no text",
        ),
        // Another version says another thing.
        (
            in_shop(
                "{os: {name: windows}, securityContext: {runAsNonRoot: true}, containers: [{name: a}]}",
                "",
            ),
            &["--level", "restricted:v1.24"],
            "deny",
            "restricted:v1.24",
        ),
        (
            in_shop(
                "{os: {name: windows}, securityContext: {runAsNonRoot: true}, containers: [{name: a}]}",
                "",
            ),
            &["--level", "restricted:v1.25"],
            "allow",
            "restricted:v1.25",
        ),
        (in_shop(host_port, ""), &["--level", "baseline"], "deny", "hostPort 80"),
    ];
    for (text, arguments, verdict, part) in rows {
        let here = Here::of("a.yaml", &text);
        let done = here.check(&[arguments, &["a.yaml"]].concat());
        let line = format!("{verdict:<12} ");
        assert!(
            done.stdout.contains(&line) && done.stdout.contains(part),
            "{text}\n{verdict}, {part:?}\n{done}"
        );
        assert_eq!(
            done.code,
            Some(match verdict {
                "allow" => 0,
                "deny" => 1,
                _ => 2,
            }),
            "{text}\n{done}"
        );
    }

    // In another file of the same call, before or behind.
    let here = Here::of("ns.yaml", namespace(&format!("{{{ENFORCE}: baseline}}")));
    here.write("web.yaml", in_shop(HOST, ""));
    for paths in [["ns.yaml", "web.yaml"], ["web.yaml", "ns.yaml"], ["web.yaml", "."]] {
        assert!(here.verdicts(&paths).contains("Pod shop/web deny"), "{paths:?}");
    }
}

#[test]
fn a_policy_exempts_excepts_and_switches_our_own_control() {
    let sidecar = good().replace("name: app", "name: app, image: x") + "]}";
    let two = sidecar.replace(
        "}]}]}",
        "}, {name: proxy, image: 'quay.io/r/proxy:1', securityContext: {capabilities: {add: [NET_ADMIN]}}}]}",
    );
    let exception = |more: &str| {
        format!(
            "[defaults]\nenforce = 'baseline'\n[[exceptions]]\nnamespace = 'default'\nreason = 'r'\nexpires = 2999-01-01\n\
             controls = ['capabilities_baseline']\n{more}\n"
        )
    };
    let bad = "{containers: [{name: app, image: x, securityContext: {capabilities: {add: [NET_ADMIN]}}}]}";
    let both = two.replace("allowPrivilegeEscalation: false,", "").replace("drop: [ALL]", "add: [NET_ADMIN]");
    let volumes = |more: &str| exception(more).replace("capabilities_baseline", "hostPathVolumes");
    let mounts = |whose: &str| {
        let mount = |name: &str| {
            if name == whose {
                ", volumeMounts: [{name: h, mountPath: /h}]"
            } else {
                ", volumeMounts: [{name: e, mountPath: /e}]"
            }
        };
        format!(
            "{{volumes: [{{name: h, hostPath: {{path: /}}}}, {{name: e, emptyDir: {{}}}}], containers: [{{name: app{}}}, {{name: \
             proxy{}}}]}}",
            mount("app"),
            mount("proxy")
        )
    };
    let rows = [
        (
            "[defaults]\nenforce = 'restricted'\n[exemptions]\nnamespaces = ['default']\n".to_owned(),
            HOST,
            "exempt",
        ),
        (
            "[defaults]\nenforce = 'restricted'\n[exemptions]\nnamespaces = ['kube-system']\n".to_owned(),
            HOST,
            "deny",
        ),
        (
            "[defaults]\nenforce = 'baseline'\n[exemptions]\nruntime-classes = ['kata']\n".to_owned(),
            "{runtimeClassName: kata, hostPID: true, containers: [{name: app}]}",
            "exempt",
        ),
        ("[defaults]\nenforce = 'privileged'\n".to_owned(), HOST, "allow"),
        ("[namespaces.default]\nenforce = 'baseline'\n".to_owned(), HOST, "deny"),
        // Restricted has no control of ours, until a policy asks for it.
        (
            "[defaults]\nenforce = 'restricted'\n[controls]\nreadOnlyRootFilesystem = 'off'\n".to_owned(),
            &good(),
            "allow",
        ),
        (
            "[defaults]\nenforce = 'restricted'\n[controls]\nreadOnlyRootFilesystem = 'enforce'\n".to_owned(),
            &good(),
            "deny",
        ),
        // An exception is of the containers that it names, and of no others.
        (exception(""), bad, "allow"),
        (exception("container = 'app'"), bad, "allow"),
        (exception("container = 'proxy'"), bad, "deny"),
        (exception("container = 'proxy'"), &two, "allow"),
        (exception("container = 'proxy'\nimage = 'quay.io/r/proxy'"), &two, "allow"),
        (exception("container = 'proxy'\nimage = 'quay.io/r/other'"), &two, "deny"),
        (exception("container = 'proxy'"), &both, "deny"),
        // A volume is of those that mount it.
        (volumes("container = 'proxy'"), &mounts("proxy"), "allow"),
        (volumes("container = 'proxy'"), &mounts("app"), "deny"),
        (volumes("container = 'proxy'"), &mounts("nobody"), "deny"),
        (volumes(""), &mounts("nobody"), "allow"),
        (exception("owner = 'web'"), bad, "allow"),
        (exception("owner = 'api'"), bad, "deny"),
    ];
    for (policy, spec, verdict) in rows {
        let here = Here::of("a.yaml", object("Deployment", "{name: web}", spec));
        here.write("policy.toml", &policy);
        let verdicts = here.verdicts(&["--policy", "policy.toml", "a.yaml"]);
        assert_eq!(verdicts, format!("Deployment default/web {verdict}"), "{policy}\n{spec}");
    }
    // What only the node can know is not taken from the name of the workload, and the owner is as the node derives it.
    let web = |kind: &str, name: &str| object(kind, name, bad);
    let rows = [
        (web("Pod", "{name: web-0}"), "pod = 'web-0'", "allow", ""),
        (web("Pod", "{name: web-0}"), "pod = 'web'", "deny", ""),
        (
            web("Pod", "{generateName: web-0}"),
            "pod = 'web-0'",
            "deny",
            "note       the exception of pod \"web-0\" from",
        ),
        (web("Pod", "{name: web-0}"), "owner = 'web'", "allow", ""),
        (web("Pod", "{generateName: web-}"), "owner = 'web'", "allow", ""),
        (
            web("Deployment", "{name: web}"),
            "pod = 'web'",
            "deny",
            "the names of the pods are known on the node only",
        ),
        (web("Deployment", "{name: web}"), "pod = 'web'\nowner = 'api'", "deny", ""),
        (web("StatefulSet", "{name: web}"), "pod = 'web-0'", "deny", "pod \"web-0\""),
        (web("StatefulSet", "{name: web}"), "owner = 'web'", "allow", ""),
        (web("StatefulSet", "{name: web-0}"), "owner = 'web-0'", "allow", ""),
        (web("DaemonSet", "{name: web-0}"), "owner = 'web'", "allow", ""),
        (web("DaemonSet", "{name: web-0}"), "owner = 'web-0'", "deny", ""),
        (web("Deployment", "{name: web-0}"), "owner = 'web-0'", "allow", ""),
    ];
    for (text, keys, verdict, note) in rows {
        let here = Here::of("a.yaml", &text);
        here.write("policy.toml", exception(keys));
        let done = here.check(&["--policy", "policy.toml", "a.yaml"]);
        assert!(done.stdout.starts_with(verdict) && done.stdout.contains(note), "{keys}\n{text}\n{done}");
        assert_eq!(done.stdout.contains("  note "), !note.is_empty(), "{keys}\n{text}\n{done}");
        for format in ["json", "sarif", "junit"] {
            let done = here.check(&["--policy", "policy.toml", "--format", format, "a.yaml"]);
            assert_eq!(done.stdout.contains("is not applied"), !note.is_empty(), "{keys}\n{text}\n{done}");
        }
    }
    // Without a policy ours is reported, and decides nothing.
    let here = Here::of("a.yaml", pod("web", &good()));
    let done = here.check(&["--level", "restricted", "a.yaml"]);
    assert!(done.code == Some(0) && done.stdout.contains("reported only"), "{done}");
}

#[test]
fn admission_sees_a_pod_with_its_defaults_and_with_its_ephemeral_containers() {
    let rows = [
        ("{hostNetwork: true, containers: [{name: a, ports: [{containerPort: 80}]}]}", "uses hostPort 80"),
        (
            "{containers: [{name: app}], ephemeralContainers: [{name: debug, securityContext: {privileged: true}}]}",
            "container \"debug\" must not set",
        ),
        (
            "{containers: [{name: app}], initContainers: [{name: init, securityContext: {privileged: true}}]}",
            "container \"init\" must not set",
        ),
        ("{containers: [{name: app}], volumes: [{name: a, hostPath: {path: /}}]}", "volume \"a\""),
    ];
    for (spec, part) in rows {
        let here = Here::of("a.yaml", pod("web", spec));
        let done = here.check(&["--level", "baseline", "a.yaml"]);
        assert!(done.code == Some(1) && done.stdout.contains(part), "{spec}: {part}\n{done}");
    }
    // For kubectl the line breaks of YAML 1.1 end a comment: what follows is a field.
    for end in ["\u{85}", "\u{2028}", "\u{2029}"] {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers: [{{name: app}}] # x{end}  hostPID: true\n"
        );
        let done = Here::of("a.yaml", &text).check(&["--level", "baseline", "a.yaml"]);
        assert!(done.code == Some(1) && done.stdout.contains("hostPID=true"), "{end:?}\n{done}");
    }
    // A volume without a source is an emptyDir.
    let here =
        Here::of("a.yaml", pod("web", &good().replace("{containers", "{volumes: [{name: a}], containers")));
    assert_eq!(here.check(&["--level", "restricted", "a.yaml"]).code, Some(0));
}

/// Two workloads of which one is refused, and the lines to know.
const SHOP: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: web
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  template:
    metadata:
      annotations:
        container.apparmor.security.beta.kubernetes.io/app: unconfined
    spec:
      hostNetwork: false
      hostPID: true
      securityContext:
        sysctls:
        - {name: kernel.msgmax, value: '1'}
      initContainers:
      - name: init
        image: x
      containers:
      - name: app
        image: x
        securityContext:
          privileged: true
          capabilities:
            add: [SYS_ADMIN]
        ports:
        - {containerPort: 80, hostPort: 80}
      volumes:
      - name: a
        hostPath: {path: /}
---
apiVersion: v1
kind: Pod
metadata: {name: good, namespace: shop}
spec: {containers: [{name: app}]}
";

/// Each control that SHOP violates at baseline, and its line.
const LINES: [(&str, u64); 7] = [
    ("appArmorProfile", 15),
    ("capabilities_baseline", 30),
    ("hostNamespaces", 18),
    ("hostPathVolumes", 34),
    ("hostPorts", 32),
    ("privileged", 29),
    ("sysctls", 20),
];

#[test]
fn text_names_the_file_the_document_and_the_lines() {
    let here = Here::of("shop.yaml", SHOP);
    let done = here.check(&["--level", "baseline", "shop.yaml"]);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines[0], "deny         Deployment shop/web", "{done}");
    assert_eq!(lines[1], "  file       shop.yaml:6 (document 2)", "{done}");
    assert_eq!(lines[2], "  level      baseline:latest, level from --level", "{done}");
    for (control, line) in LINES {
        let said = lines
            .iter()
            .find(|said| said.contains(&format!("{control}: ")))
            .unwrap_or_else(|| panic!("{done}"));
        assert!(said.ends_with(&format!(" (line {line})")), "{control}: {line}\n{said}");
    }
    // One fix for the pod and one for each container, once each.
    assert_eq!(lines.iter().filter(|line| line.starts_with("  fix ")).count(), 2, "{done}");
    assert!(
        lines.contains(&"allow        Pod shop/good")
            && lines.contains(&"  file       shop.yaml:38 (document 3)"),
        "{done}"
    );
    assert_eq!(
        lines.last(),
        Some(&"1 allowed, 1 refused, 0 could not be judged; 1 other object is no workload"),
        "{done}"
    );
}

#[test]
fn json_has_the_documented_keys() {
    let here = Here::of("shop.yaml", SHOP);
    let done = here.check(&["--level", "baseline", "--format", "json", "shop.yaml"]);
    let [denied, allowed] = &objects(&done)[..] else { panic!("{done}") };
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(denied), "because document findings fixes level line path verdict version workload");
    assert_eq!(keys(allowed), "because document findings level line path verdict version workload");
    assert_eq!(denied["workload"], json!({"kind": "Deployment", "namespace": "shop", "name": "web"}));
    assert_eq!(
        (&denied["line"], &denied["document"], &denied["path"]),
        (&json!(6), &json!(2), &json!("shop.yaml"))
    );
    let findings = denied["findings"].as_array().unwrap();
    for finding in findings {
        assert_eq!(keys(finding), "certainty control detail fix line origin reason");
    }
    let found: BTreeMap<_, _> = findings
        .iter()
        .map(|one| (one["control"].as_str().unwrap(), one["line"].as_u64().unwrap()))
        .collect();
    assert_eq!(found, BTreeMap::from(LINES));
    let fixes = denied["fixes"].as_array().unwrap();
    assert_eq!(fixes.iter().map(|fix| &fix["container"]).collect::<Vec<_>>(), [&Value::Null, &json!("app")]);
    assert!(fixes.iter().all(|fix| fix["yaml"].as_str().unwrap().contains("spec:")), "{fixes:?}");
}

#[test]
fn sarif_points_at_the_lines() {
    let here = Here::of("a b/shop.yaml", SHOP);
    here.write("a b/broken.yaml", "a: 1\nb: [\n");
    let done = here.check(&["--level", "baseline", "--format", "sarif", "a b/shop.yaml", "a b/broken.yaml"]);
    assert_eq!(done.code, Some(2), "{done}");
    let log: Value = serde_json::from_str(&done.stdout).unwrap();
    let place = |result: &Value| {
        let place = &result["locations"][0]["physicalLocation"];
        (
            place["artifactLocation"]["uri"].as_str().unwrap().to_owned(),
            place["region"]["startLine"].as_u64().unwrap(),
        )
    };
    let run = &log["runs"][0];
    let mut found = BTreeMap::new();
    for result in run["results"].as_array().unwrap() {
        let (uri, line) = place(result);
        assert_eq!(uri, "a%20b/shop.yaml");
        assert!(result["message"]["text"].as_str().unwrap().starts_with("Deployment shop/web: "), "{result}");
        found.insert(result["ruleId"].as_str().unwrap(), line);
    }
    assert_eq!(found, BTreeMap::from(LINES));
    let faults = run["invocations"][0]["toolExecutionNotifications"].as_array().unwrap();
    assert_eq!(faults.iter().map(place).collect::<Vec<_>>(), [("a%20b/broken.yaml".to_owned(), 2)]);
    assert!(!done.stdout.contains(": null,"), "SARIF has no null\n{done}");
}

/// The events of an XML document, as Python's parser sees it: anything but well-formed XML is an error.
fn xml(text: &str) -> Option<Value> {
    const SCRIPT: &str = "import json,sys,xml.etree.ElementTree as E\n\
                          def v(e): return {'tag':e.tag,'attributes':e.attrib,'text':e.text or '','children':[v(c) for c in e]}\n\
                          print(json.dumps(v(E.fromstring(sys.stdin.buffer.read()))))";
    let python = needs::program("python3")?;
    let done = run::feed(Command::new(python).args(["-c", SCRIPT]), text.as_bytes());
    assert!(done.status.success(), "{}\n{text}", String::from_utf8_lossy(&done.stderr));
    Some(serde_json::from_slice(&done.stdout).unwrap())
}

#[test]
fn junit_is_xml_whatever_the_names_are() {
    let hostile = "\"a<b>&\\u0000\\u001b[31m\\ufffe\\ud83d\\ude00']]>\"";
    let here = Here::of("shop.yaml", SHOP);
    here.write("broken.yaml", "a: [");
    here.write("exempt.yaml", object("Pod", "{name: x, namespace: kube-system}", HOST));
    here.write(
        "hostile.json",
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":{hostile}}},\"spec\":{{\"containers\":[{{\"name\":\
             {hostile},\"securityContext\":{{\"privileged\":true}}}}]}}}}"
        ),
    );
    here.write(
        "policy.toml",
        "[defaults]\nenforce = 'baseline'\n[exemptions]\nnamespaces = ['kube-system']\n",
    );
    let arguments = [
        "--policy",
        "policy.toml",
        "--format",
        "junit",
        "shop.yaml",
        "broken.yaml",
        "exempt.yaml",
        "hostile.json",
    ];
    let done = here.check(&arguments);
    assert_eq!(done.code, Some(2), "{done}");
    let Some(log) = xml(&done.stdout) else {
        skip("manifests::junit_is_xml_whatever_the_names_are", "python3");
        return;
    };
    let suite = &log["children"][0];
    assert_eq!((&log["tag"], &suite["tag"]), (&json!("testsuites"), &json!("testsuite")));
    let counts = json!({"name": "pss-guard", "tests": "5", "failures": "2", "errors": "1", "skipped": "1"});
    assert_eq!(suite["attributes"], counts);
    let cases = suite["children"].as_array().unwrap();
    let shown = cases.iter().map(|case| {
        assert_eq!(case["tag"], "testcase");
        let what = case["children"]
            .as_array()
            .unwrap()
            .iter()
            .map(|child| child["tag"].as_str().unwrap())
            .collect::<Vec<_>>();
        let attribute = |name: &str| case["attributes"][name].as_str().unwrap_or("-").to_owned();
        format!("{} {}:{} {}", attribute("name"), attribute("file"), attribute("line"), what.join(","))
    });
    let expected = [
        "Deployment shop/web shop.yaml:6 failure",
        "Pod shop/good shop.yaml:38 ",
        "broken.yaml broken.yaml:1 error",
        "Pod kube-system/x exempt.yaml:1 skipped",
        "Pod default/a<b>&\u{fffd}\u{fffd}[31m\u{fffd}\u{1f600}']]> hostile.json:1 failure",
    ];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
    let failure = &cases[0]["children"][0];
    assert_eq!(
        failure["attributes"],
        json!({"message": "violates PodSecurity \"baseline:latest\"", "type": "baseline:latest"})
    );
    assert!(failure["text"].as_str().unwrap().contains("line 29: privileged: "), "{failure}");
}

/// Names and texts.
type Files<'t> = &'t [(&'t str, &'t str)];

#[test]
fn the_exit_code_is_the_same_in_every_format() {
    let (good, bad) = (pod("good", &good()), pod("bad", HOST));
    let config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    // (files, exit code, a part of what is printed on either channel as text)
    let rows: [(Files<'_>, i32, &str); 8] = [
        (&[("a.yaml", &good)], 0, "allow"),
        (&[("a.yaml", &bad)], 1, "deny"),
        (&[("a.yaml", &good), ("b.yaml", &bad)], 1, "1 allowed, 1 refused, 0 could not be judged"),
        (&[("a.yaml", &bad), ("b.yaml", "a: [")], 2, "0 allowed, 1 refused, 1 could not be judged"),
        (&[("a.yaml", config_map)], 2, "there is no pod and no workload in a.yaml"),
        (&[("a.yaml", "")], 2, "there is no pod and no workload in a.yaml"),
        (&[("a.yaml", "# {{ nothing }}\n---\n")], 2, "there is no pod and no workload in a.yaml"),
        (
            &[("a.yaml", config_map), ("b.yaml", &good)],
            0,
            "1 allowed, 0 refused, 0 could not be judged; 1 other object is no workload",
        ),
    ];
    for (files, code, part) in rows {
        let here = Here::new();
        for (name, text) in files {
            here.write(name, text);
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        for format in ["text", "json", "sarif", "junit"] {
            let done = here.check(&[&["--level", "baseline", "--format", format], &names[..]].concat());
            assert_eq!(done.code, Some(code), "{done}");
            assert!(format != "text" || done.to_string().contains(part), "{part}\n{done}");
        }
    }
    let here = Here::new();
    let done = run::feed(&mut here.command(&["--level", "baseline", "-"]), b"");
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("no workload in standard input"));
}

#[test]
fn what_is_no_manifest_is_an_error_that_helps() {
    let deep = format!("a: {}\n", "[".repeat(200));
    let deepest = format!("{{\"a\": {}\n", "[".repeat(100_000));
    let bomb = (0..30).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        format!("{text}a{}: &a{} [{}]\n", level + 1, level + 1, vec![format!("*a{level}"); 9].join(", "))
    });
    let utf_16: Vec<u8> = "\u{feff}kind: Pod\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let million = "x".repeat(1 << 20);
    let pod_of = |metadata: &str| object("Pod", metadata, "{containers: [{name: app}]}");
    // (text, the line, a part of what is printed)
    let rows: [(&[u8], &str, &str); 28] = [
        (
            b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Release.Name }}-x\n",
            ":4",
            "rendered first: helm template",
        ),
        (b"{{- if .Values.on }}\nkind: Pod\n{{- end }}\n", ":1", "rendered first: helm template"),
        (
            b"a: 1\nb:\n{{- with .Values.x }}\n  c: {{ . }}\n{{- end }}\n",
            ":4",
            "rendered first: helm template",
        ),
        (b"a: 1\nb: 2\na: 3\n", ":3", "the key \"a\" occurs twice"),
        (b"{\"a\": 1,\n\"a\": 2}", ":2", "the key \"a\" occurs twice"),
        (b"{\"a\": 1,\n\"b\": ]}", ":2", "expected a value, found \"]\""),
        (b"a:\n\t- b\n", ":2", "found character that cannot start any token"),
        (b"a: b: c\n", ":1", "mapping values are not allowed"),
        (b"a: \"b\n", ":", "unexpected end of stream"),
        (b"a: 1\nb: \x00\n", ":2", "U+0000"),
        (b"a: \x1b[31m\n", ":1", "U+001B"),
        (b"\xff\xfe", "", "UTF-16, as PowerShell"),
        (&utf_16, "", "UTF-16, as PowerShell"),
        (deep.as_bytes(), ":1", "more than 100 levels of nesting"),
        (deepest.as_bytes(), ":1", "more than 100 levels of nesting"),
        (bomb.as_bytes(), ":", "more than 2000000 values, aliases counted"),
        (b"a: &a [*a]\n", ":1", "the anchor contains itself"),
        (b"a: *b\n", ":1", "no anchor \"b\" before its alias"),
        (b"? [a]\n: b\n", ":1", "a key of a mapping must be a scalar"),
        (b"a: .inf\n", ":1", "the number .inf cannot be written in JSON"),
        (b"- a\n", ":1", "\"apiVersion\" is missing"),
        (b"text\n", ":1", "\"apiVersion\" is missing"),
        (b"apiVersion: v1\nkind: Pod\nmetadata: {name: no}\nspec: {}\n", ":3", "metadata.name is no text"),
        (
            b"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  hostPID: 'true'\n",
            ":5",
            "spec.hostPID: invalid type",
        ),
        (
            b"apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    ports: 80\n",
            ":6",
            "spec.containers[0].ports: ",
        ),
        (b"apiVersion: apps/v1\nkind: Deployment\nspec: {}\n", ":1", "Deployment without spec.template.spec"),
        (b"apiVersion: v1\nkind: List\nitems: {a: 1}\n", ":3", "items of List is no list"),
        (b"apiVersion: v1\nkind: List\nitems:\n- 1\n", ":4", "\"apiVersion\" is missing"),
    ];
    for (text, line, part) in rows {
        let here = Here::of("a.yaml", text);
        let done = here.check(&["--level", "restricted", "a.yaml"]);
        let shown = String::from_utf8_lossy(&text[..text.len().min(300)]);
        assert_eq!(done.code, Some(2), "{shown}\n{done}");
        assert!(
            done.stdout.contains("cannot-judge ") && done.stdout.contains(part),
            "{shown}: {part}\n{done}"
        );
        assert!(done.stdout.contains(&format!("a.yaml{line}")), "{shown}: {line}\n{done}");
    }
    // Of one malformed file the others know nothing.
    let here = Here::of("a.yaml", "a: 1\nb: [!c, d]\n");
    here.write("b.yaml", pod_of("{name: web}"));
    let done = here.check(&["--level", "baseline", "."]);
    assert_eq!(done.code, Some(2), "{done}");
    for part in [
        "a.yaml:2",
        "2:7: a comma right behind a tag",
        "allow        Pod default/web",
        "1 allowed, 0 refused, 1 could",
    ] {
        assert!(done.stdout.contains(part), "{part}\n{done}");
    }
    // Names that are none, or that are for the terminal.
    let rows = [
        (pod_of("{name: a, namespace: ../../etc}"), 2, "\"../../etc\" is no name of a namespace"),
        (pod_of("{name: a, namespace: '{{ .Values.ns }}'}"), 2, "is no name of a namespace"),
        (pod_of(&format!("{{name: a, namespace: {million}}}")), 2, "is no name of a namespace"),
        (pod_of(&format!("{{name: {million}}}")), 0, "allow"),
        (pod_of("{name: \"a\\e[31m\\u202e\\nallow\"}"), 0, "a\\u{1b}[31m\\u{202e}\\nallow"),
        (
            object(
                "Pod",
                "{name: a}",
                "{containers: [{name: \"\\e[31m\", securityContext: {privileged: true}}]}",
            ),
            1,
            "\\u{1b}[31m",
        ),
    ];
    for (text, code, part) in rows {
        let here = Here::of("a.yaml", &text);
        for format in ["text", "json", "sarif", "junit"] {
            let done = here.check(&["--level", "baseline", "--format", format, "a.yaml"]);
            assert_eq!(done.code, Some(code), "{format} {part}");
            assert!(!done.stdout.contains('\u{1b}'), "{format} {part}");
            assert!(
                format != "text" || done.stdout.contains(part),
                "{part}\n{}",
                &done.stdout[..done.stdout.len().min(2000)]
            );
        }
        let done = here.check(&["--namespace", "../../etc", "a.yaml"]);
        assert_eq!(done.code, Some(2), "{part}");
    }
}

#[test]
fn nothing_that_is_named_makes_it_wait() {
    let here = Here::new();
    let path = |name: &str| here.folder.path().join(name);
    mkfifo(&path("fifo.yaml"), Mode::S_IRWXU).unwrap();
    fs::create_dir(path("folder.yaml")).unwrap();
    std::os::unix::fs::symlink("loop.yaml", path("loop.yaml")).unwrap();
    fs::File::create(path("huge.yaml")).unwrap().set_len(65 << 20).unwrap();
    // A million documents, and as many as are too many values.
    here.write("million.yaml", "---\n".repeat(1_000_000) + &pod("a", HOST));
    here.write("many.yaml", "a: b\n---\n".repeat(1_000_001));
    here.write(
        "wide.yaml",
        format!("apiVersion: v1\nkind: ConfigMap\ndata: {{{}}}\n", "k: v, ".repeat(100_000)),
    );
    let rows = [
        ("fifo.yaml", "fifo.yaml"),
        ("folder.yaml", "folder.yaml"),
        ("loop.yaml", "loop.yaml"),
        ("huge.yaml", "larger than 67108864 bytes"),
        ("missing.yaml", "No such file"),
        ("/dev/zero", "/dev/zero"),
        ("many.yaml", "more than 2000000 values"),
        ("wide.yaml", "occurs twice"),
    ];
    for (name, part) in rows {
        let begin = Instant::now();
        let done = here.check(&["--level", "baseline", name]);
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.stdout.contains("cannot-judge") && done.stdout.contains(part), "{part}\n{done}");
        assert!(begin.elapsed() < Duration::from_secs(30), "{name}: {:?}", begin.elapsed());
    }
    assert_eq!(here.verdicts(&["--level", "baseline", "million.yaml"]), "Pod default/a deny");
}

#[test]
fn upstreams_fixtures_get_the_verdict_that_their_names_say() {
    let Some(oracle) = oracle("manifests::upstreams_fixtures_get_the_verdict_that_their_names_say") else {
        return;
    };
    let testdata = oracle.module.join("test/testdata");
    let here = Here::new();
    let mut count = 0;
    for level in ["baseline", "restricted"] {
        for version in fs::read_dir(testdata.join(level)).unwrap() {
            let version = version.unwrap();
            let minor = version.file_name().into_string().unwrap();
            let folders = ["pass", "fail"].map(|outcome| version.path().join(outcome));
            let folders: Vec<&str> = folders
                .iter()
                .filter(|folder| folder.exists())
                .map(|folder| folder.to_str().unwrap())
                .collect();
            let level = format!("{level}:{minor}");
            let done = here.check(&[&["--level", &level, "--format", "json"], &folders[..]].concat());
            let mut wrong = String::new();
            for object in objects(&done) {
                let path = object["path"].as_str().unwrap();
                let expected = if path.contains("/pass/") { "allow" } else { "deny" };
                if object["verdict"] != expected {
                    let _ = writeln!(wrong, "{path}: {}", object["verdict"]);
                }
                count += 1;
            }
            assert!(wrong.is_empty(), "{level}\n{wrong}");
        }
    }
    assert!(count >= 4537, "{count}");
}

/// kubectl applies what lies beside a config.json, so that must not hide it.
#[test]
fn a_container_beside_manifests_hides_none() {
    let config = r#"{"ociVersion": "1.2.0", "process": {"user": {"uid": 1000}}, "root": {"path": "rootfs"}, "linux": {}}"#;
    let pod = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {HOST}\n");
    for place in ["config.json", "containers/app/config.json"] {
        // A pod.yaml as well: a case has what was observed beside it.
        for name in ["web.yaml", "pod.yaml"] {
            let here = Here::of(&format!("d/{name}"), &pod);
            here.write(&format!("d/{place}"), config);
            let said = here.verdicts(&["--level", "baseline", "d"]);
            assert!(said.contains("Pod default/web deny; ? ?/? "), "{place} {name}: {said}");
        }
    }
    let here = Here::of("d/pod.yaml", &pod);
    here.write("d/containers/app/config.json", config);
    here.write("d/containers/app/observed.json", "{}");
    let done = here.check(&["--level", "baseline", "d"]);
    assert!(!done.stdout.contains("Pod default/web") && done.stderr.is_empty(), "{done}");
    // Beside manifests that is worth a line: somebody else may have made it look like a case.
    here.write("d/good.yaml", pod.replace("hostNetwork: true, ", "").replace("name: web", "name: good"));
    let done = here.check(&["--level", "baseline", "d"]);
    assert!(!done.stdout.contains("Pod default/web"), "{done}");
    assert!(done.stderr.contains("the containers are evaluated, and not d/pod.yaml; name it"), "{done}");
    // Nor does a name that is nothing but an extension, and what is a list to kubectl is no container.
    let here = Here::of("d/.yaml", &pod);
    here.write("d/good.yaml", pod.replace("hostNetwork: true, ", "").replace("name: web", "name: good"));
    assert_eq!(here.verdicts(&["--level", "baseline", "d"]), "Pod default/web deny; Pod default/good allow");
    here.write("list.json", config.replace("\"linux\"", r#""kind": "List", "items": [], "linux""#));
    assert_eq!(here.check(&["--level", "baseline", "list.json"]).code, Some(2));
}

/// What is found beside manifests, or instead of them, in repositories and pipelines.
#[test]
fn what_other_programs_read_or_write_is_passed_over_or_has_a_way_out() {
    let good = pod("web", &good());
    let of_action = "name: ci\non: [push]\njobs: {a: {steps: []}}\n";
    let rollout = format!(
        "apiVersion: argoproj.io/v1\nkind: Rollout\nmetadata: {{name: a}}\nspec: {{template: {{spec: {HOST}}}}}\n---\n{good}"
    );
    let report = format!(
        "NAME: web\nLAST DEPLOYED: Sun Nov 29 07:00:00 2026\nSTATUS: pending-install\nMANIFEST:\n---\n{good}\n---\nNOTES:\n1. Run:\n"
    );
    let marked = format!("\u{feff}{good}\n---\r\n\u{feff}{good}\n---\n\u{feff}{good}\n");
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(good.bytes().flat_map(|byte| [byte, 0])).collect();
    let render = "render it first: ";
    // (the file beside a good pod, what is named, exit code, a part of what is printed)
    let rows: [(&str, &[u8], &str, i32, &str); 16] = [
        (
            "d/ci.yml",
            of_action.as_bytes(),
            "d",
            0,
            "1 allowed, 0 refused, 0 could not be judged; 1 other object",
        ),
        ("d/ci.yml", of_action.as_bytes(), "d/ci.yml", 2, "no Kubernetes object: \"apiVersion\" is missing"),
        // A misspelt key is no other program's file.
        (
            "d/b.yaml",
            b"apiVersoin: v1\nkind: Pod\n",
            "d",
            2,
            "no Kubernetes object: \"apiVersion\" is missing",
        ),
        ("d/b.yaml", b"- a\n", "d", 2, "no Kubernetes object"),
        // Its patches can change any of the manifests beside it.
        ("d/kustomization.yaml", b"resources: [a.yaml]\n", "d", 2, "render it first: kustomize build"),
        ("d/b.yaml", b"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n", "d", 2, render),
        (
            "d/b.yaml",
            b"apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n",
            "d",
            0,
            "1 other object",
        ),
        ("d/Chart.yaml", b"apiVersion: v2\nname: web\n", "d", 2, "render it first: helm template"),
        ("d/values.yaml", b"image: nginx\n", "d", 2, "render it first: helm template"),
        (
            "d/b.yaml",
            b"{{- if .Values.web }}\nkind: Pod\n{{- end }}\n",
            "d",
            2,
            "must be rendered first: helm template",
        ),
        ("d/b.yaml", report.as_bytes(), "d", 2, "use helm template or helm get manifest"),
        (
            "d/b.yaml",
            rollout.as_bytes(),
            "d/b.yaml",
            0,
            "1 allowed, 0 refused, 0 could not be judged; 1 other object",
        ),
        ("d/b.yaml", marked.as_bytes(), "d/b.yaml", 0, "3 allowed"),
        ("d/b.yaml", &wide, "d", 2, "UTF-16, as PowerShell writes it"),
        ("e/in/b.yaml", of_action.as_bytes(), "e", 2, "folders inside are not read"),
        ("e/ci.yml", of_action.as_bytes(), "e", 2, "there is no pod and no workload in e"),
    ];
    for (file, text, named, code, part) in rows {
        let here = Here::of("d/a.yaml", &good);
        here.write(file, text);
        let done = here.check(&["--level", "restricted", named]);
        assert_eq!(done.code, Some(code), "{file} {part}\n{done}");
        assert!(done.stdout.contains(part) || done.stderr.contains(part), "{file} {part}\n{done}");
    }
    let crlf = good.replace('\n', "\r\n");
    let here = Here::of("a.yaml", format!("---\r\n\r\n---\r\n{crlf}"));
    assert_eq!(here.verdicts(&["--level", "restricted", "a.yaml"]), "Pod default/web allow");
}

/// What the API server drops, or refuses, is not what somebody meant.
#[test]
fn what_the_api_server_does_not_know_is_named_and_a_pod_has_containers() {
    let host = good().replace("{containers", "{hostnetwork: true, containers");
    let of_pod = good().replace("{containers", "{securityContext: {privileged: true}, containers");
    let rows: [(&str, String, i32, &str, &str); 6] = [
        ("misspelt", host, 0, "allow", "unknown field spec.hostnetwork (line 1): did you mean hostNetwork?"),
        (
            "in another object",
            of_pod,
            0,
            "allow",
            "spec.securityContext.privileged (line 1): it is a field of securityContext of a container",
        ),
        (
            "containers misspelt",
            good().replace("{containers", "{containres"),
            2,
            "cannot-judge",
            "spec.containres (line 1): did you mean containers?",
        ),
        (
            "no containers",
            "{hostNetwork: true, containers: []}".to_owned(),
            2,
            "cannot-judge",
            "the pod has no containers (spec.containers), and the API server refuses it",
        ),
        ("a field of a newer API", good().replace("{containers", "{newField: 1, containers"), 0, "allow", ""),
        (
            "denied as well",
            "{hostNetwork: true, hostpid: true, containers: [{name: a}]}".to_owned(),
            1,
            "deny",
            "did you mean hostPID?",
        ),
    ];
    for (what, spec, code, verdict, says) in rows {
        for kind in ["Pod", "Deployment", "CronJob"] {
            let here = Here::of("a.yaml", object(kind, "{name: web}", &spec));
            for format in ["text", "json", "sarif", "junit"] {
                let done = here.check(&["--level", "restricted", "--format", format, "a.yaml"]);
                let is_said = done.stdout.contains(says)
                    && (!says.is_empty() || !done.stdout.contains("unknown field"));
                assert!(done.code == Some(code) && is_said, "{what}, {kind}, {format}\n{done}");
            }
            assert_eq!(
                here.verdicts(&["--level", "restricted", "a.yaml"]),
                format!("{kind} default/web {verdict}")
            );
        }
    }
}
