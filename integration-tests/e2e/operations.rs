//! What does a node say of itself when something is wrong with it, and does `docs/operations.md` lead back? Word for word,
//! with a real containerd, and with a plain runc behind the gate.

use crate::support::documents::blocks;
use crate::support::engine::{Engine, Kind};
use crate::support::gate::{self, Method, PROGRAM, Restart};
use crate::support::machine::Machine;
use crate::support::metrics::numbers;
use crate::support::pod::Pod;
use crate::support::{cri, image, needs, podman, run};

const ENTRY: &str = "/var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime";
const BUNDLE: &str = "/run/machine/bundle";
const EXECUTABLE: &str = "pss_guard_runtime_executable{engine=\"containerd\"}";

/// Refuses what the plain specification of runc asks for, which runs as root.
const STRICT: &str = "mode = \"enforce\"\n[unmanaged]\nenforce = \"restricted\"\n";
const LENIENT: &str = "mode = \"enforce\"\n";

const WRONG: &str = "WRONG: see containerd below";
const GOOD: &str = "enforcing: the gate is active for containerd, podman";

/// The exit code of `status`, its first line, and all of it.
fn status(machine: &Machine) -> (Option<i32>, String, String) {
    let done = machine.run(&["/opt/pss-guard", "status"]);
    (done.code, done.stdout.lines().next().unwrap_or_default().to_owned(), done.to_string())
}

fn number(machine: &Machine, name: &str) -> Option<f64> {
    numbers(&machine.run(&["/opt/pss-guard", "metrics"]).stdout).get(name).copied()
}

#[test]
fn status_is_good_only_where_all_of_it_is() {
    tell("operations::status_is_good_only_where_all_of_it_is");
}

#[test]
fn the_ways_back_of_the_document_lead_back() {
    walk("operations::the_ways_back_of_the_document_lead_back");
}

/// CRI-O drops a hook that it reads while there is no gate. A gate that is back is asked again by the first way back of the
/// document, without a restart; until then nobody says that all is well.
#[test]
fn cri_o_asks_a_gate_that_came_back() {
    let test = "operations::cri_o_asks_a_gate_that_came_back";
    if !Kind::CriO.can_run(test) {
        return;
    }
    let mut engine = Engine::up(Kind::CriO);
    engine.machine.write("/etc/pss-guard/policy.toml", &gate::policy("enforce"));
    gate::install(&engine.machine, "crio", Method::Hook, Restart::Command(&engine.restart_command()));
    let put_back = format!("{PROGRAM} install --engine crio");
    let repair = format!("{PROGRAM} install --engine crio --repair");
    let by_hand = "cp -a /run/machine/bin /var/lib/pss-guard/bin";
    // How the gate comes back, and what is to be done then.
    for (back, way) in [("true", &put_back), (by_hand, &put_back), (by_hand, &repair)] {
        let what = format!("{back}; {way}");
        let follow = |text: &str| {
            let done = engine.machine.run(&["sh", "-ec", text]);
            assert_eq!(done.code, Some(0), "{what}: {done}");
            done.stdout
        };
        let good = "enforcing: the gate is active for cri-o";
        let (code, first, all) = status(&engine.machine);
        assert_eq!((code, &*first), (Some(0), good), "{what}\n{all}");
        let refused = cri::start(&engine, &Pod::bare());
        assert!(!refused.ran && refused.refusal().is_some(), "{what}: the gate works: {refused}");

        follow(
            "rm -rf /run/machine/bin; cp -a /var/lib/pss-guard/bin /run/machine/bin; rm -r /var/lib/pss-guard/bin",
        );
        engine.restart();
        let machine = &engine.machine;
        let follow = |text: &str| machine.run(&["sh", "-ec", text]).expect_success().stdout;
        follow(back);
        let past = cri::ask(&engine, &Pod::bare());
        assert!(past.ran, "{what}: CRI-O has dropped the hook: {:?}", past.calls.last());
        let (code, _, all) = status(machine);
        assert_eq!(code, Some(1), "{what}\n{all}");
        assert_eq!(number(machine, "pss_guard_enforcing"), Some(0.0), "{what}\n{all}");
        past.end(&engine);
        let (code, _, all) = status(machine);
        assert_eq!(code, Some(1), "{what}, and nothing runs\n{all}");

        let said = follow(way);
        assert!(said.contains("hooks.d/pss-guard.json"), "{what}: {said}");
        let refused = cri::start(&engine, &Pod::bare());
        assert!(!refused.ran && refused.refusal().is_some(), "{what}: asked again: {refused}");
    }
    let (code, _, all) = status(&engine.machine);
    assert_eq!(code, Some(0), "{all}");
    // Nothing more to be done.
    let again = engine.machine.run(&["sh", "-ec", &put_back]).expect_success();
    assert!(again.stdout.contains("nothing changed"), "{again}");
}

