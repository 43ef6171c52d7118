//! What an exception opens, and what a policy believes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::Value;

use crate::support::pod::{Capabilities, Engine, Pod, ProcMount, Seccomp, Volume};
use crate::support::runtime::{Gate, Runtime, RuntimeNode};
use crate::support::{files, needs, node, run};

/// Restricted, on a node where a container without a filter was asked to have none.
fn restricted(exceptions: &str) -> String {
    format!(
        "mode = 'enforce'\n{exceptions}\n[defaults]\nenforce = 'restricted'\naudit = 'privileged'\n\
         warn = 'privileged'\n"
    )
}

fn excuse(controls: &[&str], more: &str) -> String {
    format!(
        "[[exceptions]]\nnamespace = 'shop'\ncontrols = {controls:?}\nreason = 'r'\nexpires = 2999-01-01\n{more}"
    )
}

/// Writes a policy as [`Node::write_policy`] does, with the kubelet's `seccompDefault` on.
fn write_policy(node: &RuntimeNode, text: &str) {
    let kubelet = node.kubelet_root();
    let text = format!("{text}\n[node]\nkubelet-root = '{}'\nseccomp-default = true\n", kubelet.display());
    files::write(&node.policy_path(), &text);
}

/// Row 18 of the attacks: each of four routine exceptions at restricted used to open what baseline forbids.
#[test]
fn an_exception_does_not_open_the_control_that_its_own_overrides() {
    if !needs::can_run("an_exception_does_not_open_the_control_that_its_own_overrides", &["runc", "busybox"])
    {
        return;
    }
    let with = |tweak: fn(&mut Pod)| {
        let mut pod = Pod::compliant();
        tweak(&mut pod);
        pod
    };
    // (excused, what it is for, what it must not open, the control of baseline, its exit code)
    let rows: [(&str, Option<Pod>, Pod, &str, i32); 4] = [
        (
            "capabilities_restricted",
            Some(with(|pod| pod.capabilities = Capabilities::Default)),
            with(|pod| pod.capabilities = Capabilities::DropAllAdd(&["SYS_ADMIN"])),
            "capabilities_baseline",
            12,
        ),
        (
            "restrictedVolumes",
            None,
            with(|pod| pod.volumes.push(Volume::HostPath { path: "/etc", at: "/host" })),
            "hostPathVolumes",
            14,
        ),
        (
            "seccompProfile_restricted",
            None,
            with(|pod| pod.seccomp = Seccomp::Unconfined),
            "seccompProfile_baseline",
            20,
        ),
        ("procMount_restricted", None, with(|pod| pod.proc_mount = ProcMount::Unmasked), "procMount", 18),
    ];
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    for (excused, meant, attack, overridden, code) in rows {
        write_policy(&node, &restricted(&excuse(&[excused], "")));
        if let Some(meant) = meant {
            let attempt = node.sandbox(&meant).start(Gate::Wrapper);
            assert!(attempt.ran, "{excused}: what it is for must start\n{attempt}");
        }
        let sandbox = node.sandbox(&attack);
        let alone = sandbox.start(Gate::Absent);
        assert!(alone.ran, "{overridden}: the attack must work without the gate\n{alone}");
        for gate in [Gate::Hook, Gate::Wrapper] {
            let attempt = sandbox.start(gate);
            assert!(!attempt.ran && !attempt.kept, "{excused} opened {overridden}, {gate:?}\n{attempt}");
            let denied = attempt.events.iter().find(|event| event["PSS_DECISION"] == "denied");
            assert!(denied.is_some_and(|event| event["PSS_CONTROLS"] == overridden), "{attempt}");
            if gate == Gate::Wrapper {
                assert_eq!(attempt.created.code, Some(code), "{attempt}");
            }
        }
        // Who means both names both.
        write_policy(&node, &restricted(&excuse(&[excused, overridden], "")));
        let attempt = sandbox.start(Gate::Wrapper);
        assert!(attempt.ran, "{excused} and {overridden} are excused\n{attempt}");
        // A reason that is over excuses nothing, and so does not bring the other control back either.
        let over = excuse(&[excused, overridden], "").replace("2999", "2000");
        write_policy(&node, &restricted(&over));
        let attempt = sandbox.start(Gate::Wrapper);
        let denied = attempt.events.iter().find(|event| event["PSS_DECISION"] == "denied");
        assert!(!attempt.ran && denied.is_some_and(|event| event["PSS_CONTROLS"] == excused), "{attempt}");
    }
}

