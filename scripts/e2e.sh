#!/usr/bin/env bash
# Runs the tests with real guests, each file of tests/e2e in a sandbox: several at a time, because a guest that boots
# leaves a processor idle for half of the time. The tests of one file run one after the other. What a file
# printed is shown when it has ended.
#
#   scripts/e2e.sh FEATURE [FILE…]      for example: e2e-full power scale
#
# E2E_SANDBOXES   how many sandboxes (one for each processor, at most four: a lab takes up to 5 GiB)
set -euo pipefail
cd "$(dirname "$0")/.."

# In a sandbox: takes what no other has taken, until nothing is left.
inside() {
    local file log names
    for file in $(files); do
        log=$work/$file.log
        (set -o noclobber && : >"$log") 2>/dev/null || continue
        mapfile -t names < <(grep "^$file::" "$work/tests")
        "$tests" --exact --test-threads=1 "${names[@]}" >"$log" 2>&1 || echo "$file" >>"$work/failed"
        flock "$work/tests" cat "$log"
    done
}

files() { sed 's/::.*//' "$work/tests" | uniq; }

outside() {
    local sandboxes=${E2E_SANDBOXES:-$(nproc)} file pid status=0 pids=()
    [ "$sandboxes" -le 4 ] || sandboxes=4
    work=$(mktemp -d)
    trap 'kill "${pids[@]}" 2>/dev/null || :; wait; rm -rf "$work"' EXIT
    tests=$("${CARGO:-cargo}" test --locked --features "$1" --test e2e --no-run 2>&1 | tee >(cat >&2) |
        sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
    shift
    "$tests" --list | sed -n 's/: test$//p' | sort >"$work/all"
    # shellcheck disable=SC2046 # several words
    [ $# -gt 0 ] || set -- $(sed 's/::.*//' "$work/all" | uniq)
    for file; do
        grep "^$file::" "$work/all" >>"$work/tests" || { echo "e2e: there is no test in \`$file\`" >&2 && exit 1; }
    done
    # Asks for a password once, where it asks.
    [ "$(id -u)" = 0 ] || sudo true
    echo "$(wc -l <"$work/tests") tests in $# files, in $sandboxes sandboxes"
    while [ "${#pids[@]}" -lt "$sandboxes" ]; do
        # A command in the background ignores Ctrl-C, if nobody says otherwise.
        env --default-signal=INT,QUIT scripts/sandbox.sh scripts/e2e.sh --inside "$work" "$tests" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
    pids=()
    [ ! -s "$work/failed" ] || { echo "e2e: failed: $(paste -sd ' ' "$work/failed")" >&2 && exit 1; }
    exit "$status"
}

case ${1-} in
'' | -h | --help)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"
    [ "${1-}" ] || exit 2
    ;;
--inside)
    work=$2 tests=$3
    inside
    ;;
*) outside "$@" ;;
esac
