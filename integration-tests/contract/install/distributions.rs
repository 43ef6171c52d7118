//! What is of one distribution only: engines that restart themselves, other inits, units of others, and what keeps the gate.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use super::running::{RUNNING, on_running_node};
use super::{CONTAINERD, CONTAINERD_AND_PODMAN, Files, Host, Tree, V2, V3, assert_same};
use crate::support::files;
use crate::support::needs;
use crate::support::run::{self, Done};

const K0S: Files = &[
    (
        "etc/k0s/containerd.toml",
        "# k0s_managed=true\nversion = 3\nimports = [\"/etc/k0s/containerd.d/*.toml\"]\n\
         [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n",
    ),
    ("etc/k0s/containerd.d/10-registry.toml", "version = 3\n"),
];

/// A process called containerd with options, and k0s, which restarts it whenever the folder of drop-ins changes.
const IN_K0S: &str = r#"
    F=/etc/k0s/containerd.d; D=$F/99-pss-guard.toml; E='--engine containerd'
    mkdir -p /var/lib/k0s/bin /fake /tmp; cp /usr/bin/env /var/lib/k0s/bin/runc
    cp "$(readlink -f /bin/sh)" /containerd; echo 'while :; do sleep 1; done' >/loop
    up() { /containerd /loop --config /etc/k0s/containerd.toml >/dev/null 2>&1 & echo $! >/engine; }
    look() { ls -lin --time-style=full-iso $F; }
    k0s() {
        last=$(look)
        while [ ! -e /stop ]; do
            now=$(look)
            [ "$now" = "$last" ] || { last=$now; sleep 1; echo again >>/restarts; kill $(cat /engine); sleep 0.5; up; }
            sleep 0.2
        done
    }
    say() { "$@" >/out 2>&1; echo "code $?"; cat /out >>/all; }
    up; k0s >/dev/null 2>&1 &
    sleep 0.5
"#;

#[test]
fn k0s_restarts_containerd_when_that_is_asked_for_and_is_waited_for() {
    let name = "install::distributions::k0s_restarts_containerd_when_that_is_asked_for_and_is_waited_for";
    if !needs::can_run(name, &["unshare", "mount", "chroot", "strace"]) {
        return;
    }
    let root = Host::new(K0S);
    let script = format!(
        r#"{IN_K0S}
         say /gate install $E; ls $F; cat /out >/refused
         say /gate install $E --dry-run; ls $F; cat /out >/shown
         say strace -f -o /trace -e trace=file /gate install $E --restart --no-probe; wc -l </restarts; cp $D /drop-in
         /gate status | grep -oE '^  (ok|WRONG) +process' | tr -s ' '
         say /gate install $E; wc -l </restarts
         say /gate uninstall; ls $F; cat /out >>/refused
         say /gate uninstall --restart; ls $F; wc -l </restarts; cat /out >/removed
         cat >/fake/crictl <<'END'
#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --*) shift 2 ;; *) break ;; esac; done
case $1 in
info) echo '{{"status":{{"conditions":[{{"type":"RuntimeReady","status":true}},{{"type":"NetworkReady","status":true}}]}}}}' ;;
images) echo '{{"images":[{{"repoTags":["registry.k8s.io/pause:3.9"]}}]}}' ;;
runp) echo 'rpc error: no pod starts' >&2; exit 1 ;;
esac
END
         chmod +x /fake/crictl; cp /fake/crictl /var/lib/k0s/bin/crictl
         say /gate install $E --restart; ls $F; wc -l </restarts; cat /out >/back
         touch /stop; sleep 0.5; kill $(cat /engine)"#
    );
    let done = on_running_node(&root, "exec", &script).expect_success();
    let (theirs, ours) = ("10-registry.toml", "99-pss-guard.toml");
    let expected = [
        "code 2",
        theirs, // refused: nothing is there
        "code 0",
        theirs, // shown
        "code 0",
        "1",
        "ok process", // one restart, and it has read the drop-in
        "code 0",
        "1", // nothing to do needs no restart
        "code 2",
        theirs,
        ours, // refused
        "code 0",
        theirs,
        "2", // removed, and restarted
        "code 2",
        theirs,
        "4", // written, restarted, failed, removed, restarted
    ];
    let lines: Vec<&str> = done.stdout.lines().map(str::trim).collect();
    let all = run::read(&root.path("all"));
    assert_eq!(lines, expected, "{done}\n{all}");
    let refused = run::read(&root.path("refused"));
    let reason = "k0s restarts containerd by itself as soon as a drop-in changes; use --restart";
    assert_eq!(refused.matches(reason).count(), 2, "{refused}");
    let shown = run::read(&root.path("shown"));
    assert!(shown.contains("+++ /etc/k0s/containerd.d/99-pss-guard.toml"), "{shown}");
    let removed = run::read(&root.path("removed"));
    assert!(!removed.contains("still runs with its previous configuration"), "not waited for\n{removed}");
    let back = run::read(&root.path("back"));
    assert!(
        back.contains("no pod starts")
            && back.contains("containerd was restarted with its own configuration"),
        "{back}"
    );
    // What k0s' own check refuses, and stops k0s for.
    let drop_in: toml::Table = toml::from_str(&run::read(&root.path("drop-in"))).expect("TOML");
    assert!(drop_in.get("version").is_none_or(|version| version.as_integer() == Some(3)), "{drop_in:?}");
    let plugins: Vec<&String> = drop_in["plugins"].as_table().expect("tables").keys().collect();
    assert_eq!(plugins, ["io.containerd.cri.v1.runtime"]);
    // It comes into the folder whole, and nothing else does.
    let trace = run::read(&root.path("trace"));
    let writes = |line: &&str| {
        let call = line.split_once(' ').map_or(*line, |(_, call)| call.trim_start());
        line.contains("/etc/k0s/containerd.d/")
            && (call.starts_with("rename") || call.starts_with("link") || line.contains("O_CREAT"))
            && !line.contains("= -1")
    };
    let writes: Vec<&str> = trace.lines().filter(writes).collect();
    assert!(
        writes.len() == 1 && writes[0].contains("rename(\"/etc/k0s/.99-pss-guard.toml.pss-guard-new\""),
        "{writes:#?}"
    );
    // Where nothing runs, nothing is restarted.
    let root = Host::new(K0S);
    root.program("containerd");
    root.call(&["install", "--engine", "containerd"]).expect_success();
    assert!(root.path("etc/k0s/containerd.d").join(ours).exists());
}

