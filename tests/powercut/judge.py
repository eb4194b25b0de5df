"""Judges what power cuts have left: starts the real station on each state and holds it against what
the world had seen before that cut.

    judge.py WORK STATES [--complete-every N]

WORK is what run.sh has made; STATES holds folders of `rig states`. Ends with 1 if a state is bad.
"""
import argparse
import asyncio
import base64
import bisect
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

from record import read_message

PATIENCE = 120  # seconds; the machine may be busy
ENVIRONMENT = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "test",
               "AWS_EC2_METADATA_DISABLED": "true", "TZ": "UTC"}


class Bad(Exception):
    """The state breaks a promise."""


def wait_until(what, look):
    end = time.monotonic() + PATIENCE
    while True:
        if (found := look()) is not None:
            return found
        if time.monotonic() > end:
            raise Bad(f"{what}: it did not come in {PATIENCE} s")
        time.sleep(0.02)


class World:
    """What AWS and the fixture had seen, by the length of the disk's write log at that time."""

    def __init__(self, work):
        sys.path.insert(0, os.environ["RIG"])
        import blklog  # the rig's own reader of its log

        vm = os.path.join(os.environ.get("RIG_DIR", "/tmp/rig"), os.environ["RIG_NAME"])
        sectors = os.path.getsize(f"{vm}/disk.raw") // blklog.SECTOR
        self.offsets = [it.data for it in blklog.entries(f"{vm}/write.log", sectors)]
        self.serials = open(f"{work}/serials").read().split()
        self.requests = self.read(f"{work}/cloud.jsonl", lambda it: base64.b64decode(it["request"]))
        self.acked, self.passed, self.given = [], [], []
        units = {}
        for entry, (side, message) in self.read(f"{work}/line.jsonl", lambda it: (it["from"], it["message"])):
            kind = message.get("type")
            if side == "fixture" and kind == "unit":
                units[message["id"]] = message["serial"]
            elif side == "station" and kind == "ack":
                self.acked.append((entry, units[message["id"]]))
            elif side == "station" and kind == "pass":
                self.passed.append((entry, message["serial"]))
            elif side == "station" and kind == "credentials":
                self.given.append((entry, (message["serial"], message["certificate_sha256"])))

    def read(self, path, take):
        """Each line with the number of the disk's log entries that there were before it."""
        lines = map(json.loads, open(path))
        return [(bisect.bisect_right(self.offsets, it["at"]), take(it)) for it in lines]

    @staticmethod
    def before(cut, seen):
        return [what for entry, what in seen if entry <= cut]


class Station:
    """The binary on one state's journal."""

    def __init__(self, work, state):
        self.work, self.state = work, state
        self.binary = os.environ["LINEMINT"]
        self.config, self.socket = f"{state}/station.toml", f"{state}/api.sock"
        self.journal = f"{state}/linemint/journal"
        os.makedirs(f"{state}/linemint", exist_ok=True)

    def configure(self, url, port):
        text = open(f"{self.work}/station.toml").read()
        for name, value in (("dir", self.journal), ("socket", self.socket), ("port", port),
                            ("iot_endpoint", url), ("managed_integrations_endpoint", url),
                            ("ca_certificate", f"{self.work}/ca/ca.pem"), ("ca_key", f"{self.work}/ca/ca.key")):
            text, count = re.subn(f'(?m)^{name} = ".*"$', f'{name} = "{value}"', text)
            assert count == 1, name
        text = text.replace('document = "thermostat.json"', f'document = "{self.work}/thermostat.json"')
        with open(self.config, "w") as file:
            file.write(text)

    def command(self, *args):
        run = subprocess.run([self.binary, *args], env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE)
        return run.returncode, run.stdout, run.stderr

    def verify(self):
        return self.command("journal", "verify", "--dir", self.journal)

    def start(self):
        log = open(f"{self.state}/station.log", "ab")
        process = subprocess.Popen([self.binary, "run", "--config", self.config], env=ENVIRONMENT, stderr=log)

        def answered():
            if process.poll() is not None:
                said = open(f"{self.state}/station.log").read()[-600:]
                raise Bad(f"the station does not start, status {process.returncode}: {said}")
            status, out, _ = self.command("device", "list", "--json", "--socket", self.socket)
            return json.loads(out)["devices"] if status == 0 else None

        try:
            return process, {it["serial"]: it["state"] for it in wait_until("the API answers", answered)}
        except BaseException:
            process.kill()
            process.wait()
            raise

    def records(self):
        status, out, err = self.command("journal", "export", "--dir", self.journal)
        if status:
            raise Bad(f"the journal cannot be exported: {err}")
        return [json.loads(it) for it in out.splitlines()[1:]]

    def keys(self):
        """Fingerprints of the private keys that lie here."""
        path = f"{self.state}/linemint/keys"
        names = os.listdir(path) if os.path.isdir(path) else []
        found = [it.removesuffix(".key").rpartition("-")[2] for it in names if it.endswith(".key")]
        for name in names:
            if name.endswith(".slots"):
                with open(f"{path}/{name}", "rb") as file:
                    while slot := file.read(4096):
                        if any(slot):
                            found.append(slot[8:40].hex() if slot[:8] == b"keyslot\x01" else "torn")
        return sorted(found)