/// What starts while an entry leads to the runtime is not counted as evaluated once it leads to the gate again.
#[test]
fn what_started_while_an_entry_led_past_the_gate_is_unproven() {
    let test = "operations::what_started_while_an_entry_led_past_the_gate_is_unproven";
    if !Kind::Containerd2.can_run(test) {
        return;
    }
    let engine = Engine::up(Kind::Containerd2);
    engine.machine.write("/etc/pss-guard/policy.toml", &gate::policy("enforce"));
    let restart = engine.restart_command();
    gate::install(&engine.machine, "containerd", Method::Runtime, Restart::Command(&restart));
    let [_, by_hand, _] = &blocks("docs/operations.md", "sh")[..] else { panic!("other ways") };
    let tally = || {
        let names = ["through", "unproven", "past", "before"];
        let count = |gate| {
            let name = format!("pss_guard_running_containers{{engine=\"containerd\",gate=\"{gate}\"}}");
            number(&engine.machine, &name)
        };
        names.map(count).map(Option::unwrap_or_default)
    };
    let judged = cri::ask(&engine, &Pod::compliant());
    assert!(judged.ran, "{:?}", judged.calls.last());
    assert_eq!(tally(), [1.0, 0.0, 0.0, 0.0]);
    // An upgrade is no break.
    engine.machine.run(&[PROGRAM, "install", "--programs"]).expect_success();
    engine
        .machine
        .run(&["sh", "-ec", "cp -a /opt /run/machine/new && echo >>/run/machine/new/pss-guard-gate"])
        .expect_success();
    engine.machine.run(&["/run/machine/new/pss-guard", "install", "--programs"]).expect_success();
    engine.machine.run(&[PROGRAM, "install", "--programs"]).expect_success();
    assert_eq!(tally(), [1.0, 0.0, 0.0, 0.0], "after an upgrade and back");

    engine.machine.run(&["sh", "-ec", by_hand]).expect_success();
    let unjudged = cri::ask(&engine, &Pod::bare());
    assert!(unjudged.ran, "{:?}", unjudged.calls.last());
    gate::install(&engine.machine, "containerd", Method::Runtime, Restart::Later);
    assert_eq!(tally(), [0.0, 2.0, 0.0, 0.0]);
    let done = engine.machine.run(&[PROGRAM, "--verbose", "status"]);
    assert_eq!(done.code, Some(0), "{done}");
    for says in [
        "2 running containers and 2 sandboxes started while the gate was not there as it is now",
        "unproven   ",
    ] {
        assert!(done.stdout.contains(says), "{says}: {done}");
    }
    let scan = engine.machine.run(&[PROGRAM, "scan"]);
    assert!(scan.stdout.contains("1 of 2 containers in 1 pod would be refused"), "{scan}");
    judged.end(&engine);
    unjudged.end(&engine);
    let judged = cri::ask(&engine, &Pod::compliant());
    assert_eq!(tally(), [1.0, 0.0, 0.0, 0.0]);
    judged.end(&engine);
}

