//! What do the policy's settings make of a finding? The hook's exit code and its events, setting by setting.

use std::fs;

use serde_json::Value;

use crate::support::needs;
use crate::support::node::Node;
use crate::support::run::feed;

/// Exceptions for the three proven violations of [`wrong`].
fn exceptions(namespace: &str, container: &str, expires: &str) -> String {
    format!(
        "[[exceptions]]\nnamespace = '{namespace}'\ncontainer = '{container}'\nreason = 'r'\nexpires = {expires}\n\
         controls = ['allowPrivilegeEscalation', 'runAsNonRoot', 'readOnlyRootFilesystem']\n"
    )
}

/// Makes the container of a node violate restricted three times and look like a fourth; baseline allows it.
fn wrong(node: &Node) {
    let path = node.config("shop");
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    spec["process"]["user"]["uid"] = 0.into();
    spec["process"]["noNewPrivileges"] = false.into();
    spec["root"]["readonly"] = false.into();
    fs::write(path, spec.to_string()).unwrap();
}

const PROVEN: &str = "allowPrivilegeEscalation,runAsNonRoot,readOnlyRootFilesystem";
const ALL: &str = "allowPrivilegeEscalation,runAsNonRoot,runAsUser,readOnlyRootFilesystem";

/// What is written down: the decision and its controls.
type Events<'a> = &'a [(&'a str, &'a str)];

