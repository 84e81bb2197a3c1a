#!/usr/bin/env bash
# Repeats the measurements of docs/performance.md, and fails where one is worse than wanted.
set -euo pipefail
cd "$(dirname "$0")"
status=0
for bench in bench/*.sh; do
    echo "== $bench"
    "$bench" || status=1
done
exit $status