/// All of it is gone, and the gate is back by the document, whichever way it stood. Then it stands in that way again, and can be
/// taken away: the engine starts what it started before.
#[test]
fn what_came_back_from_nothing_can_be_taken_away() {
    let test = "operations::what_came_back_from_nothing_can_be_taken_away";
    let rows = [
        (Kind::Containerd2, Method::Runtime),
        (Kind::Containerd2, Method::Hook),
        (Kind::CriO, Method::Hook),
        (Kind::CriO, Method::Runtime),
    ];
    if !Kind::Containerd2.can_run(test) || !Kind::CriO.can_run(test) {
        return;
    }
    let [put_back, _, all_gone] = &blocks("docs/operations.md", "sh")[..] else { panic!("other ways") };
    let runc = needs::program("runc").expect("runc is there").display().to_string();
    let all_gone = all_gone.replace("/usr/sbin/runc", &runc);
    for (kind, method) in rows {
        let what = format!("{kind:?}, {method:?}");
        let mut engine = Engine::up(kind);
        engine.machine.write("/etc/pss-guard/policy.toml", &gate::policy("enforce"));
        engine.machine.run(&["ln", "-sf", PROGRAM, "/usr/local/sbin/pss-guard"]).expect_success();
        let name = kind.name();
        let restart = engine.restart_command();
        let files = "find /etc/containerd /etc/crio /usr/share/containers/oci -type f 2>/dev/null | sort | xargs -r sha256sum";
        let looks = |machine: &Machine| machine.run(&["sh", "-c", files]).expect_success().stdout;
        let before = looks(&engine.machine);
        gate::install(&engine.machine, name, method, Restart::Command(&restart));

        let follow = |machine: &Machine, text: &str| {
            let done = machine.run(&["sh", "-ec", text]);
            assert_eq!(done.code, Some(0), "{what}: {done}");
            done
        };
        follow(&engine.machine, "rm -r /var/lib/pss-guard");
        if method == Method::Runtime {
            follow(&engine.machine, &all_gone);
            let started = cri::start(&engine, &Pod::bare());
            assert!(started.ran, "{what}, by hand: {started}");
        }
        // Nobody may take away what files still name.
        if method == Method::Runtime {
            let refused = engine.machine.run(&[PROGRAM, "uninstall", "--engine", name]);
            assert_eq!(refused.code, Some(2), "{what}: {refused}");
            assert!(refused.stderr.contains("the record of its installation is gone"), "{what}: {refused}");
        }
        let done = engine.machine.run(&["sh", "-c", &put_back.replace("containerd", name)]);
        let way = if method == Method::Hook { "hook method" } else { "runtime method" };
        assert!(done.stdout.contains(way), "{what}: the way that stood: {done}");
        engine.restart();
        let refused = cri::start(&engine, &Pod::bare());
        assert!(!refused.ran && refused.refusal().is_some(), "{what}: {refused}");
        let (code, _, all) = status(&engine.machine);
        assert_eq!(code, Some(0), "{what}\n{all}");

        gate::uninstall(&engine.machine, name, Restart::Command(&restart));
        let after = looks(&engine.machine);
        assert!(!after.contains("pss-guard"), "{what}: {after}");
        if kind.is_crio() {
            assert_eq!(after, before, "{what}");
        }
        for _ in 0..2 {
            let started = cri::start(&engine, &Pod::bare());
            assert!(started.ran, "{what}, without the gate: {started}");
            engine.restart();
        }
        let left =
            "grep -rl /var/lib/pss-guard /etc/containerd /etc/crio /usr/share/containers/oci 2>/dev/null";
        let left = engine.machine.run(&["sh", "-c", left]).stdout;
        assert!(left.is_empty(), "{what}: {left}");
    }
}

/// CRI-O watches the folders of hooks that were there when it started.
#[test]
fn a_folder_of_hooks_that_cri_o_does_not_watch_is_no_gate() {
    let test = "operations::a_folder_of_hooks_that_cri_o_does_not_watch_is_no_gate";
    if !Kind::CriO.can_run(test) {
        return;
    }
    let mut engine = Engine::up(Kind::CriO);
    engine.machine.write("/etc/pss-guard/policy.toml", &gate::policy("enforce"));
    let restart = engine.restart_command();
    // The folder that it watches is another one from now on.
    let hooks = "/usr/share/containers/oci/hooks.d";
    engine.machine.run(&["mkdir", "-p", hooks]).expect_success();
    engine.restart();
    engine.machine.run(&["sh", "-ec", &format!("rm -r {hooks} && mkdir {hooks}")]).expect_success();
    let said = gate::install(&engine.machine, "crio", Method::Hook, Restart::Later);
    assert!(said.contains("crio.service"), "install names the unit to restart: {said}");
    let past = cri::start(&engine, &Pod::bare());
    assert!(past.ran, "the control: CRI-O has not read it: {past}");
    let (code, _, all) = status(&engine.machine);
    assert_eq!(code, Some(1), "{all}");
    assert!(all.contains("does not watch the folder of the hook"), "{all}");
    assert_eq!(number(&engine.machine, "pss_guard_enforcing"), Some(0.0));

    let said = gate::install(&engine.machine, "crio", Method::Hook, Restart::Command(&restart));
    assert!(said.contains("a forbidden probe was refused"), "{said}");
    let refused = cri::start(&engine, &Pod::bare());
    assert!(!refused.ran && refused.refusal().is_some(), "{refused}");
    let (code, _, all) = status(&engine.machine);
    assert_eq!(code, Some(0), "{all}");
    // From one method to the other and back, each with a restart.
    for method in [Method::Runtime, Method::Hook] {
        let said = gate::install(&engine.machine, "crio", method, Restart::Command(&restart));
        assert!(said.contains("a forbidden probe was refused"), "{method:?}: {said}");
        let (code, _, all) = status(&engine.machine);
        assert_eq!(code, Some(0), "{method:?}\n{all}");
    }
}

