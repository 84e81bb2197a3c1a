#!/usr/bin/env bash
# Three nodes boot over the network and form an etcd cluster, with the libvirtd that runs
# here, or, where none does, with one in a sandbox that leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly virtlab=target/debug/virtlab

run() {
    printf '\n\033[1m$ %s\033[0m\n' "${*/#$virtlab/virtlab}"
    "$@"
}

lab() {
    run "$virtlab" create demo --nodes 3 --memory 512MiB
    run "$virtlab" list
    run virsh list --title
    run virsh net-dhcp-leases demo
}

if [ "${1-}" = --inside ]; then
    lab
    run "$virtlab" destroy demo
    echo "
That was a lab in a sandbox: nothing of it is left. \`make sandbox\` gives you a shell in one."
    exit
fi

# Outside, since there is no network in a sandbox.
"$virtlab" image build micro
if timeout 10 virsh -c qemu:///system version >/dev/null 2>&1; then
    export LIBVIRT_DEFAULT_URI=qemu:///system
    lab
    echo "
The lab is yours: virsh console demo-1, virtlab status demo; and at last: virtlab destroy demo"
else
    echo "No libvirtd runs here: starting one in a sandbox."
    exec scripts/sandbox.sh "$0" --inside
fi
