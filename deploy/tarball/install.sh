#!/bin/sh
# Puts pss-guard into a folder of this machine, from the files beside this script, and removes it again. It changes no engine:
# `pss-guard install` does.
set -eu

usage() {
    cat <<END
usage: ./install.sh [--prefix DIR] [--destdir DIR] [--uninstall]

  --prefix DIR    where to: DIR/sbin, DIR/share; /usr/local unless it is given
  --destdir DIR   the root directory of another system, such as an image's; the prefix is below it
  --uninstall     remove exactly the files that this script puts there
END
}

# deploy/dist sets both: what the programs are for, and the manual and the documents of this archive. By their names, so that an
# archive that lost some of them neither installs the rest nor forgets what it once installed.
architecture=unknown
documents=

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

prefix=/usr/local
destdir=
uninstall=
while [ $# -gt 0 ]; do
    case $1 in
    --prefix | --destdir)
        [ $# -gt 1 ] || fail "$1 needs a directory"
        case $1 in
        --prefix) prefix=$2 ;;
        --destdir) destdir=$2 ;;
        esac
        shift 2
        ;;
    --prefix=*)
        prefix=${1#*=}
        shift
        ;;
    --destdir=*)
        destdir=${1#*=}
        shift
        ;;
    --uninstall)
        uninstall=1
        shift
        ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        usage >&2
        fail "unknown option: $1"
        ;;
    esac
done
for directory in "$prefix" "${destdir:-/}"; do
    case $directory in
    /*) ;;
    *) fail "$directory is not an absolute path" ;;
    esac
done
prefix=${prefix%/}
destdir=${destdir%/}
[ -z "$destdir" ] || [ -d "$destdir" ] || fail "$destdir is not a directory"
# Where the archive is, also when a link to this script was called. An absolute path, so that CDPATH leads nowhere else.
script=$(readlink -f "$0") || fail "there is no finding the folder of $0"
cd "${script%/*}/"

# How people call the tool from here.
tool="$destdir$prefix/sbin/pss-guard${destdir:+ --root $destdir}"

# Every file, a line each: its mode, where it is here, and where it goes below the prefix. The gate comes before the tool, so that
# no tool installs a gate that is older than itself.
files() {
    echo "755 pss-guard-gate sbin/pss-guard-gate"
    echo "755 pss-guard-agent sbin/pss-guard-agent"
    echo "755 pss-guard sbin/pss-guard"
    echo "644 completions/pss-guard.bash share/bash-completion/completions/pss-guard"
    echo "644 completions/_pss-guard share/zsh/site-functions/_pss-guard"
    echo "644 completions/pss-guard.fish share/fish/vendor_completions.d/pss-guard.fish"
    for file in LICENSE THIRD-PARTY-LICENSES; do
        echo "644 $file share/doc/pss-guard/$file"
    done
    for file in $documents; do
        case $file in
        doc/*) echo "644 $file share/doc/pss-guard/${file#doc/}" ;;
        *) echo "644 $file share/$file" ;;
        esac
    done
}

# A gate whose tool is removed can no longer be taken out of the engines.
is_installed() {
    for file in "$destdir"/var/lib/pss-guard/bin/pss-guard-gate "$destdir"/var/lib/pss-guard/install/*/manifest.json; do
        [ ! -e "$file" ] || return 0
    done
    return 1
}

# Another folder than that of this prefix, with both programs, from which a boot takes those that the gate has lost: `install` has
# written down which. Then the gate stays whole, and its tool.
is_of_another_folder() {
    for file in "$destdir"/etc/tmpfiles.d/pss-guard.conf "$destdir"/usr/lib/tmpfiles.d/pss-guard.conf; do
        if [ -f "$file" ]; then
            other=$(sed -n 's|^C /var/lib/pss-guard/bin/pss-guard-gate .* \(/[^ ]*\)/pss-guard-gate$|\1|p' "$file")
            [ -n "$other" ] && [ -x "$destdir$other/pss-guard" ] && [ -x "$destdir$other/pss-guard-gate" ] &&
                [ "$(readlink -f "$destdir$other")" != "$(readlink -f "$destdir$prefix/sbin")" ]
            return
        fi
    done
    return 1
}

remove() {
    if is_installed && ! is_of_another_folder; then
        fail "a gate is installed${destdir:+ in $destdir}: run \`$tool uninstall\` first"
    fi
    files | while read -r _ _ place; do
        rm -f "$destdir$prefix/$place" || fail "$destdir$prefix/$place was not removed"
    done
    for directory in share/doc/pss-guard/examples/agent share/doc/pss-guard/examples share/doc/pss-guard; do
        [ ! -d "$destdir$prefix/$directory" ] || rmdir "$destdir$prefix/$directory" 2>/dev/null || :
    done
    echo "removed from $destdir$prefix"
}

put() {
    machine=$(uname -m)
    [ "$machine" != arm64 ] || machine=aarch64
    [ "$machine" != amd64 ] || machine=x86_64
    # In another root directory they may be for another machine.
    [ -n "$destdir" ] || [ "$machine" = "$architecture" ] ||
        fail "these programs are for $architecture, and this machine is $machine: take the archive for $machine"
    # Before anything is written: an archive that was unpacked in part is refused as a whole.
    files | while read -r _ file place; do
        [ -f "$file" ] || fail "$file is missing beside this script; unpack the archive again"
        # mv would put the file into it.
        [ ! -d "$destdir$prefix/$place" ] || fail "$destdir$prefix/$place is a directory; remove it or move it away first"
    done
    files | while read -r mode file place; do
        place=$destdir$prefix/$place
        mkdir -p "${place%/*}"
        # By rename: a program that runs can be replaced, and nobody sees half a file.
        if ! { cp "$file" "$place.new" && chmod "$mode" "$place.new" && mv -f "$place.new" "$place"; }; then
            rm -f "$place.new"
            fail "$place was not written"
        fi
    done
    if is_installed; then
        echo "installed in $destdir$prefix; the installed gate is still the one of before. Replace it:"
        echo
        echo "    sudo $tool install --programs"
    else
        echo "installed in $destdir$prefix; no engine was changed. See what would be:"
        echo
        echo "    sudo $tool install --engine auto --dry-run"
    fi
}

umask 022
if [ -n "$uninstall" ]; then
    remove
else
    put
fi