/// Follows each way back.
fn walk(test: &str) {
    if !Machine::can_run(test, &["findmnt"], &["containerd-2/containerd"]) {
        return;
    }
    let texts = blocks("docs/operations.md", "sh");
    let [put_back, by_hand, all_gone] = &texts[..] else { panic!("other ways: {texts:?}") };
    let runc = needs::program("runc").expect("runc is there").display().to_string();
    let all_gone = all_gone.replace("/usr/sbin/runc", &runc);
    let bin = "/var/lib/pss-guard/bin";
    // (what is wrong, how it comes, the way back by hand, what is done before the gate is put back)
    let rows: [(&str, String, &str, &str); 5] = [
        ("the gate is gone", format!("rm -r {bin}"), by_hand, "true"),
        ("the gate is empty", format!(": >{bin}/pss-guard-gate"), by_hand, "true"),
        ("nobody may execute it", format!("chmod 644 {bin}/pss-guard-gate"), by_hand, "true"),
        (
            "its file system is mounted with noexec",
            "mount --bind /var/lib/pss-guard /var/lib/pss-guard && \
             mount -o remount,bind,noexec /var/lib/pss-guard"
                .to_owned(),
            by_hand,
            "umount /var/lib/pss-guard",
        ),
        ("all of it is gone", "rm -r /var/lib/pss-guard".to_owned(), &all_gone, "true"),
    ];
    let machine = Machine::up();
    machine.start_journald();
    machine.link("containerd-2/containerd", "/usr/bin/containerd");
    machine.write(
        "/etc/containerd/config.toml",
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n\
         runtime_type = 'io.containerd.runc.v2'\n",
    );
    machine.run(&["ln", "-sf", "/opt/pss-guard", "/usr/local/sbin/pss-guard"]).expect_success();
    image::unpack(&machine.path(&format!("{BUNDLE}/rootfs")));
    let spec = format!(
        "cd {BUNDLE} && runc spec && sed -i 's/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"sleep\", \"2000000\"/' config.json"
    );
    machine.run(&["sh", "-ec", &spec]).expect_success();
    let call = |arguments: &[&str]| machine.run(&[&[ENTRY, "--root", "/run/by-hand"], arguments].concat());
    let start = |id: &str| call(&["run", "--detach", "--bundle", BUNDLE, id]);
    let end = |id: &str| {
        call(&["kill", id, "KILL"]).expect_success();
        let is_over = || call(&["state", id]).stdout.contains("\"stopped\"");
        assert!(run::eventually(is_over), "{id}: {}", call(&["state", id]));
        call(&["delete", id]).expect_success();
    };
    let follow = |what: &str, text: &str| {
        let done = machine.run(&["sh", "-ec", text]);
        assert_eq!(done.code, Some(0), "{what}: {done}");
    };

    for (what, spoil, way, before) in rows {
        machine.write("/etc/pss-guard/policy.toml", LENIENT);
        follow(what, put_back);
        assert_eq!(number(&machine, EXECUTABLE), Some(1.0), "{what}");
        start("running").expect_success();
        machine.write("/etc/pss-guard/policy.toml", STRICT);
        let refused = start("refused");
        assert!(refused.stderr.contains("violates PodSecurity"), "the gate judges: {refused}");

        follow(what, &spoil);
        // A shell takes an empty program for a script and ends well, so its exit code says nothing.
        for command in [&["kill", "running", "KILL"][..], &["delete", "--force", "running"]] {
            call(command);
        }
        let state_of_it = || machine.run(&["runc", "--root", "/run/by-hand", "state", "running"]).stdout;
        assert!(
            state_of_it().contains("\"running\""),
            "{what}: it can be neither killed nor deleted\n{}",
            state_of_it()
        );
        let (code, first, all) = status(&machine);
        assert_eq!(code, Some(1), "{what}\n{all}");
        assert!(first.starts_with("WRONG: "), "{what}\n{all}");
        if what != "all of it is gone" {
            assert_eq!(number(&machine, EXECUTABLE), Some(0.0), "{what}\n{all}");
            let recovery = format!("`ln -sfn {runc} {ENTRY}`");
            assert!(all.contains(&recovery), "{what}: {recovery}\n{all}");
        }

        follow(what, way);
        end("running");
        // Whatever is started by hand is not judged, and that is not said to be good.
        start("unjudged").expect_success();
        end("unjudged");
        let (code, _, all) = status(&machine);
        assert_eq!(code, Some(1), "{what}, by hand\n{all}");
        assert_eq!(number(&machine, "pss_guard_enforcing"), Some(0.0), "{what}, by hand");

        follow(what, before);
        follow(what, put_back);
        let refused = start("refused");
        assert!(refused.stderr.contains("violates PodSecurity"), "{what}: judged again: {refused}");
        let (code, first, all) = status(&machine);
        assert_eq!(
            (code, &*first),
            (Some(0), "enforcing: the gate is active for containerd"),
            "{what}\n{all}"
        );
    }
}

