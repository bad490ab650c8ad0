#!/usr/bin/env python3
"""Lists what the program is made of, as CycloneDX 1.5: every crate that is linked into it, with its version, licence and checksum.

    scripts/sbom.py VERSION TARGET
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def checksums():
    """The digests in Cargo.lock, by name and version."""
    found = {}
    for block in (ROOT / "Cargo.lock").read_text(encoding="utf-8").split("[[package]]"):
        field = dict(re.findall(r'^(name|version|checksum) = "(.*)"$', block, re.MULTILINE))
        if "checksum" in field:
            found[field["name"], field["version"]] = field["checksum"]
    return found


def linked(metadata, root):
    """The ids of the packages that the program links, with those that each links. What only builds or tests is no part of it."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    seen, todo = {}, [root]
    while todo:
        package = todo.pop()
        if package in seen:
            continue
        kinds = lambda dep: [kind["kind"] for kind in dep["dep_kinds"]]
        seen[package] = sorted(dep["pkg"] for dep in nodes[package]["deps"] if None in kinds(dep))
        todo.extend(seen[package])
    return seen


def main():
    version, target = sys.argv[1:]
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={target}"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    root = next(id for id, package in packages.items() if package["name"] == "dbuild")
    edges, sums = linked(metadata, root), checksums()
    reference = {id: f"pkg:cargo/{packages[id]['name']}@{packages[id]['version']}" for id in edges}

    def component(id):
        package = packages[id]
        entry = {
            "type": "application" if id == root else "library",
            "bom-ref": reference[id],
            "name": package["name"],
            "version": package["version"],
            "purl": reference[id],
        }
        if package.get("license"):
            entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = sums.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return entry

    order = sorted(edges, key=lambda id: reference[id])
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    stamp = subprocess.run(["date", "-u", "-d", f"@{seconds}", "+%Y-%m-%dT%H:%M:%SZ"], check=True, stdout=subprocess.PIPE, text=True)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": stamp.stdout.strip(), "component": {**component(root), "version": version}},
        "components": [component(id) for id in order if id != root],
        "dependencies": [{"ref": reference[id], "dependsOn": [reference[dep] for dep in edges[id]]} for id in order],
    }
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
