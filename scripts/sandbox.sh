#!/usr/bin/env bash
# Runs a command beside a libvirtd of its own, of which nothing is seen outside
# and nothing is left: network, processes, mounts and libvirt's folders are
# private, and end with the command. Any number may run at once.
#
#   scripts/sandbox.sh COMMAND [ARGUMENT…]      for example: bash, make test-libvirt
#
# The command's exit status is passed on; 125 means that the sandbox itself failed.
# In it LIBVIRT_DEFAULT_URI, XDG_STATE_HOME and XDG_RUNTIME_DIR are the sandbox's own,
# and VIRTLAB_SANDBOX holds its name. There is no way out to the host's network.
set -eEuo pipefail

readonly private=/run/sandbox
readonly start_deadline=30 # seconds

die() {
    echo "sandbox: $*" >&2
    exit 125
}

# --- outside ------------------------------------------------------------------

outside() {
    local program
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "namespaces and libvirtd need root, and there is no sudo"
        echo "sandbox: namespaces and libvirtd need root, calling sudo" >&2
        # sudo has a PATH of its own, without the caller's cargo.
        exec sudo --preserve-env env "PATH=$PATH:/usr/sbin:/sbin" "$BASH" "$0" "$@"
    fi
    PATH=$PATH:/usr/sbin:/sbin
    for program in libvirtd:libvirt-daemon-system virtlogd:libvirt-daemon-system virsh:libvirt-clients \
        qemu-system-x86_64:qemu-system-x86 dnsmasq:dnsmasq-base ip:iproute2; do
        command -v "${program%:*}" >/dev/null ||
            die "\`${program%:*}\` is missing (package ${program#*:}): scripts/setup.sh run"
    done

    # In the background, because bash runs no trap while a foreground command
    # runs; such a child ignores Ctrl-C and reads /dev/null, hence `env` and
    # `<&0`. If this script is killed, unshare and all beneath it go too.
    env --default-signal=INT,QUIT setpriv --pdeathsig KILL \
        unshare --net --mount --pid --ipc --uts --fork --mount-proc --kill-child \
        "$BASH" "$0" --inside "$@" <&0 &
    unshare_pid=$!
    trap 'forward HUP' HUP
    trap 'forward TERM' TERM
    # A terminal gives Ctrl-C to all of its foreground processes itself.
    if { : </dev/tty; } 2>/dev/null; then
        trap : INT QUIT
    else
        trap 'forward INT' INT
    fi
    # `wait` returns early when a trapped signal arrives; the last one asks the
    # shell for the status that it has kept.
    while kill -0 "$unshare_pid" 2>/dev/null; do wait "$unshare_pid" || true; done
    wait "$unshare_pid"
}

# To the sandbox's PID 1 and to the command, which is its only child in our
# session: the daemons have sessions of their own.
forward() {
    local init
    init=$(pgrep -P "$unshare_pid") || return 0
    pkill "-$1" --session 0 -P "$init" || true
    kill "-$1" "$init" 2>/dev/null || true
}

# --- inside, as PID 1 ---------------------------------------------------------

