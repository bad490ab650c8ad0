#!/usr/bin/env python3
"""Builds the cases of fixtures/cases and compares trees, configs and history.

    conformance.py [CASE…]            dbuild against a reference builder
    conformance.py --expect [CASE…]   dbuild against expect.txt and error.txt
    conformance.py --show CASE…       what dbuild makes of a case, in the form of expect.txt

The reference is BuildKit, through `buildctl`, where BUILDCTL or BUILDKIT_ADDR is set; else buildah, with chroot
isolation and a storage of its own. What differs on purpose, or because the reference is wrong, is said with a reason
in a case's differs.txt: `REFERENCE KIND: reason`, KIND being tree, config, history, fail (one of the two fails) or
all. A difference that no line of it covers makes the exit code 1, and so does a line that covers nothing, unless its
kind ends in `?`: then the reference does not do the same each time. With --expect it is 1 when a case does not do what
its expect.txt or error.txt says.

DBUILD is the program (target/debug/dbuild), DBUILD_STORE the store (a temporary one). fixtures/cases/README.md tells
what lies in a case.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "fixtures" / "cases"
FIXTURES = Path(os.environ.get("FIXTURES_DIR", ROOT / "target" / "fixtures"))
DBUILD = os.environ.get("DBUILD", str(ROOT / "target" / "debug" / "dbuild"))
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What BuildKit starts from: these are not shown, so that an expectation holds what the case is about.
SCRATCH_CONFIG = {"Env": [DEFAULT_PATH], "WorkingDir": "/"}
TIMEOUT = 120


# --- images -------------------------------------------------------------------------------------------------------


class Entry:
    """One path of a flattened image."""

    __slots__ = ("kind", "mode", "uid", "gid", "detail", "inode", "xattrs")

    def __init__(self, kind, mode, uid, gid, detail, inode, xattrs):
        self.kind, self.mode, self.uid, self.gid = kind, mode, uid, gid
        self.detail, self.inode, self.xattrs = detail, inode, xattrs

    def same_as(self, other):
        """Whether a base's path is untouched; a link count is no property of a path."""
        mine = (self.kind, self.mode, self.uid, self.gid, self.detail, self.xattrs)
        return mine == (other.kind, other.mode, other.uid, other.gid, other.detail, other.xattrs)


def content(data):
    """Contents as a reader checks them: the text where it is short, else a part of the digest."""
    try:
        text = data.decode()
        if len(data) <= 160 and all(c.isprintable() or c in "\n\t" for c in text):
            return f"{len(data)} {json.dumps(text, ensure_ascii=False)}"
    except UnicodeDecodeError:
        pass
    return f"{len(data)} sha256:{hashlib.sha256(data).hexdigest()[:12]}"


