#!/usr/bin/env python3
"""Turns what tmux captures of a terminal (`capture-pane -e -p`) into an HTML page, for scripts/picture.sh.

    tmux capture-pane -e -p -t SESSION | terminal_picture.py > page.html
"""

import html
import re
import sys

# The colours of a dark terminal, by their number in SGR sequences.
COLOURS = {
    30: "#1d1f21", 31: "#e06c75", 32: "#98c379", 33: "#e5c07b", 34: "#61afef", 35: "#c678dd", 36: "#56b6c2",
    37: "#dcdfe4", 90: "#7f848e", 91: "#e06c75", 92: "#98c379", 93: "#e5c07b", 94: "#61afef", 95: "#c678dd",
    96: "#56b6c2", 97: "#ffffff",
}


def spans(line: str, style: dict) -> str:
    out = []
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b["):
            for code in [int(code or 0) for code in part[2:-1].split(";")]:
                if code == 0:
                    style.clear()
                elif code == 1:
                    style["font-weight"] = "bold"
                elif code == 2:
                    style["opacity"] = "0.6"
                elif code in COLOURS:
                    style["color"] = COLOURS[code]
                elif code == 39:
                    style.pop("color", None)
        elif part:
            css = ";".join(f"{key}:{value}" for key, value in style.items())
            out.append(f'<span style="{css}">{html.escape(part)}</span>')
    return "".join(out)


def main() -> None:
    style: dict = {}
    lines = [spans(line, style) for line in sys.stdin.read().rstrip("\n").split("\n")]
    print(
        "<!doctype html><meta charset=utf-8><body style='margin:0;background:#1d1f21'>"
        "<pre style='margin:0;padding:18px 22px;color:#dcdfe4;font:15px/1.35 monospace'>"
        + "\n".join(lines)
        + "</pre>"
    )


main()