def issued(records):
    """Serial and fingerprint of each certificate, in order."""
    return [(it["serial"], it["certificate"]["fingerprint"]) for it in records if it["event"] == "issued"]


def keys_to_have(records):
    """The private keys that the journal says are here."""
    gone = {it["fingerprint"] for it in records if it["event"] in ("key-destroyed", "key-lost")}
    return sorted(fingerprint for _, fingerprint in issued(records) if fingerprint not in gone)


def open_only(world, station, cut, result):
    """The station starts without cloud and fixture, knows what it has promised, and is killed."""
    station.configure("http://127.0.0.1:9", f"{station.state}/no-port")
    process, devices = station.start()
    result["opened"] = True
    try:
        result["lost acked"] = sorted(set(world.before(cut, world.acked)) - set(devices))
        result["lost passed"] = sorted(it for it in world.before(cut, world.passed) if devices.get(it) != "passed")

        def in_order():
            wanted, found = keys_to_have(station.records()), station.keys()
            result["wrong keys"] = sorted(set(wanted) ^ set(found))
            return None if result["wrong keys"] else True

        wait_until(f"the keys are as the journal says: {result.get('wrong keys')}", in_order)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def start_and_read(args, log):
    """A process and the first line that it says."""
    process = subprocess.Popen(args, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=log, text=True)
    return process, process.stdout.readline().strip()


