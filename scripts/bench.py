#!/usr/bin/env python3
"""Times dbuild and buildah on the same work, in turn, and prints medians and their ratios.

    scripts/bench.py [--runs N] [--only NAME] [--json FILE] [--dbuild PROGRAM]

Both write an OCI archive with the default gzip. The base image lies in both stores before anything is timed.
Absolute times of one machine mean nothing on another; the ratio of one run does. Without buildah only dbuild is timed.
Needs root. Everything lies in a temporary directory.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASE = "localhost/bench-base:latest"


def run(command, **kwargs):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout.decode(errors='replace')[-2000:]}")


class Dbuild:
    name = "dbuild"

    def __init__(self, program, root):
        self.program, self.root, self.store = program, root, root / "dbuild"

    def call(self, *words):
        run([self.program, "--store", self.store, *words])

    def base(self):
        self.call("image", "from-host", "-t", BASE)
        self.call("save", BASE, "-o", self.root / "base.tar")

    def forget(self):
        shutil.rmtree(self.store, ignore_errors=True)
        self.call("load", "-i", self.root / "base.tar")
        # The base unpacked, as it is in a store that has been used.
        self.call("run", BASE, "true")

    def build(self, context):
        archive = self.root / "dbuild.oci"
        archive.unlink(missing_ok=True)
        self.call("build", "-q", "-o", f"type=oci,dest={archive}", context)


class Buildah:
    name = "buildah"

    def __init__(self, root):
        self.root, self.store = root, root / "buildah"

    def call(self, *words):
        storage = ["--root", self.store / "root", "--runroot", self.store / "run", "--storage-driver", "overlay"]
        run(["buildah", *storage, *words])

    def forget(self):
        if self.store.exists():
            self.call("rmi", "-a", "-f")
        self.call("pull", "-q", f"docker-archive:{self.root / 'base.tar'}")

    def build(self, context):
        archive = self.root / "buildah.oci"
        archive.unlink(missing_ok=True)
        isolation = ["--isolation", "oci", "--runtime", "runc", "--network", "host"]
        self.call("bud", "-q", "--layers", *isolation, "-t", "bench", context)
        self.call("push", "-q", "bench", f"oci-archive:{archive}")


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def three_stages(context):
    write(context / "Dockerfile", f"""
FROM {BASE} AS one
WORKDIR /one
COPY a.txt .
RUN echo 1 > one
RUN echo 2 > two
FROM {BASE} AS two
WORKDIR /two
RUN echo 3 > three
RUN echo 4 > four
FROM {BASE}
COPY --from=one /one /one
COPY --from=two /two /two
COPY last.txt /last.txt
""")
    write(context / "a.txt", "a\n")
    write(context / "last.txt", "b\n")


def sleeping(context):
    stages = "".join(f"FROM {BASE} AS s{n}\nRUN sleep 1; echo {n} > /out{n}\n" for n in range(8))
    copies = "".join(f"COPY --from=s{n} /out{n} /\n" for n in range(8))
    write(context / "Dockerfile", f"{stages}FROM {BASE}\n{copies}")


def forty(context):
    write(context / "Dockerfile", f"FROM {BASE}\n" + "".join(f"RUN echo {n} > /f{n}\n" for n in range(40)))


def many_files(context):
    write(context / "Dockerfile", f"FROM {BASE}\nCOPY . /app\n")
    for number in range(20_000):
        # 10 KB each, half of it incompressible: 200 MB.
        write(context / f"d{number // 200}" / f"f{number}", os.urandom(5000) + b"x" * 5000)


def large_copy(context):
    write(context / "Dockerfile", f"FROM {BASE} AS big\nCOPY big.bin /big.bin\nFROM scratch\nCOPY --from=big /big.bin /\n")
    with open(context / "big.bin", "wb") as file:
        for _ in range(500):
            file.write(os.urandom(1_000_000))


def touch(name):
    count = iter(range(1_000_000))
    return lambda context: write(context / name, f"changed {next(count)} {time.time_ns()}\n")


# name, what makes the context, whether each run begins with an empty cache, what changes before each run
WORKLOADS = [
    ("nothing changed, 3 stages, 10 steps", three_stages, False, None),
    ("one file of the last COPY changed", three_stages, False, touch("last.txt")),
    ("8 stages that sleep 1 s, cold", sleeping, True, None),
    ("40 trivial RUN steps, cold", forty, True, None),
    ("context of 20,000 files, 200 MB, cold", many_files, True, None),
    ("the same, nothing changed", many_files, False, None),
    ("the same, one file changed", many_files, False, touch("d7/f1400")),
    ("COPY --from of 500 MB, cold", large_copy, True, None),
    ("the same, nothing changed", large_copy, False, None),
]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--only", help="workloads whose name holds this")
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--dbuild", type=Path, default=Path(__file__).parent.parent / "target/release/dbuild")
    options = arguments.parse_args()
    root = Path(tempfile.mkdtemp(prefix="dbuild-bench-"))
    try:
        ours = Dbuild(options.dbuild.resolve(), root)
        ours.base()
        tools = [ours] + ([Buildah(root)] if shutil.which("buildah") else [])
        results = measure(tools, root, options)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(tools, root, options):
    results, made = [], None
    print(f"{'seconds, median (least to most)':42}" + "".join(f"{tool.name:>26}" for tool in tools) + "     ratio")
    for name, make, cold, change in WORKLOADS:
        if options.only and options.only not in name:
            continue
        context = root / make.__name__
        if made is not make:
            if made:
                shutil.rmtree(root / made.__name__, ignore_errors=True)
            context.mkdir()
            make(context)
            made = make
        for tool in tools:
            tool.forget()
            if not cold:
                tool.build(context)
        times = {tool.name: [] for tool in tools}
        for _ in range(options.runs):
            if change:
                change(context)
            for tool in tools:
                if cold:
                    tool.forget()
                began = time.monotonic()
                tool.build(context)
                times[tool.name].append(time.monotonic() - began)
        row = {"workload": name, "seconds": times}
        cells = "".join(
            f"{statistics.median(t):>10.3f} ({min(t):.3f} to {max(t):.3f})".rjust(26) for t in times.values())
        medians = [statistics.median(t) for t in times.values()]
        row["ratio"] = medians[0] / medians[1] if len(medians) > 1 else None
        print(f"{name:42}{cells}" + (f"{row['ratio']:>10.3f}" if row["ratio"] else ""), flush=True)
        results.append(row)
    return results


if __name__ == "__main__":
    main()
