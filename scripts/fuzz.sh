#!/usr/bin/env bash
# Looks for input of which a property of tests/fuzz/ does not hold: from lab files, libvirt's XML, journals and what nodes
# ask the discovery. Needs cargo-fuzz and a nightly toolchain. `make fuzz` runs it.
#
#   scripts/fuzz.sh [TARGET…]          default: each target in turn
#   scripts/fuzz.sh --keep [TARGET…]   puts the least that reaches all that was found so far into tests/fuzz/corpus
#
# FUZZ_SECONDS   how long each target runs (600)
# FUZZ_LONGEST   the longest input that --keep takes, in bytes (800)
# FUZZ_BYTES     how much --keep takes for each target, in bytes (40000)
set -euo pipefail
cd "$(dirname "$0")/.."

die() {
    echo "fuzz: $*" >&2
    exit 1
}

# There is no unsafe code in what runs here, so that a sanitizer would only make it slower.
fuzz() {
    local target=$1 folder=$2
    shift 2
    nice cargo +nightly fuzz run --fuzz-dir fuzz --sanitizer none "$target" "$folder" \
        "fuzz/corpus/$target" "tests/fuzz/corpus/$target" -- "$@"
}

look() {
    fuzz "$1" "fuzz/corpus/$1" -dict=fuzz/words.dict -max_total_time="${FUZZ_SECONDS:-600}" ||
        die "a property of tests/fuzz/$1.rs does not hold: mend it, and copy the file that is named above to tests/fuzz/corpus/$1"
}

# What reaches all edges of the code that were ever reached, as much of it as fits, beside what was written by hand.
keep() {
    local target=$1 corpus=tests/fuzz/corpus/$1 room=${FUZZ_BYTES:-40000} least file
    least=$(mktemp -d)
    fuzz "$target" "$least" -set_cover_merge=1 -use_counters=0 -max_len="${FUZZ_LONGEST:-800}"
    find "$corpus" -type f -regextype sed -regex '.*/[0-9a-f]\{40\}' -delete
    # libFuzzer names a file by its digest, so that their order is that of a lottery.
    for file in "$least"/*; do
        room=$((room - $(stat -c %s "$file")))
        [ "$room" -lt 0 ] || cp "$file" "$corpus/"
    done
    rm -r "$least"
}

cargo +nightly fuzz --version >/dev/null 2>&1 ||
    die "it needs a nightly toolchain and cargo-fuzz: rustup toolchain install nightly && cargo install --locked cargo-fuzz"
doing=look
if [ "${1-}" = --keep ]; then
    doing=keep
    shift
fi
[ $# -gt 0 ] || set -- lab_file mark journal discovery
# What it finds is written into a file for each try.
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm
for target; do
    mkdir -p "fuzz/corpus/$target"
    "$doing" "$target"
done
