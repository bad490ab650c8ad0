#!/usr/bin/env python3
"""Times dbuild and other builders on the same work, in turn, and prints medians and their ratios.

    scripts/bench.py [--runs N] [--only NAME] [--peers NAME,…] [--json FILE] [--plot DIR] [--dbuild PROGRAM]

All write an OCI archive with the default gzip (Docker's classic builder keeps the image in its daemon instead). The base image lies in
every store before anything is timed. Peers: buildah; Docker's classic builder where a daemon answers; BuildKit where BUILDCTL and
BUILDKIT_ADDR name one. Those that are not there are left out. Absolute times of one machine mean nothing on another; the ratio of one
run does. Needs root. Everything lies in a temporary directory.

--plot draws the ratios and the scaling with stages as SVG.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

BASE = "localhost/bench-base:latest"


def run(command, **kwargs):
    """Runs a program; gives the peak memory of it and of the processes that it waited for, in MiB."""
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, **kwargs)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            said.seek(0)
            sys.exit(f"{' '.join(map(str, command))}\n{said.read().decode(errors='replace')[-2000:]}")
    return usage.ru_maxrss / 1024


def take_memory():
    """Takes 1 GB, if so much is free, and gives it back: a virtual machine may have left free memory to its host, and to fetch it
    again is no work of the builder that happens to come next."""
    with open("/proc/meminfo", encoding="ascii") as file:
        free = int(next(line for line in file if line.startswith("MemFree:")).split()[1]) << 10
    # A process of its own, whose memory is not counted as that of the builders. 23 is MADV_POPULATE_WRITE.
    taking = f"import mmap; mmap.mmap(-1, {max(min(1 << 30, free // 2), 1 << 20)}).madvise(23)"
    subprocess.run([sys.executable, "-c", taking], check=False)


def size_on_disk(path):
    """As `du -s`, in MB: a file with several names counts once."""
    seen, total = set(), 0
    for folder, _, files in os.walk(path):
        for name in files:
            stat = os.lstat(os.path.join(folder, name))
            if stat.st_ino not in seen:
                seen.add(stat.st_ino)
                total += stat.st_blocks * 512
    return total / 1e6


class Dbuild:
    name = "dbuild"

    def __init__(self, program, root):
        self.program, self.root, self.store = program, root, root / "dbuild"

    def call(self, *words):
        return run([self.program, "--store", self.store, *words])

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
        return self.call("build", "-q", "-o", f"type=oci,dest={archive}", context)

    def empty(self):
        shutil.rmtree(self.store, ignore_errors=True)


class Buildah:
    name = "buildah"

    def __init__(self, root):
        self.root, self.store = root, root / "buildah"

    @staticmethod
    def is_there():
        return shutil.which("buildah")

    def call(self, *words):
        storage = ["--root", self.store / "root", "--runroot", self.store / "run", "--storage-driver", "overlay"]
        return run(["buildah", *storage, *words])

    def forget(self):
        if self.store.exists():
            self.call("rmi", "-a", "-f")
        self.call("pull", "-q", f"docker-archive:{self.root / 'base.tar'}")

    def build(self, context):
        archive = self.root / "buildah.oci"
        isolation = ["--isolation", "oci", "--runtime", "runc", "--network", "host", "--tls-verify=false"]
        built = self.call("bud", "-q", "--layers", *isolation, "-t", "bench", context)
        return max(built, self.call("push", "-q", "bench", f"oci-archive:{archive}"))

    def empty(self):
        if self.store.exists():
            self.call("rmi", "-a", "-f")


class Docker:
    """The classic builder: no archive, and no memory of its daemon."""
    name = "docker classic"

    def __init__(self, root):
        self.root = root

    @staticmethod
    def is_there():
        asked = ["docker", "info"]
        return shutil.which("docker") and subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def forget(self):
        run(["docker", "rmi", "-f", "bench"])
        run(["docker", "builder", "prune", "-af"])
        run(["docker", "load", "-qi", self.root / "base.tar"])

    empty = forget

    def build(self, context):
        return run(["docker", "build", "-q", "-t", "bench", context], env={**os.environ, "DOCKER_BUILDKIT": "0"})


class BuildKit:
    """A daemon that runs already; its own memory is not measured."""
    name = "buildkit"

    def __init__(self, root):
        self.root, self.layout = root, root / "base-layout"
        run(["skopeo", "copy", "-q", f"docker-archive:{root / 'base.tar'}", f"oci:{self.layout}:latest"])
        index = json.loads((self.layout / "index.json").read_text())
        self.digest = index["manifests"][0]["digest"]

    @staticmethod
    def is_there():
        return os.environ.get("BUILDCTL") and os.environ.get("BUILDKIT_ADDR") and shutil.which("skopeo")

    def call(self, *words):
        return run([os.environ["BUILDCTL"], "--addr", os.environ["BUILDKIT_ADDR"], *words])

    def forget(self):
        self.call("prune", "--all")

    empty = forget

    def build(self, context):
        archive = self.root / "buildkit.oci"
        base = ["--oci-layout", f"base={self.layout}", "--opt", f"context:{BASE.removesuffix(':latest')}=oci-layout://base@{self.digest}"]
        local = ["--local", f"context={context}", "--local", f"dockerfile={context}"]
        return self.call("build", "--progress", "plain", "--frontend", "dockerfile.v0", *local, *base,
                         "--output", f"type=oci,dest={archive}")


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


def unneeded(context):
    write(context / "Dockerfile", f"""
