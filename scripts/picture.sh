#!/usr/bin/env bash
# Makes the pictures of README.md: docs/images/report.png, the report of the sample project (`dbuild demo`) as Chromium
# shows it, and docs/images/terminal.png, a build of that project after a page was changed, in a terminal.
# Needs chromium (scripts/tools.sh), tmux, and a built dbuild; DBUILD names another one.
set -euo pipefail
cd "$(dirname "$0")/.."
dbuild=$(realpath "${DBUILD:-target/debug/dbuild}")
root=$PWD
work=$(mktemp -d)
session=picture-$$
trap 'tmux kill-session -t "$session" 2> /dev/null || true; rm -rf "$work"' EXIT

export DBUILD_STORE=$work/store
shoot() { # PAGE PNG WIDTH,HEIGHT
    # Without the last flags Chromium tries to reach hosts of its own.
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/chromium" \
        --virtual-time-budget=3000 --window-size="$3" --screenshot="$work/shot.png" \
        --no-first-run --disable-background-networking --disable-component-update --disable-sync --disable-quic \
        "file://$1" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    mv "$work/shot.png" "$2"
    ls -l "$2"
}

(cd "$work" && "$dbuild" demo > log 2>&1 && "$dbuild" report -o report.html >> log 2>&1) || { cat "$work/log" >&2; exit 1; }
shoot "$work/report.html" "$root/docs/images/report.png" 1240,1230

# What a shell of a user shows, without the paths of this machine.
mkdir "$work/bin" && ln -s "$dbuild" "$work/bin/dbuild"
base=$(cd "$work" && dbuild=1 "$dbuild" images 2> /dev/null | grep -q dbuild.local/host && echo " --build-arg BASE=dbuild.local/host" || true)
tmux new-session -d -s "$session" -x 100 -y 27 -c "$work/dbuild-demo" \
    "env PATH=$work/bin:$PATH DBUILD_STORE=$DBUILD_STORE PS1='$ ' sh"
type_line() { tmux send-keys -t "$session" "$1" Enter; }
type_line "clear; echo 'More text.' >> pages/copying.txt"
type_line "dbuild build -t app$base ."
for _ in $(seq 100); do
    if tmux capture-pane -p -t "$session" | grep -q "^done in"; then break; fi
    sleep 0.2
done
tmux capture-pane -e -p -t "$session" | scripts/terminal_picture.py > "$work/terminal.html"
shoot "$work/terminal.html" "$root/docs/images/terminal.png" 960,580