def apply_layer(tree, archive, counter):
    """Applies one layer's tar to a tree of path → Entry."""
    made = set()
    for member in archive:
        path = re.sub(r"^(\./|/)+", "", member.name).rstrip("/")
        if path in ("", "."):
            continue
        folder, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            for below in [p for p in tree if p.startswith(folder + "/") and p not in made]:
                del tree[below]
            continue
        if name.startswith(".wh."):
            gone = f"{folder}/{name[4:]}".lstrip("/")
            for below in [p for p in tree if p == gone or p.startswith(gone + "/")]:
                del tree[below]
            continue
        made.add(path)
        if not member.isdir():
            for below in [p for p in tree if p.startswith(path + "/")]:
                del tree[below]
        xattrs = {k[len("SCHILY.xattr."):]: v for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")}
        inode = None
        if member.islnk():
            target = re.sub(r"^(\./|/)+", "", member.linkname)
            tree[path] = tree[target]
            if tree[path].inode is None:
                counter[0] += 1
                tree[path].inode = counter[0]
            continue
        if member.isdir():
            kind, detail = "dir", ""
        elif member.issym():
            kind, detail = "link", "-> " + member.linkname
        elif member.isfile():
            kind, detail = "file", content(archive.extractfile(member).read())
        elif member.isfifo():
            kind, detail = "fifo", ""
        elif member.ischr() or member.isblk():
            kind, detail = "char" if member.ischr() else "block", f"{member.devmajor}:{member.devminor}"
        else:
            raise ValueError(f"{path}: type {member.type!r} is no business of a layer")
        mode = 0o777 if kind == "link" else member.mode & 0o7777
        tree[path] = Entry(kind, mode, member.uid, member.gid, detail, inode, xattrs)


class Image:
    """A built image: what it holds when flattened, its config and its history."""

    def __init__(self, layout):
        layout = Path(layout)
        index = json.loads((layout / "index.json").read_text())
        blob = lambda d: (layout / "blobs" / d.replace(":", "/")).read_bytes()
        manifest = json.loads(blob(index["manifests"][-1]["digest"]))
        if "manifests" in manifest:
            manifest = json.loads(blob(manifest["manifests"][0]["digest"]))
        whole = json.loads(blob(manifest["config"]["digest"]))
        self.config = {k: v for k, v in (whole.get("config") or {}).items() if v not in (None, [], {}, "", False)}
        if whole.get("author"):
            self.config["author"] = whole["author"]
        self.history = [
            ("empty " if h.get("empty_layer") else "layer ") + h.get("created_by", "").replace("\n", "\\n") for h in whole.get("history") or []
        ]
        layers = manifest["layers"] or []
        self.layers = len(layers)
        if self.layers != sum(h.startswith("layer ") for h in self.history):
            raise ValueError(f"{self.layers} layers, but the history tells of others: {self.history}")
        self.tree, counter = {}, [0]
        for number, layer in enumerate(layers):
            data = blob(layer["digest"])
            if layer["mediaType"].endswith("gzip"):
                data = gzip.decompress(data)
            if "sha256:" + hashlib.sha256(data).hexdigest() != whole["rootfs"]["diff_ids"][number]:
                raise ValueError(f"layer {number} does not have the diff_id that the config tells")
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                apply_layer(self.tree, archive, counter)

    def tree_lines(self, base):
        """The paths that are not the base's, and those of the base that are gone."""
        lines, first = [], {}
        for path in sorted(set(self.tree) | set(base.tree)):
            entry, old = self.tree.get(path), base.tree.get(path)
            if entry is None:
                lines.append(f"gone {path}")
                continue
            if old is not None and entry.same_as(old):
                continue
            line = f"{entry.kind} {entry.mode:04o} {entry.uid}:{entry.gid}"
            if entry.inode is not None and entry.inode in first:
                detail = f"same-as {first[entry.inode]}"
            else:
                detail = entry.detail
                if entry.inode is not None:
                    first[entry.inode] = path
            xattrs = "".join(f" [{k}]" for k in sorted(entry.xattrs))
            lines.append(" ".join(part for part in (line, path, detail) if part) + xattrs)
        return lines

    def config_lines(self, base):
        lines = []
        for key in sorted(set(self.config) | set(base.config)):
            if self.config.get(key) != base.config.get(key):
                lines.append(f"config {key} {json.dumps(self.config.get(key), sort_keys=True, ensure_ascii=False)}")
        return lines

    def history_lines(self, base):
        return ["history " + h for h in self.history[len(base.history):]]


class Nothing:
    """The image `scratch`."""

    tree, config, history = {}, SCRATCH_CONFIG, []


# --- cases --------------------------------------------------------------------------------------------------------


class Case:
    def __init__(self, path):
        self.path, self.name = path, path.name
        self.dockerfile = (path / "Dockerfile").read_bytes()
        read = lambda name: (path / name).read_text().splitlines() if (path / name).exists() else None
        self.flags = [line for line in read("flags.txt") or [] if line and not line.startswith("#")]
        self.error = None
        if (error := read("error.txt")) is not None:
            self.error = [line for line in error if line and not line.startswith("#")]
        self.expect = None
        if (expect := read("expect.txt")) is not None:
            self.expect = [line for line in expect if line and not line.startswith("#")]
        self.differs = [line for line in read("differs.txt") or [] if line and not line.startswith("#")]

    def base_name(self):
        """`busybox` where the target's root is busybox. The case says so where it cannot be seen."""
        said = [line[5:] for line in self.expect or [] if line.startswith("base ")]
        if said:
            return said[0]
        froms = re.findall(rb"(?im)^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?\s*$", self.dockerfile)
        parents = {name.lower().decode(): base.decode() for base, name in froms if name}
        base = froms[-1][0].decode() if froms else "scratch"
        while base in parents and parents[base] != base:
            base = parents[base]
        return base if base == "busybox" else "scratch"

    def make_context(self, where):
        """A copy whose modes do not depend on the umask of whoever checked out, and what git cannot keep."""
        context = where / "context"
        if (self.path / "context").exists():
            shutil.copytree(self.path / "context", context, symlinks=True)
        else:
            context.mkdir()
        context.chmod(0o755)
        for folder, folders, files in os.walk(context):
            for name in folders:
                path = Path(folder, name)
                path.is_symlink() or path.chmod(0o755)
            for name in files:
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        if (self.path / "prepare.sh").exists():
            script = 'umask 022; PATH=$PATH:/usr/sbin:/sbin; . "$1"'
            subprocess.run(["sh", "-euc", script, "sh", self.path / "prepare.sh"], cwd=context, check=True)
        (where / "Dockerfile").write_bytes(self.dockerfile)
        return context


class Failed(Exception):
    """A build that ended with an error, which a case may want."""


def run(command, cwd, env=None):
    """Runs to the end, in a process group of its own so that a build that hangs takes its children along."""
    child = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, start_new_session=True)
    try:
        out, _ = child.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, _ = child.communicate()
        raise Failed(f"still running after {TIMEOUT} s\n" + out.decode(errors="replace"))
    out = out.decode(errors="replace")
    if child.returncode != 0:
        raise Failed(out)
    return out