FROM {BASE} AS expensive
RUN sleep 60
FROM {BASE}
RUN echo 1 > /one
""")


def stages(count):
    """A chain: each stage takes a file of the one before. The last needs them all."""
    def make(context):
        text = f"FROM {BASE} AS s0\nWORKDIR /w0\nCOPY a.txt .\nRUN echo 0 > f\nRUN echo 0 > g\n"
        for n in range(1, count):
            text += (f"FROM {BASE} AS s{n}\nWORKDIR /w{n}\nCOPY --from=s{n - 1} /w{n - 1}/f before\n"
                     f"RUN echo {n} > f\nRUN echo {n} > g\n")
        write(context / "Dockerfile", text)
        write(context / "a.txt", "a\n")
    make.__name__ = f"stages{count}"
    return make


def from_registry(context):
    """Some 100 MB of this machine's own programs as a base that must be pulled."""
    write(context / "Dockerfile", f"FROM {REGISTRY['address']}/programs:latest\nRUN echo 1 > /one\n")


REGISTRY = {}


def serve(root, ours):
    """Starts Debian's docker-registry with the image in it; False where it is not installed."""
    if not shutil.which("docker-registry"):
        return False
    config = root / "registry.yml"
    write(config, f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root / 'registry'}}}}}\nhttp: {{addr: 127.0.0.1:0}}\n")
    child = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in child.stderr:
        if "listening on " in line:
            REGISTRY["address"] = line.split("listening on ")[1].split('"')[0].strip()
            break
    threading.Thread(target=child.stderr.read, daemon=True).start()
    REGISTRY["child"] = child
    context, left = root / "programs", 100_000_000
    for path in sorted(Path("/usr/bin").iterdir()):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < left:
            left -= path.stat().st_size
            write(context / "files" / path.name, path.read_bytes())
    write(context / "Dockerfile", f"FROM {BASE}\nCOPY files /opt/programs\n")
    ours.call("build", "-q", "--push", "-t", f"{REGISTRY['address']}/programs:latest", context)
    return True


def touch(name):
    count = iter(range(1_000_000))
    return lambda context: write(context / name, f"changed {next(count)} {time.time_ns()}\n")


# What the ratio to BuildKit is meant to be.
AIMS = {
    "nothing changed, 3 stages, 10 steps": 0.15,
    "one file of the last COPY changed": 0.25,
    "40 trivial RUN steps, cold": 0.10,
    "20,000 files, 200 MB, cold": 0.20,
    "20,000 files, nothing changed": 0.20,
    "20,000 files, one file changed": 0.20,
    "500 MB through a stage, cold": 0.15,
    "500 MB, nothing changed": 0.20,
    "100 MB pulled and unpacked, one RUN": 0.50,
    "a stage that nobody needs": 0.25,
    "50 stages of 4 steps, nothing changed": 0.10,
    "200 stages of 4 steps, nothing changed": 0.10,
    "500 stages of 4 steps, nothing changed": 0.10,
}