/// Row 20: an exception that names its namespace and container alone is anybody's who may create pods there.
#[test]
fn an_exception_is_only_for_the_pod_owner_and_image_that_it_names() {
    if !needs::can_run("an_exception_is_only_for_the_pod_owner_and_image_that_it_names", &["runc", "busybox"])
    {
        return;
    }
    let named = |name: &'static str, image: &'static str| Pod { name, image, ..Pod::bare() };
    let bare =
        ["allowPrivilegeEscalation", "capabilities_restricted", "readOnlyRootFilesystem", "runAsNonRoot"];
    let controls = [&bare[..], &["seccompProfile_restricted", "seccompProfile_baseline"]].concat();
    let (own, other) = ("quay.io/team/app:v1", "quay.io/evil/app:v1");
    let rows = [
        // What the exception names, the pod it is for, one that must not pass for it.
        ("container = 'app'", named("web-0", own), None),
        ("pod = 'web-0'", named("web-0", own), Some(named("web-00", own))),
        ("pod = 'web-0'", named("web-0", own), Some(named("web-0.evil", own))),
        ("owner = 'web'", named("web-5d4f8c7b9d-x7k2p", own), Some(named("web-evil", own))),
        ("owner = 'web'", named("web-x7k2p", own), Some(named("web-front-x7k2p", own))),
        ("image = 'quay.io/team/app'", named("web-0", own), Some(named("web-0", other))),
        ("image = 'quay.io/team/app:v1'", named("web-0", own), Some(named("web-0", "quay.io/team/app:v2"))),
        ("image = 'quay.io/team/app'", named("web-0", own), Some(named("web-0", "quay.io/team/app:80/x"))),
        // All that is named must be true.
        ("pod = 'web-0'\nimage = 'quay.io/team/app'", named("web-0", own), Some(named("web-0", other))),
    ];
    for engine in [Engine::Containerd, Engine::CriO] {
        let node = RuntimeNode::new(engine, Runtime::Runc);
        // What differs between engines is where the names are: the last row needs both kinds.
        let rows = if engine == Engine::CriO { rows.get(rows.len() - 1..).unwrap() } else { &rows[..] };
        for (matcher, meant, attack) in rows {
            let start = |pod: &Pod, exceptions: &str| {
                write_policy(&node, &restricted(exceptions));
                node.sandbox(pod).start(Gate::Wrapper)
            };
            let exact = excuse(&controls, matcher);
            let attempt = start(meant, &exact);
            assert!(attempt.ran, "{matcher}: the exception is for this pod\n{attempt}");
            let Some(attack) = attack else { continue };
            let attempt = start(attack, &excuse(&controls, ""));
            assert!(attempt.ran, "without {matcher} the attack must work\n{attempt}");
            let attempt = start(attack, &exact);
            assert!(!attempt.ran && attempt.created.code == Some(23), "{matcher}\n{attempt}");
        }
    }
}

/// The sandbox has neither a container's name nor its image; its pod and owner must be right all the same.
#[test]
fn a_sandbox_may_do_what_one_container_of_its_pod_may_and_no_other_pods() {
    let denied = |matcher: &str| {
        let exception = excuse(&["hostNamespaces"], matcher);
        let node =
            node::Node::new(&format!("mode = 'enforce'\n{exception}\n[defaults]\nenforce = 'baseline'\n"));
        let sandbox = node.sandbox();
        let mut spec: Value =
            serde_json::from_str(&fs::read_to_string(sandbox.join("config.json")).unwrap()).unwrap();
        spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|namespace| namespace["type"] != "network");
        fs::write(sandbox.join("config.json"), spec.to_string()).unwrap();
        let state =
            node.state().replace(&node.bundle().display().to_string(), &sandbox.display().to_string());
        run::feed(&mut node.hook_command(), state.as_bytes()).status.code()
    };
    for (matcher, code) in [
        ("", 0),
        ("container = 'app'", 0),
        ("image = 'quay.io/team/app'", 0),
        ("pod = 'web'\nowner = 'web'\ncontainer = 'app'\nimage = 'quay.io/team/app'", 0),
        ("pod = 'api'", 13),
        ("owner = 'api'", 13),
        ("pod = 'api'\ncontainer = 'app'", 13),
    ] {
        assert_eq!(denied(matcher), Some(code), "{matcher}");
    }
}

