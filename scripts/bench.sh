#!/usr/bin/env bash
# Repeats the measurements of docs/performance.md.
set -euo pipefail
cd "$(dirname "$0")"
for bench in bench/*.sh; do
    echo "== $bench"
    "$bench"
done
