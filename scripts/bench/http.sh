#!/usr/bin/env bash
# Compares the boot server with nginx: both serve the same big file on loopback, in turn, to one
# client and to many at once. Prints a table, and fails where we are slower than wanted.
#
#   scripts/bench/http.sh [CLIENTS…]      default: 1 20; also by `make bench`
#
# BENCH_MIB      size of the file (512)
# BENCH_ROUNDS   rounds, of which the best counts (5): others on this computer only make it worse
# BENCH_LEAST    least share of nginx's throughput that is accepted (0.9)
# VIRTLAB        the program (cargo's release build, which is built if it is missing)
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly mib=${BENCH_MIB:-512} rounds=${BENCH_ROUNDS:-5} least=${BENCH_LEAST:-0.9}
readonly virtlab=${VIRTLAB:-$(scripts/target-dir.sh)/release/virtlab}
readonly our_port=18470 nginx_port=18471
readonly uuid=00000000-0000-4000-8000-000000000000

die() {
    echo "http: $*" >&2
    exit 1
}

start_nginx() {
    cat >"$work/nginx.conf" <<END
worker_processes auto;
pid $work/nginx.pid;
error_log $work/nginx.log;
events { worker_connections 256; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    server { listen 127.0.0.1:$nginx_port; root $work; }
}
END
    nginx -e "$work/nginx.log" -c "$work/nginx.conf" -g 'daemon off;' &
    pids+=($!)
}

# A lab without guests: what its boot server reads is all that there is of it. The client is a
# node, so that what is sent is counted as it is for nodes.
start_virtlab() {
    export XDG_STATE_HOME=$work/state
    mkdir -p "$XDG_STATE_HOME/virtlab/bench"
    cat >"$XDG_STATE_HOME/virtlab/bench/content.json" <<END
{"lab": "bench", "uuid": "$uuid", "address": "127.0.0.1", "port": $our_port, "config_type": "text/plain",
 "nodes": [{"index": 1, "name": "bench-1", "mac": "52:54:00:00:00:01", "ip": "127.0.0.1", "script": "", "config": ""}],
 "files": {"big": {"path": "$work/big", "stage": "rootfs"}}}
END
    VIRTLAB_LOG=warn "$virtlab" serve bench 2>"$work/virtlab.log" &
    pids+=($!)
}

# Seconds that `clients` downloads at once take.
run() {
    local url=$1 clients=$2 start end job jobs=()
    start=$(date +%s%N)
    for ((job = 0; job < clients; job++)); do
        curl -sS --fail --max-time 120 --noproxy '*' -o /dev/null "$url" &
        jobs+=($!)
    done
    for job in "${jobs[@]}"; do wait "$job" || die "downloading $url: $(cat "$work"/*.log)"; done
    end=$(date +%s%N)
    echo $(((end - start) / 1000))
}

await() {
    local try
    for ((try = 0; try < 100; try++)); do
        curl -sS --fail --noproxy '*' -o /dev/null -r 0-0 "$1" 2>/dev/null && return
        sleep 0.1
    done
    die "nobody answers at $1: $(cat "$work"/*.log)"
}

for program in curl nginx; do
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || die "\`$program\` is missing: scripts/setup.sh test"
done
[ -x "$virtlab" ] || cargo build --locked --release
PATH=$PATH:/usr/sbin
work=$(mktemp -d)
chmod 755 "$work"
pids=()
cleanup() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap cleanup EXIT
head -c "${mib}M" /dev/urandom >"$work/big"
chmod 644 "$work/big"
start_nginx
start_virtlab
nginx_url=http://127.0.0.1:$nginx_port/big our_url=http://127.0.0.1:$our_port/files/big
await "$nginx_url"
await "$our_url"
cmp <(curl -sS --noproxy '*' "$our_url") "$work/big" || die "what is served is not the file"

status=0
printf '%-8s %12s %12s %8s\n' CLIENTS NGINX VIRTLAB RATIO
for clients in "${@:-1 20}"; do
    for count in $clients; do
        best_nginx='' best_ours=''
        for ((round = 0; round < rounds; round++)); do
            time=$(run "$nginx_url" "$count")
            [ "$best_nginx" ] && [ "$best_nginx" -le "$time" ] || best_nginx=$time
            time=$(run "$our_url" "$count")
            [ "$best_ours" ] && [ "$best_ours" -le "$time" ] || best_ours=$time
        done
        awk -v clients="$count" -v mib="$mib" -v nginx="$best_nginx" -v ours="$best_ours" -v least="$least" 'BEGIN {
            amount = clients * mib * 1e6
            printf "%-8d %6.0f MiB/s %6.0f MiB/s %8.2f\n", clients, amount / nginx, amount / ours, nginx / ours
            exit !(nginx / ours >= least)
        }' || status=1
    done
done
[ $status = 0 ] || echo "http: less than $least of nginx's throughput" >&2
exit $status