/// A new gate that says which version it is and then starts nothing, before a real containerd: its probes fail, and what
/// worked before works again.
#[test]
fn an_upgrade_whose_gate_starts_nothing_goes_back_to_the_one_that_did() {
    let test = "operations::an_upgrade_whose_gate_starts_nothing_goes_back_to_the_one_that_did";
    if !Kind::Containerd2.can_run(test) {
        return;
    }
    let engine = Engine::up(Kind::Containerd2);
    engine
        .machine
        .write("/etc/pss-guard/policy.toml", "mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n");
    let restart = engine.restart_command();
    gate::install(&engine.machine, "containerd", Method::Runtime, Restart::Command(&restart));
    let looks = || {
        let files = "sha256sum /var/lib/pss-guard/bin/* /etc/containerd/config.toml; \
                     find /var/lib/pss-guard/runtimes -type l -printf '%p %l\n'; ls /var/lib/pss-guard/install";
        let files = engine.machine.run(&["sh", "-c", files]).expect_success().stdout;
        let (code, first, all) = status(&engine.machine);
        assert_eq!(code, Some(0), "{all}");
        (files, first)
    };
    let before = looks();
    let refused = cri::start(&engine, &Pod::bare());
    assert!(!refused.ran && refused.refusal().is_some(), "the gate works: {refused}");
    assert_eq!(gate::is_verified(&engine.machine, "containerd"), None);
    let left = engine.crictl(&["pods"]);
    assert!(!left.stdout.contains("pss-guard-probe"), "{left}");

    let version = env!("CARGO_PKG_VERSION");
    let gate = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo pss-guard-gate {version} && exit\necho broken >&2; exit 1\n"
    );
    engine.machine.write("/opt/new/pss-guard-gate", &gate);
    let ready = "cp /opt/pss-guard /opt/new/ && chmod 755 /opt/new/*";
    engine.machine.run(&["sh", "-ec", ready]).expect_success();
    let upgrade =
        ["/opt/new/pss-guard", "install", "--engine", "containerd", "--restart", "--restart-command"];
    let done = engine.machine.run(&[&upgrade[..], &[&restart]].concat());
    assert_eq!(done.code, Some(2), "{done}");
    let restored =
        "the previous installation was restored; containerd was restarted with the previous configuration";
    assert!(done.stderr.contains(restored), "{done}");
    assert_eq!(looks(), before, "{done}");
    let refused = cri::start(&engine, &Pod::bare());
    assert!(!refused.ran && refused.refusal().is_some(), "and works again: {refused}");
}