# Covers a folder with an empty one that has the same owner, mode and first
# level of folders: those that libvirt's packages made.
cover() {
    local target=$1 stage=/mnt directory
    [ -d "$target" ] || die "\`$target\` is missing: scripts/setup.sh run"
    # -n: without mount's own notes in /run, which is covered as well.
    mount -n -t tmpfs -o mode=755 tmpfs "$stage"
    chown --reference="$target" "$stage"
    chmod --reference="$target" "$stage"
    for directory in "$target"/*/; do
        directory=$(basename "$directory")
        [ "$directory" != '*' ] || continue
        mkdir "$stage/$directory"
        chown --reference="$target/$directory" "$stage/$directory"
        chmod --reference="$target/$directory" "$stage/$directory"
    done
    if [ $# = 2 ]; then "$2" "$target" "$stage"; fi
    mount -n --move "$stage" "$target"
}

# Nothing of the host's daemons is kept: their sockets would lead out.
keep_run() {
    local resolv
    find "$2" -mindepth 1 -delete
    mkdir -m 1777 "$2/lock"
    mkdir -m 700 "$2/${private##*/}" "$2/${private##*/}"/{state,runtime}
    resolv=$(readlink -f /etc/resolv.conf || true)
    case $resolv in
    "$1"/*) install -D -m 644 "$resolv" "$2/${resolv#"$1"/}" ;;
    esac
}

# The daemons' settings and network filters, but no host's networks, pools or
# domains. A security driver would load its profiles into the host's kernel. Debian 13's sudo
# forbids core files, and libvirt cannot give QEMU a limit above that. A host that keeps libvirt from its cgroups keeps it
# from those that are mounted in here too.
keep_etc() {
    find "$2" -mindepth 1 -delete
    find "$1" -maxdepth 1 -type f -exec cp -a {} "$2" \;
    if [ -d "$1/nwfilter" ]; then cp -a "$1/nwfilter" "$2"; fi
    touch "$2/qemu.conf"
    sed -i -e '/^ *\(security_driver\|max_core\)\b/d' -e '/^ *cgroup_controllers\b/{:list;/\]/!{N;b list};d}' "$2/qemu.conf"
    printf '%s\n' 'security_driver = "none"' 'max_core = 0' >>"$2/qemu.conf"
}

isolate() {
    local name="sandbox-$1" directory
    mount -n --make-rprivate /
    # /sys shows the network of whoever mounted it. Without cgroups libvirt can leave none behind.
    umount -n -R -l /sys
    mount -n -t sysfs sysfs /sys || die "mounting /sys: is this an unprivileged container?"
    cover /etc/libvirt keep_etc
    for directory in /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do cover "$directory"; done
    cover /run keep_run

    hostname "$name"
    { cat /etc/hosts && echo "127.0.1.1 $name"; } >"$private/hosts"
    mount -n --bind "$private/hosts" /etc/hosts

    ip link set lo up
    # A host may switch IPv6 off for all namespaces; labs boot faster with it.
    local key
    for key in all default lo; do
        { echo 0 >"/proc/sys/net/ipv6/conf/$key/disable_ipv6"; } 2>/dev/null ||
            echo "sandbox: warning: the kernel has no IPv6: network boot is slower" >&2
    done
    export VIRTLAB_SANDBOX=$name XDG_STATE_HOME=$private/state XDG_RUNTIME_DIR=$private/runtime
    export LIBVIRT_DEFAULT_URI=qemu:///system
    unset DBUS_SESSION_BUS_ADDRESS
}

# libvirt's own messages about these do not name what is missing.
check_kernel() {
    ip link add sandbox-check type bridge 2>/dev/null || die "the kernel makes no bridges: modprobe bridge"
    ip link del sandbox-check
    { : <>/dev/net/tun; } 2>/dev/null || die "\`/dev/net/tun\` cannot be opened: modprobe tun"
    local add='POSTROUTING -s 192.0.2.0/24 -j MASQUERADE'
    # shellcheck disable=SC2086 # several words
    if iptables -w -t nat -A $add 2>/dev/null; then
        iptables -w -t nat -D $add
    elif nft 'add table ip check; add chain ip check c { type nat hook postrouting priority 100; };
        add rule ip check c masquerade' 2>/dev/null; then
        nft delete table ip check
    else
        echo "sandbox: warning: neither iptables nor nft can masquerade here (package iptables; modprobe" \
            "nf_nat xt_MASQUERADE): networks in mode nat will not start" >&2
    fi
}

# In sessions of their own: Ctrl-C is meant for the command.
start_libvirtd() {
    local log=$private/libvirtd.log pid
    setsid virtlogd </dev/null >>"$log" 2>&1 &
    setsid libvirtd </dev/null >>"$log" 2>&1 &
    pid=$!
    SECONDS=0
    until virsh version >/dev/null 2>&1; do
        if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -ge "$start_deadline" ]; then
            cat "$log" >&2
            die "libvirtd does not answer after $SECONDS s, its log is above"
        fi
        sleep 0.1
    done
}

# The kernel ends everything in the namespaces when this PID 1 ends. Till then
# bash reaps what is left to it at once: libvirt waits for that when it
# destroys a domain. The command runs in the foreground, because bash may miss
# the end of a background one, and wait for the daemons, if a signal arrives too.
inside() {
    # No signal ends a PID 1 that has no handler for it.
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'die "line $LINENO: $BASH_COMMAND"' ERR
    isolate "$OUTSIDE_PID"
    check_kernel
    start_libvirtd
    unset OUTSIDE_PID
    trap - ERR
    trap : HUP INT TERM
    local status=0
    "$@" || status=$?
    exit "$status"
}

case ${1-} in
'' | -h | --help)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"
    [ "${1-}" ] || exit 2
    ;;
--inside)
    shift
    inside "$@"
    ;;
*)
    export OUTSIDE_PID=$$
    outside "$@"
    ;;
esac
