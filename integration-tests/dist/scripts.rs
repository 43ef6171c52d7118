//! Do the packages' scripts work where nothing runs: in a chroot without /proc, in a root directory of another system, under
//! another shell, and with what package managers call them for when something else has failed?

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::{Format, can_run, folder};
use crate::support::needs;
use crate::support::run::{self, Done};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/packages/scripts");

/// Runs a script of commands about a Debian in which nothing runs: it lies in `$R` and is gone afterwards. `inside` runs a command in a chroot without /proc, `left` prints what is there of ours.
fn about_a_root(script: &str) -> Done {
    const PRELUDE: &str = r#"
        set -eu
        mkdir "$D/upper" "$D/work" "$D/root"
        mount -t overlay -o "lowerdir=$DEBIAN,upperdir=$D/upper,workdir=$D/work" overlay "$D/root"
        R=$D/root
        for version in old new; do
            for package in "$PACKAGES/$version/dist"/*amd64.deb "$PACKAGES/$version/dist"/*x86_64.rpm; do
                cp "$package" "$R/$version.${package##*.}"
            done
        done
        inside() {
            env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot "$R" "$@" </dev/null
        }
        left() {
            find "$R" -name '*pss-guard*' ! -path "$R/proc/*" | sort
        }
        # A containerd that was installed into an image, with the gate before it.
        gated() {
            mkdir -p "$R/etc/containerd"
            echo 'version = 2' >"$R/etc/containerd/config.toml"
            "$R/usr/sbin/pss-guard" --root "$R" install --engine containerd >/dev/null 2>&1
            grep -q pss-guard-runtime "$R/etc/containerd/config.toml"
        }
        is_of() {
            cmp "$R/usr/sbin/pss-guard-gate" "$R/var/lib/pss-guard/bin/pss-guard-gate"
        }
    "#;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{PRELUDE}\n{script}")]);
    command.env("D", dir.path()).env("DEBIAN", folder("PSS_GUARD_DEBIAN"));
    command.env("PACKAGES", folder("PSS_GUARD_PACKAGES"));
    run::run_within(&mut command, Duration::from_secs(120))
}

#[test]
fn an_image_gets_the_package_and_no_gate() {
    let test = "scripts::an_image_gets_the_package_and_no_gate";
    if !can_run(test, &["unshare", "chroot", "dpkg", "rpm"]) {
        return;
    }
    // How it is installed, upgraded and removed.
    let rows = [
        ("inside dpkg --install /old.deb", "inside dpkg --install /new.deb", "inside dpkg --purge pss-guard"),
        (
            "dpkg --root=\"$R\" --force-script-chrootless --install \"$R/old.deb\"",
            "dpkg --root=\"$R\" --force-script-chrootless --install \"$R/new.deb\"",
            "dpkg --root=\"$R\" --force-script-chrootless --purge pss-guard",
        ),
        ("inside rpm -U --nodeps /old.rpm", "inside rpm -U --nodeps /new.rpm", "inside rpm -e pss-guard"),
        (
            "rpm --root \"$R\" -U --nodeps \"$R/old.rpm\"",
            "rpm --root \"$R\" -U --nodeps \"$R/new.rpm\"",
            "rpm --root \"$R\" -e pss-guard",
        ),
    ];
    for (install, upgrade, remove) in rows {
        let script = format!(
            "{install}; ls -d \"$R/var/lib/pss-guard\" \"$R/etc/pss-guard\" 2>/dev/null || true
             {upgrade} >/dev/null; inside pss-guard --version >/dev/null; {remove} >/dev/null; left"
        );
        let done = about_a_root(&script).expect_success();
        let says = "the gate is not installed for any engine, and nothing was changed; `pss-guard install --engine auto --dry-run`";
        assert!(done.stdout.contains(says), "{done}");
        assert!(
            !done.stdout.lines().any(|line| line.starts_with('/')),
            "something is there, or left\n{done}"
        );
    }
}

#[test]
fn a_gate_in_an_image_is_upgraded_and_removed_with_the_package() {
    let test = "scripts::a_gate_in_an_image_is_upgraded_and_removed_with_the_package";
    if !can_run(test, &["unshare", "chroot", "dpkg", "rpm"]) {
        return;
    }
    let chrootless = "dpkg --root=\"$R\" --force-script-chrootless";
    let rows = [
        ("inside dpkg --install /", ".deb", "inside dpkg --remove pss-guard", Format::Deb),
        (
            &format!("{chrootless} --install $R/"),
            ".deb",
            &format!("{chrootless} --remove pss-guard"),
            Format::Deb,
        ),
        ("inside rpm -U --nodeps --oldpackage /", ".rpm", "inside rpm -e pss-guard", Format::Rpm),
    ];
    for (install, end, remove, format) in rows {
        // dpkg goes back; rpm cannot, and says so on its way.
        let refusal = match format {
            Format::Deb => format!("! {install}old{end} || exit 3; is_of || exit 4"),
            Format::Rpm => format!(
                "{install}old{end} || true; ! is_of || exit 4; ! inside /usr/sbin/pss-guard install --programs || exit 5
                 : >\"$R/etc/pss-guard/policy.toml\"; inside /usr/sbin/pss-guard install --programs; {install}new{end} >/dev/null"
            ),
        };
        let script = format!(
            "{install}old{end} >/dev/null; gated
             mkdir \"$R/etc/pss-guard\"; : >\"$R/etc/pss-guard/policy.toml\"
             cp \"$R/var/lib/pss-guard/bin/pss-guard-gate\" \"$D/other\"
             {install}new{end}; is_of
             echo 'modee = 1' >\"$R/etc/pss-guard/policy.toml\"
             {refusal}
             : >\"$R/etc/pss-guard/policy.toml\"
             {install}old{end} >/dev/null; is_of; cmp \"$R/var/lib/pss-guard/bin/pss-guard-gate\" \"$D/other\"
             {remove}
             find \"$R/etc/systemd\" -name 'pss-guard*'; cat \"$R/etc/containerd/config.toml\"; ls \"$R/var/lib/pss-guard\" 2>/dev/null || true"
        );
        let done = about_a_root(&script).expect_success();
        assert!(done.stderr.contains("this version cannot use the policy"), "{done}");
        assert!(done.stdout.ends_with("version = 2\n") && !done.stdout.contains(".wants/"), "{done}");
    }
}

/// What package managers call the scripts for, on a node where nothing is installed, and one where the gate is.
#[test]
fn a_script_that_has_nothing_to_do_does_nothing() {
    let test = "scripts::a_script_that_has_nothing_to_do_does_nothing";
    if !can_run(test, &["unshare", "chroot", "busybox"]) {
        return;
    }
    let rows = [
        ("postinstall", "abort-upgrade 1"),
        ("postinstall", "abort-remove"),
        ("postinstall", "abort-remove in-favour other 1"),
        ("postinstall", "abort-deconfigure in-favour other 1 removing another 1"),
        ("postinstall", "triggered x"),
        ("postinstall", ""),
        ("preremove", "upgrade 2"),
        ("preremove", "failed-upgrade 1 2"),
        ("preremove", "deconfigure in-favour other 1"),
        ("preremove", "1"),
        ("preremove", ""),
        ("postremove", "remove"),
        ("postremove", "abort-install"),
        ("postremove", "abort-upgrade 1"),
        ("postremove", "disappear other 1"),
        ("postremove", "0"),
        ("postremove", "1"),
        ("postremove", ""),
        // What it does is what is there already.
        ("postinstall", "configure 1"),
        ("postinstall", "configure"),
        ("postinstall", "2"),
        ("postremove", "upgrade 2"),
        ("postremove", "failed-upgrade 1 2"),
    ];
    let calls: Vec<String> = rows
        .iter()
        .map(|(script, arguments)| {
            format!("$S /scripts/{script} {arguments} >\"$D/said\" 2>&1 || {{ echo '{script} {arguments}'; cat \"$D/said\"; }}")
        })
        .collect();
    let calls = calls.join("\n");
    for shell in ["sh", "busybox sh"] {
        let script = format!(
            "cp -r {SCRIPTS} \"$R/scripts\"; cp {busybox} \"$R/usr/bin/busybox\"; S='inside {shell}'
             inside dpkg --install /old.deb >/dev/null; rm \"$R/var/lib/dpkg/lock\"*
             looks() {{ find \"$R/etc\" \"$R/usr/sbin\" \"$R/var/lib\" -type f ! -name lock -exec sha256sum {{}} + | sort; }}
             looks >\"$D/1\"; {calls}
             looks >\"$D/2\"; diff \"$D/1\" \"$D/2\"
             gated; is_of; looks >\"$D/1\"; {calls}
             looks >\"$D/2\"; diff \"$D/1\" \"$D/2\"
             # A policy and events that somebody wants; a gate that is not of this package.
             mkdir -p \"$R/etc/pss-guard\"; : >\"$R/etc/pss-guard/policy.toml\"
             $S /scripts/postremove purge; [ -e \"$R/etc/pss-guard/policy.toml\" ]; is_of",
            busybox = needs::program("busybox").expect("busybox").display(),
        );
        let done = about_a_root(&script).expect_success();
        assert_eq!(done.stdout, "", "{shell}: {done}");
        assert!(done.stderr.contains("a gate is installed that is not of this package"), "{shell}: {done}");
    }
}

/// What is left of a gate is purged once nothing calls it.
#[test]
fn a_purge_takes_nothing_that_is_called() {
    let test = "scripts::a_purge_takes_nothing_that_is_called";
    if !can_run(test, &["unshare", "chroot", "busybox"]) {
        return;
    }
    let entry = "/var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime";
    // What is there beside the links, and whether they stay.
    let rows = [
        (String::new(), false),
        (format!("mkdir -p \"$R/etc/crio\"; echo 'x = \"{entry}\"' >\"$R/etc/crio/crio.conf\""), true),
        (format!("mkdir -p \"$R/proc/7\"; printf 'conmon\\0-r\\0{entry}\\0' >\"$R/proc/7/cmdline\""), true),
        (
            format!(
                "mkdir -p \"$R/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/x\"
                 echo {entry} >\"$R/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/x/runtime\""
            ),
            true,
        ),
        (running("7 50"), true),
        (running("7 51"), false),
        (running("8 50"), false),
    ];
    for shell in ["sh", "busybox sh"] {
        for (beside, stays) in &rows {
            let script = format!(
                "cp -r {SCRIPTS} \"$R/scripts\"; cp {busybox} \"$R/usr/bin/busybox\"
                 mkdir -p \"$R/var/lib/pss-guard/runtimes/containerd/runc\" \"$R/etc/pss-guard\" \"$R/var/log/pss-guard\"
                 ln -s /usr/sbin/runc \"$R{entry}\"
                 {beside}
                 inside {shell} /scripts/postremove purge
                 ls -d \"$R\"/etc/pss-guard \"$R\"/var/log/pss-guard \"$R\"/var/lib/pss-guard 2>/dev/null || true",
                busybox = needs::program("busybox").expect("busybox").display(),
            );
            let done = about_a_root(&script).expect_success();
            let left: Vec<&str> = done.stdout.lines().collect();
            assert_eq!(left.len(), usize::from(*stays), "{shell}, {beside}: {done}");
            assert_eq!(done.stderr.contains("/var/lib/pss-guard stays"), *stays, "{shell}, {beside}: {done}");
        }
    }
}

/// An engine that was not restarted since, by its process and that one's start; process 7 was started at 50.
fn running(recorded: &str) -> String {
    format!(
        "mkdir -p \"$R/proc/7\" \"$R/run/pss-guard/callers\"
         echo '7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 50 20' >\"$R/proc/7/stat\"
         echo '{recorded}' >\"$R/run/pss-guard/callers/containerd\""
    )
}

/// The scripts are what the packages have.
#[test]
fn the_scripts_are_in_the_packages() {
    if !can_run("scripts::the_scripts_are_in_the_packages", &["dpkg-deb", "rpm"]) {
        return;
    }
    let text = |name: &str| fs::read_to_string(format!("{SCRIPTS}/{name}")).expect("a script of ours");
    for (deb, script) in [("postinst", "postinstall"), ("prerm", "preremove"), ("postrm", "postremove")] {
        let mut show = Command::new("dpkg-deb");
        let done = run::run(show.arg("--info").arg(Format::Deb.package("new")).arg(deb)).expect_success();
        assert_eq!(done.stdout, text(script), "{deb}");
        let done = run::run(Command::new("rpm").args(["-qp", "--scripts"]).arg(Format::Rpm.package("new")))
            .expect_success();
        assert!(done.stdout.contains(&text(script)), "{script}: {done}");
    }
}
