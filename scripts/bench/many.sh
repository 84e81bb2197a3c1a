#!/usr/bin/env bash
# Many nodes at once: `virtlab create`, a loop around `virsh start` over the same domains, and
# `virtlab destroy`. Run by `make bench`.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly virtlab=$(scripts/target-dir.sh)/debug/virtlab nodes=${NODES:-20} runs=${RUNS:-3}

timed() {
    local start=${EPOCHREALTIME/./} took
    "${@:2}" >/dev/null
    took=$(((${EPOCHREALTIME/./} - start) / 10000))
    printf '%-28s %4d.%02d s\n' "$1" $((took / 100)) $((took % 100))
}

each() { for ((node = 1; node <= nodes; node++)); do virsh -q "$1" "many-$node"; done; }

if [ "${1-}" != --inside ]; then
    "$virtlab" --quiet image build micro
    exec scripts/sandbox.sh "$0" --inside
fi
echo "$nodes nodes of 512 MiB"
for ((run = 0; run < runs; run++)); do
    timed "virtlab create --no-wait" "$virtlab" -q create many --nodes "$nodes" --memory 512MiB \
        --virt-type qemu --no-wait
    timed "virsh destroy, in turn" each destroy
    timed "virsh start, in turn" each start
    timed "virtlab destroy" "$virtlab" -q destroy many
done
