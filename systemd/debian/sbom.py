#!/usr/bin/env python3
"""Bill of materials of what is built in, from Cargo.lock: CycloneDX 1.5 and a list of licences.

    sbom.py DIR        writes DIR/sbom.cdx.json and DIR/licences.txt

The same lock file gives the same bytes: there is no time and no random number in it.
"""

import json
import pathlib
import subprocess
import sys


def built_in():
    """Names, versions, licences and sources of the packages that end up in the binary, sorted."""
    tree = ["cargo", "tree", "--locked", "-e", "normal,build", "--prefix", "none", "--target",
            "x86_64-unknown-linux-gnu", "--format", "{p}|{l}"]
    wanted = set()
    for line in subprocess.run(tree, check=True, capture_output=True, text=True).stdout.splitlines():
        words = line.removesuffix(" (*)").split("|")[0].split()
        if len(words) >= 2:
            wanted.add((words[0], words[1].removeprefix("v")))
    metadata = ["cargo", "metadata", "--locked", "--format-version", "1"]
    packages = json.loads(subprocess.run(metadata, check=True, capture_output=True, text=True).stdout)["packages"]
    found = [it for it in packages if (it["name"], it["version"]) in wanted]
    return sorted(found, key=lambda it: (it["name"], it["version"]))


def component(package):
    purl = f"pkg:cargo/{package['name']}@{package['version']}"
    entry = {"type": "library", "bom-ref": purl, "name": package["name"], "version": package["version"], "purl": purl}
    if package.get("license"):
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return entry


def main():
    directory = pathlib.Path(sys.argv[1])
    packages = built_in()
    own = next(it for it in packages if it["name"] == "linemint")
    others = [it for it in packages if it["name"] != "linemint"]
    root = component(own) | {"type": "application"}
    refs = [component(it)["bom-ref"] for it in others]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": root},
        "components": [component(it) for it in others],
        "dependencies": [{"ref": root["bom-ref"], "dependsOn": refs}],
    }
    directory.joinpath("sbom.cdx.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    lines = [f"{it['name']} {it['version']}: {it.get('license') or 'see its sources'}\n" for it in packages]
    directory.joinpath("licences.txt").write_text("".join(lines))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
