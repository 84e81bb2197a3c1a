#!/usr/bin/env bash
# A lab of three nodes with etcd: how long it takes to make it, to save it, and to bring it back to a healthy cluster, again and
# again, in one sandbox. Each time the key of the snapshot is there and the one that was written after it is not. Fails where that
# is slower than wanted. Run by `make bench`.
#
# RUNS           how many rounds (10)
# VIRTLAB        the program (cargo's release build, which is made)
# BENCH_MOST     most seconds that are accepted from `virtlab snapshot restore` to a healthy cluster (2.5)
# BENCH_LEAST    how many times as long as that `virtlab create` takes, at least, by the medians (8)
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly virtlab=${VIRTLAB:-$(scripts/target-dir.sh)/release/virtlab} runs=${RUNS:-10} most=${BENCH_MOST:-2.5} least=${BENCH_LEAST:-8}
readonly lab=bench-back

# Prints the milliseconds that a command takes.
timed() {
    local start=${EPOCHREALTIME/./}
    "$@" >&2
    echo $(((${EPOCHREALTIME/./} - start) / 1000))
}

etcd() {
    ETCDCTL_API=3 etcdctl --endpoints="http://$("$virtlab" -q status "$lab" -o json | jq -r '.nodes[0].ip'):2379" "$@"
}

create() { "$virtlab" -q create "$lab" --nodes 3 --memory 512MiB --virt-type qemu; }
# It ends when all nodes are ready and etcd is healthy.
restore() { "$virtlab" -q snapshot restore "$lab" base; }
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

if [ "${1-}" != --inside ]; then
    cargo build --quiet --locked --release
    "$virtlab" --quiet image build micro
    exec scripts/sandbox.sh "$0" --inside
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Twice, so that what is read from disk is in memory the second time.
create 2>"$work/said"
"$virtlab" -q destroy "$lab"
fresh=$(timed create 2>"$work/said")
echo "create, three healthy nodes: $fresh ms"
etcd put old 1 >/dev/null
save=$(timed "$virtlab" -q snapshot save "$lab" base 2>"$work/said")
size=$("$virtlab" -q snapshot list "$lab" -o json | jq '.snapshots[0].bytes / 1048576 | round')
echo "save: $save ms, $size MiB"
status=0
for ((run = 1; run <= runs; run++)); do
    etcd put old 2 >/dev/null
    etcd put new 1 >/dev/null
    took=$(timed restore 2>"$work/said")
    echo "$took" >>"$work/restore"
    echo "restore $run to a healthy cluster: $took ms"
    [ "$(etcd get old --print-value-only)" = 1 ] && [ -z "$(etcd get new --print-value-only)" ] || {
        echo "snapshot: it is not what was saved" >&2
        status=1
    }
done
"$virtlab" -q destroy "$lab"
awk -v fresh="$fresh" -v median="$(median <"$work/restore")" -v worst="$(sort -n "$work/restore" | tail -1)" -v most="$most" -v least="$least" 'BEGIN {
    printf "restore: median %.2f s, longest %.2f s (at most %s); create takes %.1f times as long (at least %s)\n", median / 1e3, worst / 1e3, most, fresh / median, least
    exit !(worst <= most * 1e3 && fresh >= least * median)
}' || { echo "snapshot: slower than wanted" >&2; status=1; }
exit $status
