#!/bin/sh
# A machine in namespaces, for machine.rs: its own processes, network, mounts and control groups, and its own copy of the
# directories in which engines and installers write. Everything in it ends with its first process,
# which ends when its standard input does.
#
#   machine.sh up DIR GROUP [SYSTEM PARTS]   in `unshare --mount`: files go below DIR, control groups below GROUP. With
#                                            SYSTEM it has the programs and files of that root file system, which stays
#                                            as it is, and of this machine only the folder PARTS and /tmp
#   machine.sh sweep DIR GROUP               in `unshare --mount`: removes the control groups of a machine that has ended
set -eu

dir=$2
group=$3
system=${4:-}
parts=${5:-}

# The hierarchies of control groups that this kernel has, as `mount -o` wants them. CRI-O asks for hugetlb, which
# nothing else may have mounted.
hierarchies() {
    awk -F : '$1 != 0 { sub(/^name=/, "none,name=", $2); print $2 }' /proc/self/cgroup
    awk '$1 == "hugetlb" && $2 == 0 { print $1 }' /proc/cgroups
}

mount_hierarchies() {
    for options in $(hierarchies); do
        at=$1/${options#none,name=}
        mkdir -p "$at"
        mount -t cgroup -o "$options" cgroup "$at"
    done
}

case $1 in
up)
    mount --make-rprivate /
    mkdir "$dir/cgroup"
    mount_hierarchies "$dir/cgroup"
    for root in "$dir"/cgroup/*; do
        mkdir "$root/$group"
        # A group without processors takes no process.
        for set in cpuset.cpus cpuset.mems; do
            if [ -e "$root/$set" ]; then cat "$root/$set" >"$root/$group/$set"; fi
        done
        echo 0 >"$root/$group/cgroup.procs"
        umount "$root"
    done
    exec unshare --cgroup --pid --net --ipc --uts --fork --kill-child "$0" init "$dir" "$group" "$system" "$parts"
    ;;
init)
    # As it is called outside, where nsenter needs it.
    read -r outside _ </proc/self/stat
    if [ -n "$system" ]; then
        mkdir "$dir/upper" "$dir/scratch" "$dir/root"
        mount -t overlay -o "lowerdir=$system,upperdir=$dir/upper,workdir=$dir/scratch" overlay "$dir/root"
        mkdir -p "$dir/root$parts"
        mount --rbind /dev "$dir/root/dev"
        mount --bind /tmp "$dir/root/tmp"
        mount --bind -o ro "$parts" "$dir/root$parts"
        # umount(8) looks things up there.
        mount -t proc proc "$dir/root/proc"
        cd "$dir/root"
        pivot_root . mnt
        cd /
        umount -l /mnt
    else
        # A copy, because the machine below goes on changing its own: an overlay would let that show through.
        cp -a /etc "$dir/etc"
        mount --bind "$dir/etc" /etc
        for top in opt usr var; do
            mkdir -p "$dir/upper/$top" "$dir/scratch/$top"
            mount -t overlay -o "lowerdir=/$top,upperdir=$dir/upper/$top,workdir=$dir/scratch/$top" overlay "/$top"
        done
    fi
    mount -t tmpfs -o mode=755 tmpfs /run
    # What the machine below writes down is not this node's, a journal and the gate's events above all.
    mount -t tmpfs -o mode=755 tmpfs /var/log
    # Engines lay overlays of their own, which an overlay cannot hold.
    for state in containerd containers docker etcd kubelet; do
        mkdir -p "$dir/$state" "/var/lib/$state"
        mount --bind "$dir/$state" "/var/lib/$state"
    done
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mount_hierarchies /sys/fs/cgroup
    # Volumes with mountPropagation: Bidirectional, and the engines' own mounts.
    mount --make-rshared /
    hostname node
    ip link set lo up
    # The kubelet and the API server look for a way out and take its address for their own.
    ip link add uplink type veth peer name nowhere
    ip address add 192.0.2.1/24 dev uplink
    ip link set uplink up
    ip link set nowhere up
    ip route add default via 192.0.2.254
    # What an earlier installation left on the machine below is not this node's.
    rm -rf /etc/cni/net.d /etc/containerd /etc/crio /etc/pss-guard /usr/local/sbin/pss-guard /var/lib/pss-guard \
        /etc/systemd/system/pss-guard* /etc/tmpfiles.d/pss-guard.conf
    mkdir -p /etc/cni/net.d /run/machine
    echo "$outside" >"$dir/pid.new"
    mv "$dir/pid.new" "$dir/pid"
    exec 3<&0
    cat <&3 >/dev/null &
    # The shell reaps whoever lost its parent until `cat` has come to the end.
    wait $!
    ;;
sweep)
    mount --make-rprivate /
    mkdir -p "$dir/cgroup"
    mount_hierarchies "$dir/cgroup"
    for root in "$dir"/cgroup/*; do
        find "$root/$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    ! ls -d "$dir"/cgroup/*/"$group" 2>/dev/null
    ;;
esac
