#!/usr/bin/env bash
# How long `virtlab list` and `virsh list --all` take from start to end, in turn, beside the same libvirtd. Fails where
# virtlab is slower. Run by `make bench`.
#
# RUNS           how many rounds (100)
# BENCH_MOST     most that is accepted of virtlab's median over virsh's (1)
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly virtlab=$(scripts/target-dir.sh)/release/virtlab runs=${RUNS:-100} most=${BENCH_MOST:-1}

if [ "${1-}" != --inside ]; then
    cargo build --quiet --locked --release
    exec scripts/sandbox.sh "$0" --inside
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

timed() {
    local start=${EPOCHREALTIME/./}
    "${@:2}" >/dev/null 2>&1
    echo $((${EPOCHREALTIME/./} - start)) >>"$work/$1"
}

median() { sort -n "$work/$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

# The first ones bring the programs into the page cache.
"$virtlab" list >/dev/null
virsh list --all >/dev/null
for ((run = 0; run < runs; run++)); do
    timed virtlab "$virtlab" list
    timed virsh virsh list --all
done
awk -v a="$(median virtlab)" -v b="$(median virsh)" -v most="$most" -v runs="$runs" 'BEGIN {
    printf "virtlab list %.1f ms, virsh list %.1f ms, medians of %d: %.2f (at most %s)\n", a / 1e3, b / 1e3, runs, a / b, most
    exit !(a / b <= most)
}' || { echo "startup: slower than wanted" >&2; exit 1; }