/// k3s with its data in `/srv`.
const K3S: Files = &[
    ("etc/rancher/k3s/config.yaml", "data-dir: /srv/k3s\n"),
    (
        "srv/k3s/agent/etc/containerd/config.toml",
        "version = 3\nimports = [\"/srv/k3s/agent/etc/containerd/config-v3.toml.d/*.toml\"]\n\
         [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\
         [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nBinaryName = '/usr/bin/env'\n",
    ),
];

/// A node of k3s: its service, as systemd or OpenRC has it.
fn k3s(service: &str) -> Host {
    let root = Host::new(K3S);
    files::write(&root.path(service), "#!/bin/sh\n");
    fs::set_permissions(root.path(service), fs::Permissions::from_mode(0o755)).expect("a mode");
    root
}

#[test]
fn a_restart_that_systemd_cannot_do_names_what_can() {
    let name = "install::distributions::a_restart_that_systemd_cannot_do_names_what_can";
    if !needs::can_run(name, &["unshare", "mount", "chroot", "systemctl"]) {
        return;
    }
    let run = |more: &str| {
        let root = k3s("etc/init.d/k3s");
        let script = format!(
            r#"cp "$(readlink -f /bin/sh)" /containerd; echo 'while :; do sleep 1; done' >/loop
             up() {{ /containerd /loop -c /srv/k3s/agent/etc/containerd/config.toml >/dev/null 2>&1 & echo $! >/engine; }}
             up; mkdir /fake; PATH=/fake:$PATH
             cat >/fake/rc-service <<'END'
#!/bin/sh
[ "$*" = 'k3s restart' ] || exit 3
kill $(cat /engine); sleep 0.1
/containerd /loop -c /srv/k3s/agent/etc/containerd/config.toml >/dev/null 2>&1 & echo $! >/engine
END
             chmod +x /fake/rc-service
             {more}; code=$?; kill $(cat /engine); exit $code"#
        );
        on_running_node(&root, "exec", &script)
    };
    let hide = "touch /none; mount --bind /none /usr/bin/systemctl || exit 9";
    let install = "/gate install --engine containerd --restart --no-probe";
    let done = run(&format!("{hide}; {install}"));
    let says = "there is no systemd here; name the command that restarts containerd: --restart-command 'rc-service k3s restart'";
    assert!(done.code == Some(2) && done.stderr.contains(says), "{done}");
    // Nothing watches files there either, and no unit is written that nobody reads.
    let left = "ls /var/lib; ls -d /etc/systemd /etc/tmpfiles.d";
    let done =
        run(&format!("{hide}; /gate install --engine containerd --persist; code=$?; {left}; (exit $code)"));
    let says = "--persist needs systemd, which does not run here; leave it out, and run `pss-guard install --engine auto --repair`";
    assert!(done.code == Some(2) && done.stderr.contains(says) && done.stdout.is_empty(), "{done}");
    let done =
        run(&format!("{hide}; /gate install --engine containerd >/dev/null; {left}; true")).expect_success();
    assert_eq!(done.stdout, "pss-guard\n", "{done}");
    // What it names works.
    run(&format!("{hide}; {install} --restart-command 'rc-service k3s restart'")).expect_success();
    let done = run(install);
    let says = "the unit of k3s that restarts containerd is not known";
    assert!(done.code == Some(2) && done.stderr.contains(says), "{done}");
}