# name, what makes the context, what each run begins with (everything cached, nothing but the base cached, or an empty store), what
# changes before each run
WARM, COLD, EMPTY = "warm", "cold", "empty"
WORKLOADS = [
    ("nothing changed, 3 stages, 10 steps", three_stages, WARM, None),
    ("one file of the last COPY changed", three_stages, WARM, touch("last.txt")),
    ("8 stages that sleep 1 s, cold", sleeping, COLD, None),
    ("40 trivial RUN steps, cold", forty, COLD, None),
    ("20,000 files, 200 MB, cold", many_files, COLD, None),
    ("20,000 files, nothing changed", many_files, WARM, None),
    ("20,000 files, one file changed", many_files, WARM, touch("d7/f1400")),
    ("500 MB through a stage, cold", large_copy, COLD, None),
    ("500 MB, nothing changed", large_copy, WARM, None),
    ("100 MB pulled and unpacked, one RUN", from_registry, EMPTY, None),
    ("a stage that nobody needs", unneeded, COLD, None),
    ("50 stages of 4 steps, nothing changed", stages(50), WARM, None),
    ("200 stages of 4 steps, nothing changed", stages(200), WARM, None),
    ("500 stages of 4 steps, nothing changed", stages(500), WARM, None),
]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--only", help="workloads whose name holds this")
    arguments.add_argument("--peers", help="only these, by name and with commas between them: buildah, docker classic, buildkit")
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--plot", type=Path, help="a directory for the plots")
    arguments.add_argument("--dbuild", type=Path, default=Path(__file__).parent.parent / "target/release/dbuild")
    options = arguments.parse_args()
    root = Path(tempfile.mkdtemp(prefix="dbuild-bench-"))
    try:
        ours = Dbuild(options.dbuild.resolve(), root)
        ours.base()
        wanted = options.peers.split(",") if options.peers else None
        peers = [peer for peer in (Buildah, Docker, BuildKit) if wanted is None or peer.name in wanted]
        tools = [ours, *(peer(root) for peer in peers if peer.is_there())]
        results = measure(tools, root, options)
    finally:
        if "child" in REGISTRY:
            REGISTRY["child"].terminate()
            REGISTRY["child"].wait()
        shutil.rmtree(root, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    if options.plot:
        plot(results, options.plot)


def measure(tools, root, options):
    results, made = [], None
    print(f"{'seconds, median (least to most)':42}" + "".join(f"{tool.name:>26}" for tool in tools) + "     ratios, peak MiB, store MB")
    for name, make, begin, change in WORKLOADS:
        if options.only and options.only not in name:
            continue
        if make is from_registry and not REGISTRY and not serve(root, tools[0]):
            print(f"{name:42}  docker-registry is not installed")
            continue
        context = root / make.__name__
        if made is not make:
            if made:
                shutil.rmtree(root / made.__name__, ignore_errors=True)
            context.mkdir()
            make(context)
            made = make
        results.append(row(name, tools, root, context, begin, change, options.runs))
    return results


def row(name, tools, root, context, begin, change, runs):
    for tool in tools:
        tool.forget()
        if begin is WARM:
            tool.build(context)
    times, peaks = {tool.name: [] for tool in tools}, {tool.name: 0 for tool in tools}
    for _ in range(runs):
        if change:
            change(context)
        for tool in tools:
            if begin is COLD:
                tool.forget()
            elif begin is EMPTY:
                tool.empty()
            # Each writes its archive anew. To remove the last one is no work of a builder, and what was left to be written, by
            # whomever, is not written in another's time.
            for archive in root.glob("*.oci"):
                archive.unlink()
            os.sync()
            take_memory()
            began = time.monotonic()
            peak = tool.build(context)
            times[tool.name].append(time.monotonic() - began)
            peaks[tool.name] = max(peaks[tool.name], peak)
    medians = {tool: statistics.median(seconds) for tool, seconds in times.items()}
    ours = tools[0].name
    ratios = {tool: medians[ours] / median for tool, median in medians.items() if tool != ours}
    cells = "".join(
        f"{statistics.median(t):>10.3f} ({min(t):.3f} to {max(t):.3f})".rjust(26) for t in times.values())
    store = size_on_disk(tools[0].store)
    told = "".join(f"{ratio:>10.3f}" for ratio in ratios.values())
    print(f"{name:42}{cells}{told}{peaks[ours]:>10.0f}{store:>10.0f}", flush=True)
    return {"workload": name, "seconds": times, "ratios": ratios, "peak_mib": peaks, "store_mb": store}


def plot(results, folder):
    """Ratios as bars, one picture for each peer, and the seconds of the rows with stages as a line relative to the first."""
    folder.mkdir(parents=True, exist_ok=True)
    for peer in sorted({peer for result in results for peer in result["ratios"]}):
        rows = [(result["workload"], result["ratios"][peer]) for result in results if peer in result["ratios"]]
        marks = AIMS if peer == BuildKit.name else {}
        title = f"dbuild's time divided by {peer}'s" + (" (black: the aim)" if marks else "")
        write(folder / f"ratio-{peer.replace(' ', '-')}.svg", bars(title, rows, marks))
    scaling = [(int(result["workload"].split()[0]), statistics.median(result["seconds"]["dbuild"]))
               for result in results if "stages of 4 steps" in result["workload"]]
    if len(scaling) > 1:
        stages_0, seconds_0 = scaling[0]
        rows = [(f"{count} stages", seconds / seconds_0 / (count / stages_0)) for count, seconds in scaling]
        write(folder / "scaling.svg", bars("time for each stage, relative to the smallest plan", rows))


def bars(title, rows, marks=None):
    left, width, high = 330, 320, 22
    most = max([1.0, *(value for _, value in rows)])
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 80}" height="{high * len(rows) + 60}" '
             'font-family="sans-serif" font-size="13">', '<rect width="100%" height="100%" fill="#fff"/>',
             f'<text x="8" y="22" font-size="15">{title}</text>']
    for at, (name, value) in enumerate(rows):
        y = 40 + at * high
        length = max(1, value / most * width)
        lines.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{name}</text>'
                     f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="{high - 8}" fill="#4878a8"/>'
                     f'<text x="{left + max(length, (marks or {}).get(name, 0) / most * width) + 6:.1f}" y="{y + 13}">{value:.3f}</text>')
        if name in (marks or {}):
            lines.append(f'<rect x="{left + marks[name] / most * width - 1:.1f}" y="{y}" width="2" height="{high - 4}" fill="#000"/>')
    one = left + width / most
    lines.append(f'<line x1="{one:.1f}" y1="34" x2="{one:.1f}" y2="{40 + high * len(rows)}" stroke="#888" stroke-dasharray="3"/></svg>')
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