# --- builders -----------------------------------------------------------------------------------------------------


class Dbuild:
    name = "dbuild"

    def __init__(self, work, registry):
        self.env = dict(os.environ, HOME=str(work / "home"), DBUILD_CONFIG=str(work / "config.toml"))
        self.env.setdefault("DBUILD_STORE", str(work / "store"))
        (work / "home").mkdir(exist_ok=True)
        (work / "config.toml").write_text(f'[registry."docker.io"]\nmirrors = ["{registry}"]\n')
        self.work = work

    def build(self, case, where, context):
        command = [DBUILD, "build", "--progress", "plain", "-f", str(where / "Dockerfile"),
                   "-o", f"type=oci,tar=false,dest={where}/dbuild.oci", "-o", f"type=tar,dest={where}/dbuild.tar",
                   *case.flags, str(context)]
        out = run(command, where, self.env)
        image = Image(where / "dbuild.oci")
        flat = {}
        with tarfile.open(where / "dbuild.tar") as archive:
            apply_layer(flat, archive, [0])
        # A layer may leave out a directory that is implied; everything else must be the same in both exports.
        wrong = [p for p in sorted(set(flat) | set(image.tree))
                 if p not in flat or p not in image.tree or not flat[p].same_as(image.tree[p])]
        if wrong:
            raise ValueError(f"type=tar and the image's layers disagree about {', '.join(wrong[:5])}")
        return image, out