/// systemd as far as a unit's drop-in matters: what it has not read again does not count at a restart.
const SYSTEMD: &str = r#"
    mkdir -p /fake /run/systemd/system; echo systemd >/proc/$$/comm; mount -t tmpfs none /usr/local/sbin || exit 9; PATH=/fake:$PATH
    printf 'version = 2\n' >/usr/local/sbin/containerd.toml; cp /usr/local/sbin/containerd.toml /original
    cp "$(readlink -f /bin/sh)" /containerd; echo 'while :; do sleep 1; done' >/loop; echo /usr/local/sbin/containerd.toml >/loaded
    cat >/fake/systemctl <<'END'
#!/bin/sh
echo "$*" >>/calls
case "$*" in
daemon-reload)
    cat /etc/systemd/system/containerd.service /etc/systemd/system/containerd.service.d/*.conf 2>/dev/null |
        sed -n 's/^Environment=.*CONTAINERD_CONFIG=\([^"]*\).*/\1/p' | tail -n 1 >/loaded ;;
'restart containerd.service')
    kill $(cat /engine); sleep 0.1
    /containerd /loop --config $(cat /loaded) >/dev/null 2>&1 & echo $! >/engine ;;
esac
END
    chmod +x /fake/systemctl
    /containerd /loop --config $(cat /loaded) >/dev/null 2>&1 & echo $! >/engine
"#;

#[test]
fn systemd_reads_a_units_drop_in_before_the_restart() {
    let name = "install::distributions::systemd_reads_a_units_drop_in_before_the_restart";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let root = Host::new(&[
        ("etc/os-release", "ID=flatcar\n"),
        (
            "etc/systemd/system/containerd.service",
            "[Service]\nEnvironment=CONTAINERD_CONFIG=/usr/local/sbin/containerd.toml\n\
             ExecStart=/usr/bin/containerd --config ${CONTAINERD_CONFIG}\n",
        ),
    ]);
    files::write(&root.path("srv/runc"), "");
    let script = format!(
        r"{SYSTEMD}
         cp /usr/bin/env /usr/local/sbin/runc
         said() {{ grep -E '^(daemon-reload|restart containerd.service)$' /calls | uniq; : >/calls; cat /loaded; }}
         /gate install --engine containerd --restart --no-probe >/out 2>&1; echo code $?; said
         /gate uninstall --restart >>/out 2>&1; echo code $?; said
         ls /etc/systemd/system/containerd.service.d 2>/dev/null; cmp /original /usr/local/sbin/containerd.toml
         kill $(cat /engine)"
    );
    let done = on_running_node(&root, "exec", &script);
    let restart = "restart containerd.service";
    let (copy, theirs) = ("/etc/containerd/config.toml", "/usr/local/sbin/containerd.toml");
    let lines: Vec<&str> = done.stdout.lines().collect();
    let out = run::read(&root.path("out"));
    let written = ["code 0", "daemon-reload", restart, copy];
    let undone = ["code 0", "daemon-reload", restart];
    assert_eq!(lines.get(..4), Some(&written[..]), "{done}\n{out}");
    assert_eq!(lines.get(4..7), Some(&undone[..]), "{done}\n{out}");
    // After the last restart the units of ours go.
    assert_eq!(lines.last(), Some(&theirs), "{done}\n{out}");
}

/// systemd enables only what it has read, and reads only what is there.
#[test]
fn what_keeps_the_gate_is_there_before_systemd_reads_and_enables_it() {
    let name = "install::distributions::what_keeps_the_gate_is_there_before_systemd_reads_and_enables_it";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let root = Host::new(RUNNING);
    let script = r#"mkdir -p /fake /run/systemd/system; echo systemd >/proc/$$/comm; PATH=/fake:$PATH
        cat >/fake/systemctl <<'END'
#!/bin/sh
cd /etc/systemd/system
case "$*" in *pss-guard-install* | daemon-reload)
    echo "$* $(ls -d pss-guard-install.path pss-guard-install.path.d/*.conf | wc -l)" >>/calls ;;
esac
END
        chmod +x /fake/systemctl
        config='--config /etc/containerd/config.toml'
        /gate install --engine containerd $config >/out; : >/calls
        /gate install --engine containerd $config --persist >>/out; cat /calls; : >/calls
        /gate uninstall >>/out; cat /calls"#;
    let done = on_running_node(&root, "exec", script).expect_success();
    let both = "pss-guard-install.path pss-guard-install.service";
    let expected = [
        "daemon-reload 2".to_owned(),
        format!("enable --quiet {both} 2"),
        "restart pss-guard-install.path 2".to_owned(),
        // The drop-in goes; a unit that is gone could not be disabled.
        format!("disable --quiet --now {both} 1"),
        "daemon-reload 1".to_owned(),
    ];
    // `/usr` is read-only here, so what belongs there is tried each time.
    let lines: Vec<&str> =
        done.stdout.lines().skip_while(|line| *line == "daemon-reload 1").take(5).collect();
    assert_eq!(lines, expected, "{done}");
}

