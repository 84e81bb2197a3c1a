#!/usr/bin/env bash
# Many nodes at once: `virtlab create --no-wait` beside a program that makes the same objects by nothing but libvirt's
# API (scripts/bench/raw.rs), in turn, in one sandbox, and a loop around `virsh start` over the same domains. Fails where
# the median of virtlab's times is too long. Run by `make bench`.
#
# NODES, RUNS    how many nodes (20), how many rounds (5)
# BENCH_MOST     most that is accepted of virtlab's time over the raw API's (1.05)
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly target=$(scripts/target-dir.sh)/release nodes=${NODES:-20} runs=${RUNS:-5} most=${BENCH_MOST:-1.05}
readonly virtlab=$target/virtlab raw=$target/examples/raw-create

# Prints the seconds that a command takes, after its name, and adds them to the file of that name.
timed() {
    local start=${EPOCHREALTIME/./} took
    "${@:2}" >/dev/null
    took=$((${EPOCHREALTIME/./} - start))
    echo "$took" >>"$work/times.$1"
    awk -v name="$1" -v took="$took" 'BEGIN { printf "%-24s %8.2f s\n", name, took / 1e6 }'
}

median() { sort -n "$work/times.$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

# Fails where `1` takes more than `3` times as long as `2`.
compare() {
    awk -v name="$1 / $2" -v a="$(median "$1")" -v b="$(median "$2")" -v most="$3" 'BEGIN {
        printf "%-40s %6.3f (at most %s)\n", name, a / b, most
        exit !(a / b <= most)
    }'
}

each() { for ((node = 1; node <= nodes; node++)); do virsh -q "$1" "many-$node"; done; }

create() {
    "$virtlab" -q create many --nodes "$nodes" --memory 512MiB --virt-type qemu --no-wait
}

# What `raw` needs to make the same as virtlab did.
save() {
    local node
    mkdir -p "$work/lab/domains" "$work/lab/volumes"
    virsh -q net-dumpxml --inactive many >"$work/lab/network.xml"
    virsh -q pool-dumpxml virtlab-many >"$work/lab/pool.xml"
    for ((node = 1; node <= nodes; node++)); do
        virsh -q dumpxml --inactive "many-$node" >"$work/lab/domains/$node.xml"
    done
    find /var/lib/libvirt/virtlab-many -type f ! -name '*.console.log' -exec cp {} "$work/lab/volumes/" \;
}

# virtlab's `destroy` takes away what `raw` made as well: it has virtlab's marks.
round() {
    local first=$1 second=$2 made
    for made in "$first" "$second"; do
        case $made in
        virtlab) timed virtlab-create create ;;
        raw) timed raw-api "$raw" "$work/lab" ;;
        esac
        [ "$made" != virtlab ] || [ "$run" -gt 0 ] || {
            timed virsh-destroy each destroy
            timed virsh-start each start
        }
        timed "$made-destroy" "$virtlab" -q destroy many
    done
}

if [ "${1-}" != --inside ]; then
    cargo build --quiet --locked --release --bins --example raw-create
    "$virtlab" --quiet image build micro
    exec scripts/sandbox.sh "$0" --inside
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "$nodes nodes of 512 MiB"
# The first one only warms up, and is what the others are copied from.
create
save
"$virtlab" -q destroy many
for ((run = 0; run < runs; run++)); do
    if ((run % 2)); then round raw virtlab; else round virtlab raw; fi
done
echo "medians of $runs:"
status=0
compare virtlab-create raw-api "$most" || status=1
compare virtlab-create virsh-start 1 || status=1
compare virtlab-destroy virsh-destroy 1 || status=1
[ $status = 0 ] || echo "many: slower than wanted" >&2
exit $status