async def repeat(requests, address):
    """Brings a new account to where the old one was."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for request in requests:
        writer.write(request)
        if await read_message(reader) is None:
            raise Bad("the simulated AWS hangs up on a repeated request")
    writer.close()


def complete(world, station, cut, number):
    """The station finishes the work, on the account as it was at the cut."""
    log = open(f"{station.state}/others.log", "ab")
    link = f"{station.state}/fixture"
    others = []
    try:
        cloud, said = start_and_read(
            [station.binary, "cloud", "simulate", "--listen", "127.0.0.1:0", "--quota", "unlimited"], log)
        others.append(cloud)
        url = said.removeprefix("listening on ")
        asyncio.run(repeat(world.before(cut, world.requests), url.removeprefix("http://")))
        # Another seed, another boot: the fixture lost its power too.
        fixture, _ = start_and_read(
            [station.binary, "fixture", "simulate", "--json", "--link", link, "--resend", "500ms", "--nests", "4",
             "--serials", f"{station.work}/serials", "--seed", str(1000 + number)], log)
        others.append(fixture)
        station.configure(url, link)
        process, _ = station.start()
        others.append(process)
        report = json.loads(fixture.communicate(timeout=PATIENCE)[0].splitlines()[-1])
        if fixture.returncode:
            raise Bad(f"the fixture is not content: {json.dumps(report)}")
        wait_until("every key is destroyed", lambda: None if station.keys() else True)
        body = "\n".join(world.serials).encode()
        with urllib.request.urlopen(f"{url}/__audit", data=body, timeout=PATIENCE) as answer:
            audit = json.load(answer)
        if not audit["ok"]:
            raise Bad(f"the account is not as it should be: {audit['problems']}")
        process.send_signal(signal.SIGTERM)
        if process.wait(PATIENCE):
            raise Bad(f"the station ends with {process.returncode}")
    finally:
        for it in others:
            it.kill()
            it.wait()
    certificates = issued(station.records())
    if sorted(serial for serial, _ in certificates) != sorted(world.serials):
        raise Bad("not each device was issued one certificate")
    if others_given := set(world.before(cut, world.given)) - set(certificates):
        raise Bad(f"certificates that were given out before the cut are not the journal's: {sorted(others_given)}")


def judge(world, work, state, number, to_complete):
    cut = json.load(open(f"{state}/cut.json"))["entry"]
    result = {"acked": len(set(world.before(cut, world.acked))), "passed": len(set(world.before(cut, world.passed))),
              "opened": False, "lost acked": [], "lost passed": [], "wrong keys": [], "completed": None, "bad": None}
    station = Station(work, state)
    try:
        status, out, err = station.verify()
        result["records"] = int(re.search(r"records +(\d+)", out)[1]) if status == 0 else 0
        # Before the first promise there may be no journal yet.
        if status and result["acked"]:
            raise Bad(f"verify ends with {status}: {out}{err}")
        open_only(world, station, cut, result)
        if to_complete:
            result["completed"] = False
            complete(world, station, cut, number)
            result["completed"] = True
        status, out, err = station.verify()
        if status:
            raise Bad(f"verify ends with {status} after the restart: {out}{err}")
        if result["lost acked"] or result["lost passed"]:
            raise Bad("a promise is broken")
    except (Bad, subprocess.TimeoutExpired) as error:
        result["bad"] = str(error)
    return result


def table(rows):
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(it).rjust(width) for it, width in zip(row, widths)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work")
    parser.add_argument("states")
    parser.add_argument("--complete-every", type=int, default=1)
    args = parser.parse_args()
    world = World(args.work)
    rows = [("cuts", "states", "journals", "acked", "passed", "opened", "lost acked", "lost passed", "wrong keys",
             "completed", "bad")]
    bad = number = 0
    for group in sorted(os.listdir(args.states)):
        results = []
        for name in sorted(os.listdir(f"{args.states}/{group}")):
            state = f"{args.states}/{group}/{name}"
            result = judge(world, args.work, state, number, number % args.complete_every == 0)
            number += 1
            results.append(result)
            with open(f"{args.work}/results.jsonl", "a") as file:
                file.write(json.dumps({"state": f"{group}/{name}"} | result) + "\n")
            if result["bad"]:
                print(f"BAD {group}/{name} {open(f'{state}/cut.json').read()}: {json.dumps(result)}", flush=True)

        def span(key):
            return f"{min(it[key] for it in results)}-{max(it[key] for it in results)}"

        tried = [it for it in results if it["completed"] is not None]
        rows.append((group, len(results), len({it.get("records") for it in results}), span("acked"), span("passed"),
                     sum(it["opened"] for it in results),
                     *(sum(bool(it[key]) for it in results) for key in ("lost acked", "lost passed", "wrong keys")),
                     f"{sum(it['completed'] for it in tried)} of {len(tried)}", sum(bool(it["bad"]) for it in results)))
        bad += rows[-1][-1]
    print("\nacked, passed: devices of which the fixture had heard that before the cut; journals: different lengths")
    table(rows)
    print(f"{number} states, {bad} bad")
    sys.exit(1 if bad or not number else 0)


if __name__ == "__main__":
    main()
