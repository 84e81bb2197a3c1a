#!/bin/sh
# Prints the folder that cargo builds into, wherever it is set: CARGO_TARGET_DIR, cargo's config.
cd "$(dirname "$0")/.." || exit
cargo metadata --locked --offline --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