class Buildah:
    """Debian's buildah. It keeps rules of its own in places, which differs.txt tells."""

    name = "buildah"

    def __init__(self, work, registry):
        storage = work / "containers"
        self.command = ["buildah", "--root", str(storage / "root"), "--runroot", str(storage / "run"),
                        "--storage-driver", "vfs"]
        self.storage, self.work = storage, work
        (work / "registries.conf").write_text(
            f'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n[[registry]]\n'
            f'prefix = "docker.io"\nlocation = "{registry}"\ninsecure = true\n')
        (work / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        self.env = dict(os.environ, HOME=str(work / "home"), CONTAINERS_REGISTRIES_CONF=str(work / "registries.conf"))
        (work / "home").mkdir(exist_ok=True)

    def build(self, case, where, context):
        tag = f"localhost/case-{case.name}"
        options = ["--isolation", "chroot", "--format", "docker", "--pull=false", "--layers=false",
                   "--signature-policy", str(self.work / "policy.json")]
        out = run([*self.command, "build", *options, "-t", tag, "-f", str(where / "Dockerfile"), *case.flags,
                   str(context)], where, self.env)
        run([*self.command, "push", "--signature-policy", str(self.work / "policy.json"), "--format", "oci", tag,
             f"oci:{where}/buildah.oci:image"], where, self.env)
        run([*self.command, "rmi", "--force", tag], where, self.env)
        return self.without_habits(Image(where / "buildah.oci"), case), out

    @staticmethod
    def without_habits(image, case):
        """Leaves out what buildah does everywhere: its label, no WorkingDir for /, no ArgsEscaped, and the stubs that
        its chroot isolation leaves in each image that ran something."""
        labels = {k: v for k, v in image.config.pop("Labels", {}).items() if k != "io.buildah.version"}
        if labels:
            image.config["Labels"] = labels
        if case.base_name() == "scratch":
            image.config.setdefault("WorkingDir", "/")
        if re.search(rb"(?im)^\s*CMD\b", case.dockerfile):
            image.config["ArgsEscaped"] = True
        if re.search(rb"(?im)^\s*(onbuild\s+)?run\b", case.dockerfile):
            for path in ("etc/hostname", "etc/hosts", "etc/resolv.conf"):
                if path in image.tree and image.tree[path].mode == 0o755:
                    del image.tree[path]
            if "run" in image.tree and not any(p.startswith("run/") for p in image.tree):
                del image.tree["run"]
        return image

    def close(self):
        if self.storage.exists():
            subprocess.run([*self.command, "rm", "--all"], env=self.env, capture_output=True, check=False)
            subprocess.run([*self.command, "umount", "--all"], env=self.env, capture_output=True, check=False)


class Buildctl:
    """BuildKit itself, the yardstick. Its daemon must be able to reach the local registry as docker.io."""

    name = "buildkit"

    def __init__(self, _work, _registry):
        self.command = [os.environ.get("BUILDCTL", "buildctl")]
        if "BUILDKIT_ADDR" in os.environ:
            self.command += ["--addr", os.environ["BUILDKIT_ADDR"]]

    def build(self, case, where, context):
        options, flags = [], iter(case.flags)
        for flag in flags:
            name, has_value, value = flag.partition("=")
            if not has_value:
                value = next(flags, "")
            if name in ("--build-arg", "--label", "--build-context"):
                kind = {"--build-arg": "build-arg", "--label": "label", "--build-context": "context"}[name]
                key, _, value = value.partition("=")
                if kind == "context":
                    options += ["--local", f"{key}={value}"]
                    value = f"local:{key}"
                options += ["--opt", f"{kind}:{key}={value}"]
            elif name == "--target":
                options += ["--opt", f"target={value}"]
            elif name == "--secret":
                options += ["--secret", value]
            else:
                raise ValueError(f"{flag} is not translated for buildctl yet")
        out = run([*self.command, "build", "--progress", "plain", "--frontend", "dockerfile.v0",
                   "--local", f"context={context}", "--local", f"dockerfile={where}", *options,
                   "--output", f"type=oci,tar=false,dest={where}/buildkit.oci"], where)
        return Image(where / "buildkit.oci"), out

    def close(self):
        pass


class Registry:
    """The local registry with the tests' base images, as long as this process runs."""

    def __init__(self, work):
        subprocess.run([ROOT / "scripts" / "bases.sh", "small"], check=True)
        (work / "registry.yml").write_text(
            "version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {FIXTURES}/registry}}, delete: {{enabled: true}}}}\n"
            'http: {addr: "127.0.0.1:0"}\n')
        self.child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve",
                                       work / "registry.yml"], stderr=subprocess.PIPE, text=True)
        for line in self.child.stderr:
            if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                self.address = found[1]
                # A pipe that nobody reads would stop the registry some day.
                subprocess.Popen(["cat"], stdin=self.child.stderr, stdout=subprocess.DEVNULL)
                return
        raise SystemExit("docker-registry does not start")

    def close(self):
        self.child.kill()
        self.child.wait()