/// The file is root's own in each of these, and root wrote every byte of it; which file it is, somebody else decides.
#[test]
fn who_can_write_to_the_policys_folder_does_not_choose_the_policy() {
    if !needs::can_run("who_can_write_to_the_policys_folder_does_not_choose_the_policy", &["sh"]) {
        return;
    }
    // (what a user does there, and in which folder that must be possible)
    let rows = [
        ("rm policy.toml; ln -s $ROOT/elsewhere/empty policy.toml", "etc/pss-guard", 0o777),
        ("mv policy.toml.old policy.toml", "etc/pss-guard", 0o777),
        ("rm policy.toml; mv $ROOT/mine/empty policy.toml", "etc/pss-guard", 0o777),
        ("rm policy.toml; ln -s $ROOT/elsewhere/emptied policy.toml", "etc/pss-guard", 0o777),
        ("mv policy.toml.old policy.toml", "etc/pss-guard", 0o775),
        // The link is in a folder of root's; what it leads to is not.
        ("mv policy.toml.old policy.toml", "linked", 0o777),
        ("rm policy.toml; ln -s $ROOT/elsewhere/empty policy.toml", "linked", 0o777),
        // Two links on.
        ("rm policy.toml; ln -s $ROOT/elsewhere/empty policy.toml", "linked twice", 0o777),
    ];
    for (deed, place, mode) in rows {
        for seen_before in [false, true] {
            let node = node::Node::new("");
            let root = node.root().to_owned();
            let chmod = |path: &str, mode| {
                fs::set_permissions(root.join(path), Permissions::from_mode(mode)).unwrap();
            };
            chmod("", 0o755);
            let enforce = "mode = 'enforce'\n[defaults]\nenforce = 'restricted'\n";
            let folder = if place == "etc/pss-guard" { place } else { "srv/policy" };
            node.file(&format!("{folder}/policy.toml"), enforce);
            node.file(&format!("{folder}/policy.toml.old"), "mode = 'audit'\n");
            node.file("elsewhere/empty", "");
            node.file("elsewhere/emptied", "# What the team agreed on.\n");
            node.file("mine/empty", "");
            chmod("mine", 0o777);
            if place != "etc/pss-guard" {
                let policy = root.join("etc/pss-guard/policy.toml");
                fs::remove_file(&policy).unwrap();
                let target = root.join(folder).join("policy.toml");
                let target = if place == "linked" {
                    target
                } else {
                    fs::create_dir(root.join("between")).unwrap();
                    std::os::unix::fs::symlink(target, root.join("between/policy.toml")).unwrap();
                    root.join("between/policy.toml")
                };
                std::os::unix::fs::symlink(target, policy).unwrap();
            }
            let path = node.config("shop");
            let bad = fs::read_to_string(&path).unwrap().replace("\"uid\":1000", "\"uid\":0");
            fs::write(path, bad).unwrap();
            let hook = || {
                let output = run::feed(&mut node.hook_command(), node.state().as_bytes());
                (output.status.code(), String::from_utf8(output.stderr).unwrap())
            };
            let row = format!("{deed} in {place}, {mode:o}, seen before: {seen_before}");
            if seen_before {
                assert_eq!(hook().0, Some(27), "{row}");
            }
            chmod(folder, mode);
            let mut user = Command::new("sh");
            // Group 0 is what a folder of mode 0775 trusts.
            user.args(["-ec", deed]).env("ROOT", &root).current_dir(root.join(folder)).uid(1000).gid(0);
            run::run(&mut user).expect_success();
            let (code, said) = hook();
            // What was good before goes on judging; without it nothing does.
            let (expected, word) =
                if seen_before { (27, "[defaults] of") } else { (2, "must be writable by root alone") };
            assert!(code == Some(expected) && said.contains(word), "{row}: {code:?} {said}");
            assert!(!seen_before || said.contains("/var/lib/pss-guard/policy.toml"), "{row}: {said}");
            // The folder is closed and the link root's when it is too late: this is what the deed was worth.
            chmod(folder, 0o755);
            std::os::unix::fs::lchown(root.join(folder).join("policy.toml"), Some(0), Some(0)).unwrap();
            // A file that sets nothing is no policy where there was one, wherever it lies.
            let sets_nothing = deed.contains("/empt");
            let expected = if seen_before && sets_nothing { 27 } else { 0 };
            assert_eq!(
                hook().0,
                Some(expected),
                "{row}: the attack must work where the folder is not looked at"
            );
        }
    }
}

/// Nobody renames or removes what is root's in a sticky folder, as NixOS' store is one.
#[test]
fn a_sticky_folder_is_a_closed_one() {
    if !needs::can_run("a_sticky_folder_is_a_closed_one", &[]) {
        return;
    }
    let node = node::Node::new("mode = 'enforce'\n");
    let hook = || {
        // No last good policy goes on judging: what counts here is whether the policy itself is believed.
        let _ = fs::remove_file(node.root().join("var/lib/pss-guard/policy.toml"));
        run::feed(&mut node.hook_command(), node.state().as_bytes()).status.code()
    };
    let folder = node.root().join("etc/pss-guard");
    for (mode, expected) in [(0o1777, 0), (0o1775, 0), (0o777, 2), (0o757, 2), (0o775, 2), (0o755, 0)] {
        fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
        assert_eq!(hook(), Some(expected), "{mode:o}");
    }
    std::os::unix::fs::chown(&folder, Some(1000), None).unwrap();
    assert_eq!(hook(), Some(2), "a folder of somebody else's");
    std::os::unix::fs::chown(&folder, Some(0), None).unwrap();
    // What others can take away or bring back is not believed either.
    fs::create_dir_all(node.root().join("run/pss-guard/namespaces")).unwrap();
    fs::set_permissions(node.root().join("run/pss-guard"), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(hook(), Some(2), "levels in a folder that others can rename");
}
