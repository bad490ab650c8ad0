#!/usr/bin/env bash
# Makes docs/images/report.png: the report of the sample project (`dbuild demo`), as Chromium shows it.
# Needs chromium (scripts/tools.sh) and a built dbuild; DBUILD names another one.
set -euo pipefail
cd "$(dirname "$0")/.."
dbuild=${DBUILD:-target/debug/dbuild}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export DBUILD_STORE=$work/store
dbuild=$(realpath "$dbuild")
(cd "$work" && "$dbuild" demo > log 2>&1 && "$dbuild" report -o report.html >> log 2>&1) || { cat "$work/log" >&2; exit 1; }
# Without the last flags Chromium tries to reach hosts of its own.
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/chromium" \
    --virtual-time-budget=3000 --window-size=1240,1230 --screenshot="$work/report.png" \
    --no-first-run --disable-background-networking --disable-component-update --disable-sync --disable-quic \
    "file://$work/report.html" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
mv "$work/report.png" docs/images/report.png
ls -l docs/images/report.png