#[test]
fn every_setting_has_the_effect_that_it_promises() {
    if !needs::can_run("every_setting_has_the_effect_that_it_promises", &[]) {
        return;
    }
    let levels = |enforce: &str, audit: &str, warn: &str| {
        format!("[defaults]\nenforce = '{enforce}'\naudit = '{audit}'\nwarn = '{warn}'\n")
    };
    let enforce = |more: &str| format!("mode = 'enforce'\n{more}");
    let restricted = levels("restricted", "privileged", "privileged");
    let excepted = |namespace, container, expires| {
        enforce(&format!("{restricted}{}", exceptions(namespace, container, expires)))
    };
    let both = levels("privileged", "restricted", "restricted");
    let ours =
        |setting: &str| enforce(&format!("{restricted}[controls]\nreadOnlyRootFilesystem = '{setting}'\n"));
    let two = "allowPrivilegeEscalation,runAsNonRoot";
    let rows: &[(&str, String, &[&str], i32, Events<'_>)] = &[
        ("enforce mode", enforce(&restricted), &[], 23, &[("denied", PROVEN)]),
        ("audit mode", restricted.clone(), &[], 0, &[("would-deny", PROVEN)]),
        (
            "audit mode, all levels alike",
            levels("restricted", "restricted", "restricted"),
            &[],
            0,
            &[("would-deny", PROVEN)],
        ),
        ("audit and warn alike", enforce(&both), &[], 0, &[("audit", ALL)]),
        (
            "audit and warn of two versions",
            enforce(&format!("{both}warn-version = 'v1.22'\n")),
            &[],
            0,
            &[("audit", ALL), ("warn", PROVEN)],
        ),
        ("warn alone", enforce(&levels("privileged", "baseline", "restricted")), &[], 0, &[("warn", ALL)]),
        ("nothing to say", enforce(&levels("baseline", "privileged", "baseline")), &[], 0, &[]),
        (
            "log-allowed",
            enforce(&format!("log-allowed = true\n{}", levels("baseline", "privileged", "baseline"))),
            &[],
            0,
            &[("allowed", "")],
        ),
        ("an exception", excepted("shop", "app", "2999-01-01"), &[], 0, &[("exception", PROVEN)]),
        ("an expired exception", excepted("shop", "app", "2000-01-01"), &[], 23, &[("denied", PROVEN)]),
        ("another container's", excepted("shop", "api", "2999-01-01"), &[], 23, &[("denied", PROVEN)]),
        ("another namespace's", excepted("shops", "app", "2999-01-01"), &[], 23, &[("denied", PROVEN)]),
        (
            "on-suspect",
            format!("on-suspect = 'deny'\n{}", excepted("shop", "app", "2999-01-01")),
            &[],
            28,
            &[("denied", "runAsUser")],
        ),
        ("our own control, audited", ours("audit"), &[], 23, &[("denied", two)]),
        ("our own control, off", ours("off"), &[], 23, &[("denied", two)]),
        (
            "an exempt namespace",
            enforce(&format!("{restricted}[exemptions]\nnamespaces = ['shop']\n")),
            &[],
            0,
            &[("exempt", "")],
        ),
        (
            "an exempt runtime class",
            enforce(&format!("{restricted}[exemptions]\nruntime-classes = ['gpu']\n")),
            &["--runtime-handler", "gpu"],
            0,
            &[("exempt", "")],
        ),
        (
            "another runtime class",
            enforce(&format!("{restricted}[exemptions]\nruntime-classes = ['gpu']\n")),
            &["--runtime-handler=gp"],
            23,
            &[("denied", PROVEN)],
        ),
        (
            "a namespace that nobody knows",
            enforce("on-unknown-namespace = 'deny'\non-fault = 'allow'\n"),
            &[],
            2,
            &[("fault", "")],
        ),
        (
            "a namespace that nobody knows, audit mode",
            "on-unknown-namespace = 'deny'\n".to_owned(),
            &[],
            0,
            &[("fault", "")],
        ),
    ];
    for (name, policy, arguments, code, expected) in rows {
        let node = Node::new(policy);
        wrong(&node);
        // The folder is there, and this namespace is not in it.
        node.file("run/pss-guard/namespaces/other.json", "{}");
        let output = feed(node.hook_command().args(*arguments), node.state().as_bytes());
        assert_eq!(output.status.code(), Some(*code), "{name}: {output:?}\n{policy}");
        let events = node.events();
        let field = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let seen: Vec<(String, String)> =
            events.iter().map(|event| (field(event, "PSS_DECISION"), field(event, "PSS_CONTROLS"))).collect();
        let seen: Vec<(&str, &str)> = seen.iter().map(|(kind, controls)| (&**kind, &**controls)).collect();
        assert_eq!(seen, *expected, "{name}\n{policy}");
        for event in &events {
            let message = field(event, "MESSAGE");
            assert!(!message.contains(": ;") && !message.contains("  "), "{name}: {message}");
        }
        let stderr = String::from_utf8(output.stderr).unwrap();
        // The runtime and who asks it know whose container it is; the journal says it.
        let line = events.first().map(|event| field(event, "MESSAGE")).unwrap_or_default();
        let decision = if *code == 2 { "cannot judge" } else { "denied" };
        let said = line.strip_prefix(&format!("shop/web/app: {decision}: ")).unwrap_or(&line);
        let said = if *code == 0 { String::new() } else { format!("pss-guard: {said}\n") };
        assert_eq!(stderr, said, "{name}: what is refused is said, and nothing else");
    }
}

#[test]
fn the_strictest_level_speaks_where_a_pod_tightens_its_own() {
    if !needs::can_run("the_strictest_level_speaks_where_a_pod_tightens_its_own", &[]) {
        return;
    }
    let node = Node::new("mode = 'enforce'\n[defaults]\nenforce = 'baseline'\n");
    wrong(&node);
    let path = node.bundle().join("config.json");
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    // (baseline is violated as well, what speaks, the levels that are named)
    for (also, first, named) in [
        (false, 23, "shop/web/app: denied: violates PodSecurity \"restricted:latest\": "),
        (
            true,
            13,
            "shop/web/app: denied: violates PodSecurity \"baseline:latest\" and \"restricted:latest\": host namespaces",
        ),
    ] {
        spec["annotations"]["pod-security.kubernetes.io/enforce"] = "restricted".into();
        if also {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "network");
        }
        fs::write(&path, spec.to_string()).unwrap();
        let output = feed(&mut node.hook_command(), node.state().as_bytes());
        assert_eq!(output.status.code(), Some(first), "{output:?}");
        let events = node.events();
        let event = events.last().unwrap();
        assert_eq!(event["PSS_LEVEL"], "restricted", "{event}");
        assert!(event["MESSAGE"].as_str().unwrap().starts_with(named), "{event}");
    }
}

#[test]
fn the_line_of_a_refusal_has_room_in_four_kilobytes() {
    if !needs::can_run("the_line_of_a_refusal_has_room_in_four_kilobytes", &[]) {
        return;
    }
    let node = Node::new("mode = 'enforce'\n[defaults]\nenforce = 'restricted'\n");
    wrong(&node);
    let path = node.bundle().join("config.json");
    let long = fs::read_to_string(&path).unwrap().replace("\"app\"", &format!("\"{}\"", "ü".repeat(5000)));
    fs::write(&path, long).unwrap();
    let refused = feed(&mut node.hook_command(), node.state().as_bytes());
    let fault = feed(node.hook_command().arg("ü".repeat(5000)), node.state().as_bytes());
    // A name ends by itself, so that what is said of it is there.
    for (output, sign) in [(refused, "ü…\" must set"), (fault, "(cut; the whole is in the journal)")] {
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.len() <= 4096 && line.ends_with('\n'), "{} bytes", line.len());
        assert!(line.contains(sign), "{line}");
    }
}
