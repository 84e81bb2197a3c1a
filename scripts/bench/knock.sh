#!/usr/bin/env bash
# From power-on to the boot script being asked for, with the key that ends iPXE's prompt and without it, in turn, for both
# firmwares. Run by `make bench`.
#
# RUNS           how many rounds (5)
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly virtlab=$(scripts/target-dir.sh)/release/virtlab runs=${RUNS:-5}

one() {
    "$virtlab" -q create "$1" --nodes 1 --memory 512MiB --virt-type qemu --ready config "${@:2}" >/dev/null 2>&1
    "$virtlab" status "$1" -o json | jq -r '.nodes[0].seconds.script'
    "$virtlab" -q destroy "$1"
}

if [ "${1-}" != --inside ]; then
    cargo build --quiet --locked --release
    "$virtlab" --quiet image build micro
    exec scripts/sandbox.sh "$0" --inside
fi
echo "seconds from power-on to the boot script being asked for"
printf '%-10s %8s %8s\n' firmware waiting knocking
for ((run = 0; run < runs; run++)); do
    for firmware in bios uefi; do
        printf '%-10s %8s %8s\n' "$firmware" "$(one waiting --firmware "$firmware" --no-knock)" \
            "$(one knocking --firmware "$firmware")"
    done
done