#[test]
fn an_upgrade_of_k3s_that_moves_its_programs_loses_nothing() {
    let root = k3s("etc/systemd/system/k3s.service");
    files::write(
        &root.path("etc/systemd/system/k3s.service"),
        "[Service]\nExecStart=/usr/local/bin/k3s server\n",
    );
    // k3s names no runtime: it is found in the PATH that containerd is started with.
    let config = root.path(K3S[1].0);
    let text =
        K3S[1].1.split("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]").next();
    fs::write(&config, text.expect("a text")).expect("a file of ours");
    root.program("containerd");
    fs::remove_file(root.path("usr/bin/runc")).expect("a program of ours");
    let current = root.path("srv/k3s/data/current");
    let upgrade = |release: &str, programs: &[&str]| {
        fs::create_dir_all(root.path("srv/k3s/data")).expect("a folder");
        for program in programs {
            let path = root.path(&format!("srv/k3s/data/{release}/bin/{program}"));
            files::write(&path, "#!/bin/sh\nexit 1\n");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        let old = fs::read_link(&current).ok();
        let _ = fs::remove_file(&current);
        // A whole path, as k3s has it.
        symlink(format!("/srv/k3s/data/{release}"), &current).expect("a link");
        if let Some(old) = old {
            fs::remove_dir_all(root.path(&old.to_string_lossy()[1..])).expect("a folder of ours");
        }
    };
    let runtime =
        || fs::read_link(root.path("var/lib/pss-guard/runtimes/containerd/runc/runtime")).expect("a link");
    let repair = || root.call(&["install", "--engine", "auto", "--repair"]).expect_success().stdout;
    let drop_in = "srv/k3s/agent/etc/containerd/config-v3.toml.d/99-pss-guard.toml";

    upgrade("aaaa", &["runc"]);
    install(&root, &[]).expect_success();
    let target = Path::new("/srv/k3s/data/current/bin/runc");
    assert_eq!(runtime(), target);
    let (written, intact) =
        (run::read(&root.path(drop_in)), "containerd: the gate is where it was installed\n");

    upgrade("bbbb", &["runc"]);
    let status = root.call(&["status", "--engine", "containerd"]).expect_success();
    assert!(status.stdout.contains("runc leads to /srv/k3s/data/current/bin/runc"), "{status}");
    assert_eq!(repair(), intact);
    assert_eq!(runtime(), target);

    // An upgrade that takes the drop-in along.
    fs::remove_file(root.path(drop_in)).expect("a file of ours");
    let status = root.call(&["status", "--engine", "containerd"]);
    assert!(status.code == Some(1) && status.stdout.contains("WRONG    configuration"), "{status}");
    let said = repair();
    let first = format!("containerd: the gate is not where it was installed; written without it: /{drop_in}");
    assert_eq!(said.lines().next(), Some(&*first), "{said}");
    assert_eq!((run::read(&root.path(drop_in)), runtime().as_path()), (written, target));
    root.call(&["status", "--engine", "containerd"]).expect_success();

    // One that brings no runtime leaves containers that cannot start.
    upgrade("cccc", &[]);
    let status = root.call(&["status", "--engine", "containerd"]);
    assert!(status.code == Some(1) && status.stdout.contains("WRONG"), "{status}");
}

/// What keeps the gate of one engine goes with it, and does not wait until the last engine's gate has gone.
#[test]
fn the_units_that_put_the_gate_back_end_with_the_last_engine_that_needs_them() {
    let name =
        "install::distributions::the_units_that_put_the_gate_back_end_with_the_last_engine_that_needs_them";
    if !needs::can_run(name, &["systemctl"]) {
        return;
    }
    let root = node(CONTAINERD_AND_PODMAN);
    root.program("podman");
    let enabled = || {
        let wants = "etc/systemd/system/paths.target.wants/pss-guard-install.path";
        root.path(wants).is_symlink()
    };
    install(&root, &["--persist"]).expect_success();
    root.call(&["install", "--engine", "podman", "--persist"]).expect_success();
    assert!(enabled());
    root.call(&["uninstall", "--engine", "podman"]).expect_success();
    assert!(enabled(), "containerd's gate is kept");
    root.call(&["install", "--engine", "podman"]).expect_success();
    root.call(&["uninstall", "--engine", "containerd"]).expect_success();
    assert!(!enabled() && root.path("etc/systemd/system/pss-guard-install.path").exists());
}

#[test]
fn a_node_that_is_another_distribution_by_now_is_refused() {
    let root = Host::new(CONTAINERD);
    root.program("containerd");
    root.call(&["install", "--engine", "containerd"]).expect_success();
    for (path, text) in K3S {
        files::write(&root.path(path), text);
    }
    files::write(
        &root.path("etc/systemd/system/k3s.service"),
        "[Service]\nExecStart=/usr/local/bin/k3s server\n",
    );
    let before = root.tree();
    let done = root.call(&["install", "--engine", "containerd"]);
    let says = "the gate was installed for containerd of plain, and this node is k3s now; `pss-guard uninstall --engine containerd`";
    assert!(done.code == Some(2) && done.stderr.contains(says), "{done}");
    assert_same(&root.tree(), &before, "refused");
    let status = root.call(&["status"]);
    assert!(status.code == Some(1) && status.stdout.contains(says), "{status}");
    // What it names finds the files of the installation.
    root.call(&["uninstall", "--engine", "containerd"]).expect_success();
    assert_eq!(run::read(&root.path("etc/containerd/config.toml")), CONTAINERD[0].1);
    root.call(&["install", "--engine", "containerd"]).expect_success();
    assert!(root.path("srv/k3s/agent/etc/containerd/config-v3.toml.d/99-pss-guard.toml").exists());
}

/// As nodeadm writes it: without imports, and with one table's name quoted in two ways.
const OF_NODEADM: &str = "version = 3\n\
    [plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'runc'\n\
    [plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\
    [plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc.options]\nBinaryName = '/usr/bin/runc'\n";

const EKS: Files = &[
    ("etc/containerd/config.toml", OF_NODEADM),
    ("usr/lib/systemd/system/nodeadm-run.service", "[Service]\nExecStart=/usr/bin/nodeadm init\n"),
    ("etc/eks/nodeadm.d/10-theirs.yaml", "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\n"),
    ("etc/eks/nodeadm.d/zz-note.txt", "BinaryName\n"),
];

/// The name alone is nothing: what tells of Cluster API lies in `/run`, and a boot removes it.
#[test]
fn a_node_whose_files_are_the_same_under_another_name_is_not_refused() {
    let root = Host::new(CONTAINERD);
    root.program("containerd");
    let sign = root.path("run/cluster-api/bootstrap-success.complete");
    files::write(&sign, "success");
    root.call(&["install", "--engine", "containerd"]).expect_success();
    assert!(root.call(&["status", "--format", "json"]).stdout.contains("\"Cluster API\""));
    fs::remove_dir_all(sign.parent().expect("a folder")).expect("a folder of ours");
    root.call(&["install", "--engine", "containerd"]).expect_success();
    let status = root.call(&["status"]).expect_success();
    assert!(!status.stdout.contains("was installed for containerd of"), "{status}");
}

const EKS_TAKEN: Files = &[EKS[0], EKS[1], (NODE_CONFIG, "# theirs\n")];

const NODE_CONFIG: &str = "etc/eks/nodeadm.d/99-pss-guard.yaml";
const WATCH: &str = "etc/systemd/system/pss-guard-install.path.d/containerd.conf";
const WRITE: &str = "etc/systemd/system/pss-guard-install.service.d/containerd.conf";

/// A node with containerd and systemd.
fn node(files: Files) -> Host {
    let root = Host::new(files);
    for program in ["containerd", "systemctl"] {
        root.program(program);
    }
    root
}

fn install(root: &Host, more: &[&str]) -> Done {
    root.call(&[&["install", "--engine", "containerd"], more].concat())
}

/// What the status says of it.
fn persistence(root: &Host) -> Option<String> {
    let done = root.call(&["status", "--engine", "containerd"]);
    let is_it = |line: &&str| line.split_whitespace().nth(1) == Some("persistence");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    done.stdout.lines().find(is_it).map(words)
}

#[test]
fn what_keeps_the_gate_is_written_listed_and_undone() {
    if !needs::can_run(
        "install::distributions::what_keeps_the_gate_is_written_listed_and_undone",
        &["systemctl"],
    ) {
        return;
    }
    let watched = "ok persistence systemd watches the configuration, and has the gate put back";
    let nodeadm = "ok persistence nodeadm writes the gate's lines at every boot";
    let rows: [(Files, &[&str], &str); 4] = [
        (CONTAINERD, &[WATCH], watched),
        (K3S, &[WATCH, WRITE], watched),
        (EKS, &[NODE_CONFIG], nodeadm),
        // One of the admin's has that name: it comes back.
        (EKS_TAKEN, &[NODE_CONFIG], nodeadm),
    ];
    for (files, written, says) in rows {
        let root = node(files);
        if files == K3S {
            files::write(
                &root.path("etc/systemd/system/k3s.service"),
                "[Service]\nExecStart=/bin/k3s server\n",
            );
        }
        let (before, what) = (root.tree(), format!("{written:?}"));
        install(&root, &["--persist", "--dry-run"]).expect_success();
        assert_same(&root.tree(), &before, &what);
        install(&root, &["--persist"]).expect_success();
        let manifest: serde_json::Value = serde_json::from_str(&run::read(
            &root.path("var/lib/pss-guard/install/persist-containerd/manifest.json"),
        ))
        .expect("JSON");
        let listed = manifest["files"].as_array().expect("files").iter();
        let listed: Vec<&str> = listed.filter_map(|file| file["path"].as_str()?.strip_prefix('/')).collect();
        assert_eq!(listed, written, "{what}");
        assert!(written.iter().all(|path| run::read(&root.path(path)).contains("--persist`")), "{what}");
        assert_eq!(persistence(&root).as_deref(), Some(says), "{what}");
        let (installed, identities) = (root.tree(), root.identities());
        install(&root, &[]).expect_success();
        assert_same(&root.tree(), &installed, &what);
        assert!(root.identities() == identities, "{what}: the second time changed something");
        // What was persisted stays so, and status knows what is gone. Of a file that somebody removed nothing comes back.
        if files != EKS_TAKEN {
            fs::remove_file(root.path(written[0])).expect("a file of ours");
            let lost = persistence(&root).expect("a line");
            assert!(
                lost.starts_with("WRONG ") && lost.contains(&format!("/{} is missing", written[0])),
                "{lost}"
            );
            install(&root, &[]).expect_success();
            assert_same(&but_copies(root.tree()), &but_copies(installed), &what);
        }
        if files == K3S {
            its_units_are_sound(&root);
        }
        root.call(&["uninstall"]).expect_success();
        let mut left = root.tree();
        // What systemctl makes for its links, and does not remove.
        left.retain(|path, _| before.contains_key(path) || !path.to_string_lossy().ends_with(".wants"));
        assert_same(&left, &before, &what);
    }
}

/// Without the copies that undoing needs, whose names are counted.
fn but_copies(mut tree: Tree) -> Tree {
    tree.retain(|path, _| !path.starts_with("var/lib/pss-guard/install"));
    tree
}

/// The drop-ins of k3s' files in `/srv`, and what systemd makes of them.
fn its_units_are_sound(root: &Host) {
    let folder = "/srv/k3s/agent/etc/containerd";
    let watch = format!(
        "[Path]\nPathChanged={folder}/config-v3.toml.d/99-pss-guard.toml\nPathChanged={folder}/config.toml\n"
    );
    let write = format!("[Service]\nReadWritePaths=\"-{folder}\"\n");
    for (path, text) in [(WATCH, watch), (WRITE, write)] {
        assert_eq!(
            run::read(&root.path(path)).split_once('\n').map(|(_, text)| text),
            Some(&*text),
            "{path}"
        );
    }
    if !needs::can_run("install::distributions::its_units_are_sound", &["systemd-analyze"]) {
        return;
    }
    let copy = root.copy();
    for target in ["sysinit", "basic", "multi-user", "shutdown", "paths"] {
        files::write(&copy.path(&format!("usr/lib/systemd/system/{target}.target")), "[Unit]\n");
    }
    files::write(&copy.path("bin/k3s"), "#!/bin/sh\n");
    fs::set_permissions(copy.path("bin/k3s"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--root"]).arg(copy.root());
    let done =
        run::run(verify.args(["pss-guard-install.path", "pss-guard-install.service"])).expect_success();
    assert!(done.stderr.is_empty(), "{done}");
}

#[test]
fn nodeadm_gets_every_handler_and_the_last_word() {
    let root = node(EKS);
    let config = root.path("etc/containerd/config.toml");
    // Nothing keeps it yet, which the status tells.
    install(&root, &[]).expect_success();
    assert!(!root.path(NODE_CONFIG).exists());
    let says = persistence(&root).expect("a line");
    assert!(
        says.starts_with("note persistence nodeadm writes containerd's configuration at every boot"),
        "{says}"
    );
    root.call(&["uninstall"]).expect_success();
    install(&root, &["--persist"]).expect_success();
    assert!(!run::read(&root.path(NODE_CONFIG)).contains("nvidia"));
    // A driver brings another one: an installation without --persist keeps up.
    let nvidia = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'\n\
                  pod_annotations = ['a\u{2028}\"b\\c']\n\
                  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]\nBinaryName = '/usr/bin/runc'\n";
    fs::write(&config, run::read(&config) + nvidia).expect("a file of ours");
    install(&root, &[]).expect_success();
    let yaml = run::read(&root.path(NODE_CONFIG));
    assert!(yaml.is_ascii(), "{yaml}");
    let text = yaml.split_once("config: |\n").expect("a block").1;
    assert!(text.lines().all(|line| line.starts_with("      ")), "{yaml}");
    let merged: toml::Table = toml::from_str(text).expect("TOML");
    let runtimes = &merged["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"];
    for handler in ["runc", "nvidia"] {
        let entry = format!("/var/lib/pss-guard/runtimes/containerd/{handler}/pss-guard-runtime");
        assert_eq!(runtimes[handler]["options"]["BinaryName"].as_str(), Some(&*entry), "{yaml}");
    }
    let list = runtimes["nvidia"]["pod_annotations"].as_array().expect("a list");
    let list: Vec<&str> = list.iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(list, ["a\u{2028}\"b\\c", "pod-security.kubernetes.io/*"], "{yaml}");
    // A file that nodeadm reads later would have the last word: of that nothing is written.
    let later = |root: &Host| {
        files::write(&root.path("etc/eks/nodeadm.d/99-z.yml"), "  BinaryName = \"/usr/bin/runc\"\n");
    };
    let says =
        "/etc/eks/nodeadm.d/99-z.yml has BinaryName, and nodeadm reads it after 99-pss-guard.yaml; rename it";
    let fresh = node(EKS);
    later(&fresh);
    let before = fresh.tree();
    let done = install(&fresh, &["--persist"]);
    assert!(done.code == Some(2) && done.stderr.contains(says), "{done}");
    assert_same(&fresh.tree(), &before, "refused");
    // Where it comes later, the gate is installed all the same.
    later(&root);
    let done = install(&root, &[]);
    assert!(done.code == Some(2) && done.stderr.contains(says), "{done}");
    assert!(done.stderr.contains("the gate is installed, and not kept in place"), "{done}");
}

/// A path that a unit could not name is refused, and no line of a unit comes from it.
#[test]
fn a_file_with_a_strange_name_is_not_watched() {
    let root = node(CONTAINERD);
    let name = "etc/a\"b.toml";
    fs::copy(root.path("etc/containerd/config.toml"), root.path(name)).expect("a file of ours");
    let done = install(&root, &["--persist", "--config", "/etc/a\"b.toml"]);
    assert!(done.code == Some(2) && done.stderr.contains("cannot be named in a unit of systemd"), "{done}");
    assert!(!Path::new(&root.path(WATCH)).exists());
}

const UNIT: &str = "usr/lib/systemd/system/containerd.service";
const LATE: &str = "etc/systemd/system/containerd.service.d/20.conf";
const CONFIG: &str = "etc/containerd/config.toml";
const IMPORT: &str = "etc/containerd/conf.d/x.toml";

/// A handler that would start past the gate, if it is in a file that is not read.
const EVIL: &str = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.evil]\nruntime_type = 'io.containerd.runc.v2'\n";
const BESIDE: &str = "version = 3\nImports = [\"/etc/containerd/conf.d/*.toml\"]\n";
const PLAIN_UNIT: &str = "[Service]\nExecStart=/usr/bin/containerd\n";

/// A star in a middle folder.
const DEEP: &str = "version = 3\nimports = [\"/etc/containerd/*/x.toml\"]\n\
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n";

/// A node with a containerd and these files. A replacement character in a path is a byte that is not UTF-8.
fn with(files: &[Files]) -> Host {
    let root = Host::new(&[]);
    root.program("containerd");
    add(&root, files);
    root
}

fn add(root: &Host, files: &[&[(&str, &str)]]) {
    for (path, text) in files.iter().copied().flatten() {
        let parts: Vec<&[u8]> = path.split('\u{fffd}').map(str::as_bytes).collect();
        let path = root.root().join(OsStr::from_bytes(&parts.join(&0xff)));
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file of ours");
    }
}

/// What containerd or systemd reads, and this program does not follow, is refused: at the installation, and when it comes
/// after one. Files of the node, and of what is different; what is said.
#[test]
fn what_decides_which_files_containerd_reads_is_followed_or_refused() {
    let spelled = "should be spelled imports";
    let (of_2, of_3): (Files, Files) = (CONTAINERD, &[(CONFIG, V3)]);
    let flatcar: Files = &[
        ("etc/os-release", "ID=flatcar\n"),
        ("usr/share/containerd/config.toml", V2),
        (
            UNIT,
            "[Service]\nEnvironment=CONTAINERD_CONFIG=/usr/share/containerd/config.toml\nExecStart=/usr/bin/containerd --config ${CONTAINERD_CONFIG}\n",
        ),
    ];
    let rows: &[(Files, Files, &str)] = &[
        (of_3, &[(CONFIG, BESIDE), (IMPORT, EVIL)], spelled),
        (of_3, &[(CONFIG, "version = 3\nIMPORTS = [\"conf.d/*.toml\"]\n"), (IMPORT, EVIL)], spelled),
        (of_3, &[(IMPORT, BESIDE), ("etc/containerd/conf.d/y", EVIL)], spelled),
        (
            of_3,
            &[(IMPORT, "[plugins.'io.containerd.cri.v1.runtime'.containerd.Runtimes.evil]\n")],
            "should be spelled runtimes",
        ),
        (of_3, &[("etc/containerd/conf.d/\u{fffd}.toml", EVIL)], "its name is not UTF-8; rename it"),
        (
            of_2,
            &[("etc/systemd/system/containerd.service.d/\u{fffd}.conf", "[Service]\n"), (UNIT, PLAIN_UNIT)],
            "its name is not UTF-8; rename it",
        ),
        (
            of_2,
            &[(
                UNIT,
                "[Service]\nBindReadOnlyPaths=/srv/c.toml:/etc/containerd/config.toml\nExecStart=/usr/bin/containerd\n",
            )],
            "by which it sees another /etc/containerd/config.toml",
        ),
    ];
    // What the unit names is followed by a new installation, and not by one that is there.
    let late: &[(Files, Files, &str)] = &[
        (
            of_2,
            &[
                (UNIT, "[Service]\nWorkingDirectory=/srv\nExecStart=/usr/bin/containerd -c late.toml\n"),
                ("srv/late.toml", V2),
            ],
            "containerd.service starts containerd with /srv/late.toml, and the gate is for /etc/containerd/config.toml",
        ),
        (
            flatcar,
            &[(LATE, "[Service]\nEnvironment=CONTAINERD_CONFIG=/usr/share/containerd/config.toml\n")],
            "remove what names it after /etc/systemd/system/containerd.service.d/10-pss-guard.conf",
        ),
    ];
    for (files, changes, says) in rows.iter().chain(&late[1..]) {
        let root = with(&[files, changes]);
        let before = root.tree();
        let done = root.call(&["install", "--engine", "containerd"]);
        assert!(done.code == Some(2) && done.stderr.contains(says), "{changes:?}\n{done}");
        assert_same(&root.tree(), &before, says);
    }
    for (files, changes, says) in rows.iter().chain(late) {
        let root = with(&[files]);
        install(&root, &[]).expect_success();
        root.call(&["status", "--engine", "containerd"]).expect_success();
        // The file of the node that is changed has the gate in it.
        let expected = with(&[files]);
        for root in [&root, &expected] {
            for change in *changes {
                let old = fs::read_to_string(root.path(change.0)).unwrap_or_default();
                add(root, &[&[*change]]);
                if change.0 == CONFIG {
                    let (_, rest) = old.split_once('\n').expect("a version");
                    let lines = rest.lines().filter(|line| !line.starts_with("imports"));
                    let rest: String = lines.flat_map(|line| [line, "\n"]).collect();
                    fs::write(root.path(CONFIG), change.1.to_owned() + &rest).expect("a file of ours");
                }
            }
        }
        let status = root.call(&["status", "--engine", "containerd"]);
        assert!(matches!(status.code, Some(1 | 2)) && status.stdout.contains(says), "{changes:?}\n{status}");
        let before = root.tree();
        let done = root.call(&["install", "--engine", "containerd"]);
        assert!(done.code == Some(2) && done.stderr.contains(says), "{changes:?}\n{done}");
        assert_same(&root.tree(), &before, says);
        root.call(&["uninstall", "--engine", "containerd"]).expect_success();
        assert_same(&root.tree(), &expected.tree(), says);
    }
}

/// The file that is written, or what is said beside.
#[test]
fn what_a_unit_says_of_its_containerd_is_followed() {
    let rows: &[(Files, &str, &str)] = &[
        (
            &[(UNIT, "[Service]\nExecStart=/usr/bin/containerd -c srv/c.toml\n"), ("srv/c.toml", V2)],
            "srv/c.toml",
            "",
        ),
        (
            &[
                (UNIT, "[Service]\nWorkingDirectory=/srv\nExecStart=/usr/bin/containerd -c c.toml\n"),
                ("srv/c.toml", V2),
            ],
            "srv/c.toml",
            "",
        ),
        (&[(UNIT, "[Service]\nRootDirectory=/\nExecStart=/usr/bin/containerd\n"), (CONFIG, V2)], CONFIG, ""),
        (
            &[(UNIT, "[Service]\nBindPaths=/srv:/etc/cni\nExecStart=/usr/bin/containerd\n"), (CONFIG, V2)],
            CONFIG,
            "",
        ),
        // Another containerd is not asked.
        (
            &[(UNIT, "[Service]\nExecStart=/opt/c2/containerd\n"), (CONFIG, V2)],
            CONFIG,
            "/opt/c2/containerd, which its unit starts, is not there",
        ),
        // What is no folder is not looked into, as in Go.
        (
            &[
                (CONFIG, DEEP),
                ("etc/containerd/a/x.toml", "version = 3\n"),
                ("etc/containerd/b/y.toml", "version = 3\n"),
            ],
            CONFIG,
            "",
        ),
    ];
    for (files, written, says) in rows {
        let root = with(&[files]);
        let done = install(&root, &[]).expect_success();
        assert!((done.stdout + &done.stderr).contains(says), "{files:?}");
        assert!(run::read(&root.path(written)).contains("/pss-guard-runtime"), "{files:?}");
        let status = root.call(&["status", "--engine", "containerd"]);
        assert!(status.code == Some(if says.is_empty() { 0 } else { 2 }), "{files:?}\n{status}");
        assert!(status.stdout.contains(says), "{files:?}\n{status}");
    }
}
