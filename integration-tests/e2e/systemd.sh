#!/bin/sh
# A systemd as first process, for systemd.rs: processes, network, mounts and control groups of its own.
#
# What it calls `/` is a file system in memory. Of the machine below it can reach `/usr`, to read, and nothing else: a
# systemd that comes up empties /tmp, sets kernel parameters and loads modules, and all that must not be anybody's.
#
#   systemd.sh up DIR GROUP   its files are those below DIR/files, and what a Debian has in /etc
set -eu

dir=$2
group=/sys/fs/cgroup/systemd/$3

case $1 in
up)
    mkdir "$group"
    echo $$ >"$group/cgroup.procs"
    exec unshare --cgroup --mount --pid --net --ipc --uts --fork --kill-child "$0" init "$dir" "$3"
    ;;
init)
    mount --make-rprivate /
    root=$dir/root
    mkdir "$root"
    mount -t tmpfs -o mode=755 tmpfs "$root"
    cd "$root"
    mkdir dev etc home old opt proc root run srv sys tmp usr var
    mount --bind /usr usr
    mount -o remount,bind,ro usr
    for link in bin sbin lib lib32 lib64 libx32; do
        if [ -L "/$link" ]; then cp -a "/$link" .; fi
    done
    cp -a /etc/. etc/
    # This machine's units are not ours to start.
    rm -rf etc/systemd/system etc/machine-id etc/pss-guard etc/tmpfiles.d/pss-guard.conf
    mkdir -p etc/systemd/system var/log/journal
    for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-clean.timer \
        systemd-udevd.service systemd-udev-trigger.service systemd-sysctl.service systemd-modules-load.service \
        systemd-remount-fs.service systemd-random-seed.service systemd-binfmt.service systemd-logind.service; do
        ln -s /dev/null "etc/systemd/system/$unit"
    done
    cp -a "$dir/files/." .
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    mount -t tmpfs tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    mount -t tmpfs -o mode=755 tmpfs dev
    mkdir dev/shm dev/pts
    ln -s /proc/self/fd dev/fd
    for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" "ptmx 5 2"; do
        # shellcheck disable=SC2086 # name, major, minor
        set -- $node
        mknod -m 666 "dev/$1" c "$2" "$3"
    done
    pivot_root . old
    cd /
    umount -l /old
    rmdir /old
    ip link set lo up
    # Nothing is begun where anything else can be reached.
    for place in / /tmp /home /root /var /etc; do
        [ "$(stat -f -c %T $place)" = tmpfs ] || exit 9
    done
    ! touch /usr/.writable 2>/dev/null || exit 9
    # sd-id128 would take this machine's.
    tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
    export container=other
    exec /lib/systemd/systemd --system --unit=pss-guard-test.target --log-target=journal --show-status=0
    ;;
esac
