#!/usr/bin/env bash
# From power-on to the running kernel: virtlab's network beside a stock libvirt network, same guest,
# in turn, in one sandbox. Run by `make bench`. `boot.sh --picture FILE` draws a boot in each instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly virtlab=$(scripts/target-dir.sh)/release/virtlab image=$PWD/scripts/bench/micro-loud.toml runs=${RUNS:-3}

# Seconds from the start of the domain to a line on its serial console.
seconds_to() {
    local start=$1 log=$2 line=$3
    until grep -qa "$line" "$log" 2>/dev/null; do
        sleep 0.05
        [ $((${EPOCHREALTIME/./} - start)) -lt 90000000 ] || { echo "no '$line' within 90 s" >&2; exit 1; }
    done
    echo $(((${EPOCHREALTIME/./} - start) / 10000))
}

one() {
    local name=$1 start log=/var/lib/libvirt/virtlab-$1/$1-1.console.log
    shift
    "$virtlab" -q create "$name" --nodes 1 --memory 512MiB --image "$image" --virt-type qemu --no-wait "$@"
    # create has started it already; a clean start is one from power-off.
    virsh -q destroy "$name-1" >/dev/null
    start=${EPOCHREALTIME/./}
    virsh -q start "$name-1" >/dev/null
    printf '%-8s %8s %8s\n' "$name" "$(hundredths "$(seconds_to "$start" "$log" 'Linux version')")" \
        "$(hundredths "$(seconds_to "$start" "$log" 'micro:')")"
    "$virtlab" -q destroy "$name"
}

# A boot of each until its etcd is healthy; the one that is done does not take the other's time.
picture() {
    local lab=(--nodes 1 --memory 512MiB --image micro --virt-type qemu)
    {
        "$virtlab" -q create stock "${lab[@]}" --template-dir scripts/bench/stock --no-knock
        "$virtlab" -q pause stock
        "$virtlab" -q create virtlab "${lab[@]}"
        "$virtlab" -q resume stock
    } >/dev/null
    "$virtlab" timeline stock --beside virtlab --svg "$1"
    "$virtlab" -q destroy stock virtlab
}

hundredths() { printf '%d.%02d' $(($1 / 100)) $(($1 % 100)); }

if [ "${1-}" != --inside ]; then
    cargo build --quiet --locked --release
    if [ "${1-}" = --picture ]; then
        "$virtlab" --quiet image build micro
        file=$(realpath "${2:?the file to draw into}")
        exec scripts/sandbox.sh "$PWD/scripts/bench/boot.sh" --inside "$file"
    fi
    "$virtlab" --quiet image build "$image"
    exec scripts/sandbox.sh "$0" --inside
fi
if [ "${2-}" ]; then
    picture "$2"
    exit
fi
echo "seconds from \`virsh start\` to the kernel's first line and to init's first line"
printf '%-8s %8s %8s\n' network kernel init
for ((run = 0; run < runs; run++)); do
    one stock --template-dir scripts/bench/stock
    one virtlab
done