/// The truth table with a real containerd: what is said, the exit code, and the metric.
fn tell(test: &str) {
    if !Kind::Containerd2.can_run(test) || !needs::can_run(test, &["podman", "conmon", "crun"]) {
        return;
    }
    let mut engine = Engine::up(Kind::Containerd2);
    let mut wrong = Vec::new();
    let mut row = |engine: &Engine, what: &str, code: i32, first: &str, enforcing: f64| {
        let (found, line, all) = status(&engine.machine);
        let metric = number(&engine.machine, "pss_guard_enforcing");
        if found != Some(code) || line != first || metric != Some(enforcing) {
            wrong.push(format!("{what}: should be {code}, {first:?}, {enforcing}, and is {metric:?}\n{all}"));
        }
    };
    let policy = |engine: &Engine, text: &str| engine.machine.write("/etc/pss-guard/policy.toml", text);
    let enforce = "mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n";

    podman::lay_out(&engine.machine);
    podman::load_images(&engine.machine, "podman");
    policy(&engine, enforce);
    row(&engine, "no gate", 1, "WRONG: the gate is not active for any engine", 0.0);
    gate::install(&engine.machine, "podman", Method::Hook, Restart::Later);
    // The control: what it vouches for is not so.
    let attempt = cri::start(&engine, &Pod::bare());
    assert!(attempt.ran && attempt.events.is_empty(), "{attempt}");
    row(&engine, "podman's alone, and containerd runs", 1, WRONG, 0.0);
    let standing = number(&engine.machine, "pss_guard_gate_standing{engine=\"containerd\"}");
    assert_eq!(standing, Some(0.0), "an engine that runs without a gate is in the metrics");

    let restart = engine.restart_command();
    gate::install(&engine.machine, "containerd", Method::Runtime, Restart::Later);
    row(&engine, "half gated: not restarted", 1, WRONG, 0.0);
    engine.restart();
    row(&engine, "gated", 0, GOOD, 1.0);
    let refused = cri::start(&engine, &Pod::bare());
    assert!(!refused.ran && refused.refusal().is_some(), "{refused}");

    policy(&engine, &enforce.replace("enforce\"\n[", "audit\"\n["));
    row(
        &engine,
        "audit mode",
        0,
        "auditing: the gate is active for containerd, podman; nothing is refused in audit mode",
        0.0,
    );
    policy(&engine, "mode = \"strict\"\n");
    row(&engine, "a broken policy", 1, "WRONG: see policy below", 0.0);
    policy(&engine, enforce);
    engine.machine.run(&["chmod", "666", "/etc/pss-guard/policy.toml"]).expect_success();
    row(&engine, "a policy that others can write", 1, "WRONG: see policy below", 0.0);
    engine.machine.run(&["rm", "/etc/pss-guard/policy.toml"]).expect_success();
    row(&engine, "a lost policy", 1, "WRONG: see policy below", 0.0);
    policy(&engine, enforce);
    row(&engine, "good again", 0, GOOD, 1.0);

    // A handler of another kind, which containerd takes without having its shim.
    let config = "/etc/containerd/config.toml";
    let gated = engine.machine.read(config);
    let kata = "\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]\n\
                runtime_type = 'io.containerd.kata.v2'\n";
    engine.machine.write(config, &(gated.clone() + kata));
    row(&engine, "kata", 1, "open: some containers bypass the gate (containerd)", 0.0);
    let said = status(&engine.machine).2;
    assert!(said.contains("kata is not gated: "), "{said}");
    let ungated = "pss_guard_ungated_handlers{engine=\"containerd\"}";
    assert_eq!(number(&engine.machine, ungated), Some(1.0));
    policy(&engine, &format!("{enforce}[exemptions]\nruntime-classes = [\"kata\"]\n"));
    row(&engine, "kata is meant", 0, GOOD, 1.0);
    assert_eq!(number(&engine.machine, ungated), Some(0.0));
    policy(&engine, enforce);
    engine.machine.write(config, &gated);

    engine.stop();
    row(&engine, "containerd does not run", 0, GOOD, 1.0);
    engine.machine.run(&["/opt/pss-guard", "uninstall", "--engine", "containerd"]).expect_success();
    let podman = "enforcing: the gate is active for podman";
    row(&engine, "containerd has no gate, and does not run", 0, podman, 1.0);
    engine.restart();
    row(&engine, "and then it runs", 1, WRONG, 0.0);

    // A pod that is older than the gate starts its containers past it.
    let asked = cri::ask(&engine, &Pod::bare());
    assert!(asked.ran, "{:?}", asked.calls.last());
    gate::install(&engine.machine, "containerd", Method::Runtime, Restart::Command(&restart));
    row(&engine, "an old pod", 1, "open: some containers bypass the gate (containerd)", 0.0);
    asked.end(&engine);
    row(&engine, "and without it", 0, GOOD, 1.0);

    // An engine without a daemon counts as soon as something runs under it.
    gate::uninstall(&engine.machine, "podman", Restart::Later);
    let containerd = "enforcing: the gate is active for containerd";
    row(&engine, "podman has no gate, and runs nothing", 0, containerd, 1.0);
    let podman = |arguments: &[&str]| {
        engine.machine.run(&[&["podman"], arguments].concat()).expect_success();
    };
    let stay = ["--entrypoint=/bin/sh", image::APP, "-c", "sleep 3600"];
    podman(&[&["run", "--detach", "--network=none", "--name=stay"], &stay[..]].concat());
    row(&engine, "and something", 1, "WRONG: see podman below", 0.0);
    podman(&["rm", "--force", "--time=0", "stay"]);
    row(&engine, "and nothing again", 0, containerd, 1.0);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