# --- comparing ----------------------------------------------------------------------------------------------------


def difference(wanted, got):
    """Lines with - for what is wanted and missing, + for what is there and not wanted. The order of history counts."""
    missing = [f"    - {line}" for line in wanted if line not in got]
    extra = [f"    + {line}" for line in got if line not in wanted]
    if not missing and not extra and [w for w in wanted if w.startswith("history")] != [
        g for g in got if g.startswith("history")
    ]:
        return ["    the history's order differs"]
    return missing + extra


def without(lines, prefixes):
    """Lines whose path lies in none of the folders."""
    def path(line):
        words = line.split(" ")
        return words[1] if words[0] == "gone" else words[3] if len(words) > 3 else ""
    return [line for line in lines if not any(path(line) == p or path(line).startswith(p + "/") for p in prefixes)]


def lines_of(image, base, case):
    expect = case.expect or []
    ignored = [line[7:] for line in expect if line.startswith("ignore ")]
    lines = without(image.tree_lines(base), ignored) + image.config_lines(base)
    if any(line.startswith("history ") for line in expect):
        lines += image.history_lines(base)
    if any(line.startswith("layers ") for line in expect):
        lines.append(f"layers {image.layers - sum(h.startswith('layer ') for h in base.history)}")
    return lines


class Runner:
    def __init__(self, work):
        self.work = work
        self.registry = Registry(work)
        self.dbuild = Dbuild(work, self.registry.address)
        self.bases = {}

    def base(self, builder, name):
        if name == "scratch":
            return Nothing
        if (builder.name, name) not in self.bases:
            case = Case.__new__(Case)
            case.name, case.flags, case.expect, case.dockerfile = f"base-{name}", [], None, f"FROM {name}\n".encode()
            where = self.work / f"base-{builder.name}-{name}"
            (where / "context").mkdir(parents=True)
            (where / "Dockerfile").write_text(f"FROM {name}\n")
            self.bases[builder.name, name] = builder.build(case, where, where / "context")[0]
        return self.bases[builder.name, name]

    def build(self, builder, case):
        """The image, or the error's text."""
        with tempfile.TemporaryDirectory(dir=self.work, prefix=f"{case.name}-") as where:
            where = Path(where)
            context = case.make_context(where)
            try:
                return builder.build(case, where, context)[0], None
            except Failed as error:
                return None, str(error)

    def expected(self, case):
        """What is wrong with dbuild's result, as lines."""
        image, error = self.build(self.dbuild, case)
        if case.error is not None:
            if error is None:
                return ["    builds, where an error is expected"]
            if "panicked" in error:
                return ["    panics", error]
            lower = error.lower()
            missing = [f"    the error does not have the word {w!r}:\n{error}" for w in case.error if w.lower() not in lower]
            return missing
        if error is not None:
            return ["    " + line for line in ["fails:", *error.splitlines()[-15:]]]
        base = self.base(self.dbuild, case.base_name())
        wanted = [line for line in case.expect if not line.startswith(("ignore ", "base "))]
        return difference(wanted, lines_of(image, base, case))

    def compared(self, case, reference):
        """Differences that differs.txt does not tell, and its lines that tell of none."""
        ours, our_error = self.build(self.dbuild, case)
        theirs, their_error = self.build(reference, case)
        found = {}
        if (ours is None) != (theirs is None):
            who, text = ("dbuild", our_error) if ours is None else (reference.name, their_error)
            found["fail"] = [f"    only {who} fails: " + " ".join(text.split())[-300:]]
        elif ours is not None:
            name = case.base_name()
            our_base, their_base = self.base(self.dbuild, name), self.base(reference, name)
            ignored = [line[7:] for line in case.expect or [] if line.startswith("ignore ")]
            kinds = {
                "tree": [without(i.tree_lines(b), ignored) for i, b in ((theirs, their_base), (ours, our_base))],
                "config": [i.config_lines(b) for i, b in ((theirs, their_base), (ours, our_base))],
            }
            if reference.name == "buildkit":
                kinds["history"] = [i.history_lines(b) for i, b in ((theirs, their_base), (ours, our_base))]
            found = {kind: lines for kind, both in kinds.items() if (lines := difference(*both))}
        known, sometimes = {}, set()
        for line in case.differs:
            head, _, reason = line.partition(":")
            who, _, kind = head.partition(" ")
            if kind.endswith("?"):
                kind = kind[:-1]
                sometimes.add(kind)
            if not reason.strip() or kind not in ("tree", "config", "history", "fail", "all"):
                return [f"    differs.txt: not of the form REFERENCE KIND: reason: {line}"]
            if who == reference.name:
                known[kind] = reason
        wrong = [f"  {kind}" + "\n" + "\n".join(lines) for kind, lines in found.items()
                 if kind not in known and "all" not in known]
        stale = [f"    differs.txt tells of a difference in {kind}, and there is none" for kind in known
                 if kind not in found and kind not in sometimes and not (kind == "all" and found)]
        return wrong + stale


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--expect", action="store_true", help="compare dbuild with expect.txt and error.txt only")
    parser.add_argument("--show", action="store_true", help="print what dbuild makes")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()

    names = options.cases or sorted(p.name for p in CASES.iterdir() if (p / "Dockerfile").exists())
    cases = [Case(CASES / name) for name in names]
    if not cases:
        raise SystemExit("no cases: nothing would be compared")
    reference = None
    bad = 0
    with tempfile.TemporaryDirectory(prefix="dbuild-conformance-") as work:
        work = Path(work)
        runner = Runner(work)
        if not options.expect and not options.show:
            kind = Buildctl if "BUILDCTL" in os.environ or "BUILDKIT_ADDR" in os.environ else Buildah
            if kind is Buildah and not shutil.which("buildah"):
                raise SystemExit("no reference builder: install buildah, or set BUILDCTL or BUILDKIT_ADDR")
            reference = kind(work, runner.registry.address)
            if kind is Buildah:
                run([*reference.command, "pull", "--signature-policy", str(work / "policy.json"),
                     "docker.io/library/busybox"], work, reference.env)
        try:
            for case in cases:
                try:
                    if options.show:
                        image, error = runner.build(runner.dbuild, case)
                        lines = lines_of(image, runner.base(runner.dbuild, case.base_name()), case) if image else [error]
                        print(f"# {case.name}", *lines, *image.history_lines(Nothing) if image else [], sep="\n")
                        continue
                    if case.expect is None and case.error is None:
                        wrong = ["    has neither expect.txt nor error.txt"]
                    elif options.expect:
                        wrong = runner.expected(case)
                    else:
                        wrong = runner.compared(case, reference)
                except (ValueError, KeyError, tarfile.TarError, subprocess.CalledProcessError, OSError) as error:
                    wrong = [f"    {type(error).__name__}: {error}"]
                if wrong:
                    bad += 1
                    print(f"{case.name}\n" + "\n".join(wrong), flush=True)
        finally:
            if reference:
                reference.close()
            runner.registry.close()
    if not options.show:
        print(f"{len(cases)} cases, {bad} with differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
