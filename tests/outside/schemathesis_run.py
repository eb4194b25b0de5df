"""Starts a station with some history, and lets Schemathesis ask it whatever the API's document allows and forbids."""

import json
import os
import pathlib
import re
import subprocess
import sys

from station import ROOT, Bridge, Station

EXAMPLES = int(os.environ.get("EXAMPLES", "5000"))
SEED = os.environ.get("SEED", "1")


def main():
    document = json.loads((ROOT / "docs/openapi.json").read_text())
    operations = sum(len(it) for it in document["paths"].values())
    # Some operations have fewer different requests than that, so the others get more.
    each = -(-2 * EXAMPLES // operations)
    with Station() as station:
        station.fixture("--nests", "4", "--count", "20", "--seed", "1")
        station.daemon()
        station.passed(20)
        status, body = station.ask(
            "POST", "/v1/batches", {"id": "WO-1", "product": "thermostat", "count": 5})
        assert status == 200, body
        bridge = Bridge(station.socket)
        command = [
            str(pathlib.Path(sys.executable).parent / "schemathesis"),
            "--config-file", str(ROOT / "tests/outside/schemathesis.toml"), "run", str(ROOT / "docs/openapi.json"),
            "--url", f"http://127.0.0.1:{bridge.port}", "--max-examples", str(each), "--seed", SEED,
            "--phases", "examples,coverage,fuzzing", "--checks", "all", "--request-timeout", "20",
            "--suppress-health-check", "all", "--generation-database", "none", "--no-color",
            "--continue-on-failure", *sys.argv[1:],
        ]
        ran = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=station.dir)
        print(ran.stdout)
        assert station.get("/v1/status")["state"], "the daemon still answers"
        assert station.running["station"].poll() is None
        errors = [it for it in (station.dir / "station.log").read_text().splitlines() if " ERROR " in it]
        print("\n".join(errors[:20]))
    found = re.search(r"(\d+) generated", ran.stdout)
    count = int(found.group(1)) if found else 0
    print(f"schemathesis: {count} examples, status {ran.returncode}")
    if ran.returncode == 0 and count < EXAMPLES:
        raise SystemExit(f"only {count} examples, {EXAMPLES} were wanted")
    raise SystemExit(ran.returncode)


if __name__ == "__main__":
    main()
