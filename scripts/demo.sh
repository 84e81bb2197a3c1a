#!/usr/bin/env bash
# Three nodes boot over the network and form an etcd cluster: with the libvirtd that runs here,
# or, where none does, with one in a sandbox that leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly group=libvirt

say() { printf '\n%s\n' "$*"; }

run() {
    printf '\n\033[1m$ %s\033[0m\n' "${*/#$VIRTLAB/virtlab}"
    "$@"
}

lab() {
    run "$VIRTLAB" create demo --nodes 3 --memory 512MiB
    run "$VIRTLAB" list
    run virsh list --title
    run virsh net-dhcp-leases demo
}

in_sandbox() {
    lab
    run "$VIRTLAB" destroy demo
    say "That was a lab in a sandbox: nothing of it is left. \`make sandbox\` gives you a shell in one."
}

on_this_host() {
    export LIBVIRT_DEFAULT_URI=qemu:///system
    lab
    say "The lab is yours, on this host's libvirtd (virsh -c qemu:///system list). A node's console:
virsh -c qemu:///system console demo-1. Its state: virtlab status demo. The end: virtlab destroy demo.
\`make install\` puts virtlab into your PATH."
}

# Without a terminal polkit's agent cannot ask for a password.
libvirtd_answers() { setsid --wait timeout 10 virsh -c qemu:///system version </dev/null; }

# A socket with somebody at its other end, systemd included; anybody may read this.
libvirtd_listens() {
    awk '$4 == "00010000" && $NF ~ /\/libvirt\/(libvirt|virtqemud)-sock$/ { found = 1 } END { exit !found }' /proc/net/unix
}

if [ -z "${VIRTLAB-}" ]; then
    VIRTLAB=$(scripts/target-dir.sh)/debug/virtlab
    export VIRTLAB
fi
if [ "${1-}" = --inside ]; then
    in_sandbox
    exit
fi

# Outside, since there is no network in a sandbox.
"$VIRTLAB" image build micro
if error=$(libvirtd_answers 2>&1 >/dev/null); then
    on_this_host
elif ! libvirtd_listens; then
    say "No libvirtd runs here: starting one in a sandbox."
    exec scripts/sandbox.sh "$0" --inside
elif [ "$(id -u)" = 0 ] || id -nG | grep -qw "$group"; then
    say "demo: a libvirtd runs here, but does not answer: $error" >&2
    exit 1
else
    cat >&2 <<TEXT

demo: a libvirtd runs here, and you may not use it: $error
hint: join its group \`$group\`, log in again, and run \`make demo\` again: sudo usermod -aG $group $(id -un)
TEXT
    exit 1
fi
