"""Drives hotplug.sh, which tells what is shown."""

import glob
import json
import os
import random
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../..")
sys.path.insert(0, os.path.join(HERE, "../fixture-kit"))
import provision  # noqa: E402
import relay  # noqa: E402

LIMIT = 300  # seconds that any step may take: all is emulated
BEGIN = time.monotonic()

STATION = """
[station]
id = "HOTPLUG"
[journal]
dir = "/var/lib/linemint/journal"
min_free = "1MiB"
[api]
socket = "/run/linemint.sock"
[aws]
region = "eu-west-1"
iot_endpoint = "http://10.0.2.100:4599"
managed_integrations_endpoint = "http://10.0.2.100:4599"
call_timeout = "60s"
[aws.quota]
preset = "unlimited"
[pki]
ca_certificate = "/etc/linemint/ca/ca.pem"
ca_key = "/etc/linemint/ca/ca.key"
[[fixture]]
name = "nest-1"
usb = {{ vid = "0403", pid = "6001", serial = "JIG1" }}
product = "thermostat"
patience = "10m"
[[fixture]]
name = "nest-2"
port = "{by_id}"
product = "thermostat"
patience = "10m"
[product.thermostat]
serial = "^[A-Z0-9]{{12}}$"
policy = {{ document = "thermostat.json" }}
certificate = {{}}
"""


def say(text):
    print("[%4d s] %s" % (time.monotonic() - BEGIN, text), flush=True)


def rig(*args):
    done = subprocess.run([os.path.join(os.environ["RIG"], "rig"), *args], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("rig %s ended with %d: %s" % (args[0], done.returncode, done.stdout))
    return done.stdout.strip()


def until(what, holds):
    end = time.monotonic() + LIMIT
    while not holds():
        if time.monotonic() > end:
            print(rig("run", "journalctl -u linemint -o json | tail -n 20"), file=sys.stderr)
            sys.exit("it did not come to this within %d s: %s" % (LIMIT, what))
        time.sleep(0.1)


class Cable(threading.Thread):
    """Between a fixture's pty and an adapter of the rig; may be cut in the middle of a `credentials`."""

    def __init__(self, link):
        super().__init__(daemon=True)
        self.master, self.slave = relay.pty(link)
        self.wire, self.line, self.cut_next = None, b"", False
        self.holds = False  # what the fixture says waits, so that units are left for what comes later
        self.is_cut = threading.Event()
        self.told, self.lock = [], threading.Lock()
        self.start()

    def plug(self, path):
        wire = socket.socket(socket.AF_UNIX)
        wire.connect(path)
        with self.lock:
            self.line = b""
            self.is_cut.clear()
            self.wire = wire

    def pull(self):
        with self.lock:
            wire, self.wire = self.wire, None
        if wire is not None:
            wire.close()

    def count(self, kind, code=None):
        return sum(1 for it in self.told if it.get("type") == kind and code in (None, it.get("code")))

    def run(self):
        while True:
            with self.lock:
                wire = self.wire
            ends = ([] if self.holds else [self.master]) + ([wire] if wire else [])
            ready, _, _ = select.select(ends, [], [], 0.05)
            try:
                if self.master in ready:
                    data = os.read(self.master, 4096)
                    if wire and not self.is_cut.is_set():
                        wire.sendall(data)  # otherwise lost, as without a cable
                if wire in ready and wire:
                    self.from_station(wire.recv(4096), wire)
            except (OSError, ValueError):
                time.sleep(0.02)

    def from_station(self, data, wire):
        if not data:
            with self.lock:
                self.wire = None if self.wire is wire else self.wire
            return
        *lines, self.line = (self.line + data).split(b"\n")
        for line in lines:
            if self.is_cut.is_set():
                return
            try:
                message = json.loads(line.rpartition(b"*")[0])
            except ValueError:
                message = {}
            self.told.append({name: message.get(name) for name in ("type", "code", "id", "serial")})
            whole = line + b"\n"
            if self.cut_next and message.get("type") == "credentials":
                self.cut_next = False
                whole = whole[:len(whole) // 2]
                self.is_cut.set()
            while whole:
                try:
                    whole = whole[os.write(self.master, whole):]
                except BlockingIOError:
                    time.sleep(0.01)


def adapter(name):
    """Plugs one in; its socket."""
    if name == "jig1":
        return rig("plug", "jig1", "--serial", "JIG1")
    return rig("plug", "jig2", "--kind", "acm", "--vid", "303a", "--pid", "1001", "--serial", "JIG2")


def node(serial):
    found = "for i in $(seq 100); do ls /dev/serial/by-id/*_%s-* >/dev/null 2>&1 && break; sleep 0.1; done; " % serial
    return rig("run", found + "readlink -f /dev/serial/by-id/*_%s-*" % serial)


def pulled(name, serial, cable, stranger):
    """The adapter is pulled in the middle of `credentials`; another takes its number before it comes back."""
    # Cut first: a fast machine would pass all units while the rig is asked for the name.
    cable.cut_next = True
    until("credentials at %s" % name, cable.is_cut.is_set)
    before, passed = node(serial), cable.count("pass")
    rig("unplug", name)
    cable.pull()
    rig("plug", "stranger-" + name, *stranger)
    node("STRANGER" + serial)
    path = adapter(name)
    cable.plug(path)
    after = node(serial)
    if before == after:
        sys.exit("%s came back as %s again: nothing is shown" % (name, after))
    until("two more passes at %s" % name, lambda: cable.count("pass") >= passed + 2)
    say("%s was pulled in the middle of credentials as %s, came back as %s, and goes on" % (name, before, after))


def swapped(cables):
    """The fixtures change places, and change back."""
    for crosswise in (True, False):
        for cable, name in zip(cables, ("jig1", "jig2")):
            rig("unplug", name)
            cable.pull()
        refused = [it.count("nak", "wrong-fixture") for it in cables]
        passed = [it.count("pass") for it in cables]
        paths = [adapter("jig1"), adapter("jig2")]
        for cable, path in zip(cables, reversed(paths) if crosswise else paths):
            cable.plug(path)
            cable.holds = False
        if crosswise:
            until("both are refused", lambda: all(
                it.count("nak", "wrong-fixture") > before for it, before in zip(cables, refused)))
            if [it.count("pass") for it in cables] != passed:
                sys.exit("a device passed at the wrong fixture")
            say("swapped: both fixtures are refused as wrong-fixture, and nothing passes")
    say("swapped back")


def judge(work, url, groups, config="/etc/linemint/station.toml"):
    serials = [it for group in groups for it in group]
    request = urllib.request.Request(url + "/__audit", "\n".join(serials).encode(), method="POST")
    audit = {}

    def holds():
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            audit.update(json.load(answer))
        return audit["ok"]

    until("the account holds what it should: %s" % audit, holds)
    rig("run", "linemint journal verify --config " + config)
    records = [json.loads(it) for it in rig("run", "linemint journal export --config " + config).splitlines()]
    bad = []
    for number, group in enumerate(groups):
        for serial in group:
            sha256 = provision.stored(os.path.join(work, "units%d" % number), serial)
            owners = {it.get("serial") for it in records if sha256 in json.dumps(it).lower()}
            if owners != {serial}:
                bad.append("%s holds the certificate of %s" % (serial, owners))
    say("%d devices: things %d, policies %d, active certificates %d; journal verified, %d records; mixed up or lost: %d" % (
        len(serials), audit["things"], audit["policies"], audit["active_certificates"], len(records), len(bad)))
    if bad or audit["things"] != len(serials) or audit["active_certificates"] != len(serials):
        sys.exit("BAD: %s" % bad)


def account(linemint):
    """A simulated account on this side: its process, and where it is."""
    cloud = subprocess.Popen([linemint, "cloud", "simulate", "--listen", "127.0.0.1:0", "--quota", "unlimited"],
                             stdout=subprocess.PIPE, text=True)
    return cloud, cloud.stdout.readline().strip().removeprefix("listening on ")


def fixture(work, number, serials):
    """The kit's fixture at a cable of its own: its process. It goes on when its cable does."""
    os.mkdir(os.path.join(work, "units%d" % number))
    with open(os.path.join(work, "serials%d" % number), "w", encoding="utf-8") as file:
        file.write("\n".join(serials) + "\n")
    command = [sys.executable, os.path.join(ROOT, "docs/fixture/python/linemint_fixture.py"), "tty%d" % number,
               "--serials", "serials%d" % number, "--directory", "units%d" % number, "--nests", "1",
               "--name", "nest-%d" % (number + 1), "--tries", "100"]
    with open(os.path.join(work, "fixture%d.log" % number), "w", encoding="utf-8") as log:
        return subprocess.Popen(command, cwd=work, stdout=log, stderr=log)


def some_serials(chance, devices):
    return ["".join(chance.choices("ABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=12)) for _ in range(devices)]


def finished(work, fixtures):
    """Waits for the fixtures' ends, and holds them against what they say."""
    until("all fixtures are done", lambda: all(it.poll() is not None for it in fixtures))
    if any(it.returncode != 0 for it in fixtures):
        for log in glob.glob(os.path.join(work, "fixture*.log")):
            with open(log, encoding="utf-8") as file:
                print(file.read(), file=sys.stderr)
        sys.exit("BAD: a fixture has a device that did not pass")


def end(children):
    """Nothing is left: neither processes nor the machine."""
    for child in children:
        child.terminate()
        child.wait()
    if json.loads(rig("status"))["up"]:
        rig("down")


def prepare(work, linemint, url):
    rig("up", "--fresh", "--fwd", "4599:%s" % url.rsplit(":", 1)[1])
    paths = [adapter("jig1"), adapter("jig2")]
    say("adapters: %s, %s" % (node("JIG1"), node("JIG2")))
    by_id = rig("run", "ls /dev/serial/by-id/*_JIG2-*")
    etc = os.path.join(work, "etc")
    os.mkdir(etc)
    subprocess.run([linemint, "ca", "init", "--dir", os.path.join(etc, "ca")], check=True, stdout=subprocess.DEVNULL)
    shutil.copy(os.path.join(ROOT, "config/policies/thermostat.json"), etc)
    with open(os.path.join(etc, "station.toml"), "w", encoding="utf-8") as file:
        file.write(STATION.format(by_id=by_id))
    stripped = os.path.join(work, "linemint")
    subprocess.run(["strip", "-o", stripped, linemint], check=True)
    rig("put", stripped, "/usr/local/bin/linemint")
    rig("put", etc, "/etc/linemint")
    rig("run", "mkdir -p /var/lib/linemint && sync")
    return paths


def main():
    linemint, devices = os.path.abspath(os.environ["LINEMINT"]), int(os.environ.get("DEVICES", "20"))
    children = []
    with tempfile.TemporaryDirectory(prefix="linemint-hotplug-") as work:
        try:
            cloud, url = account(linemint)
            children.append(cloud)
            paths = prepare(work, linemint, url)
            chance = random.Random(int(os.environ.get("SEED", "1")))
            cables, fixtures, groups = [], [], []
            for number in range(2):
                groups.append(some_serials(chance, devices))
                cables.append(Cable(os.path.join(work, "tty%d" % number)))
                cables[number].plug(paths[number])
                fixtures.append(fixture(work, number, groups[number]))
                children.append(fixtures[number])
            rig("run", "systemd-run -q --unit linemint -E AWS_ACCESS_KEY_ID=AKIDTEST -E AWS_SECRET_ACCESS_KEY=test "
                "-E AWS_EC2_METADATA_DISABLED=true linemint run --config /etc/linemint/station.toml")
            until("a device has passed at each", lambda: all(it.count("pass") >= 1 for it in cables))
            say("a device has passed at each of two fixtures")
            cables[1].holds = True
            pulled("jig1", "JIG1", cables[0], ["--serial", "STRANGERJIG1"])
            cables[0].holds, cables[1].holds = True, False
            pulled("jig2", "JIG2", cables[1], ["--kind", "acm", "--vid", "1209", "--pid", "2", "--serial", "STRANGERJIG2"])
            # What is left is for after the swap, however fast the machine is.
            cables[1].holds = True
            swapped(cables)
            finished(work, fixtures)
            judge(work, url, groups)
            say("ok")
        finally:
            end(children)


if __name__ == "__main__":
    main()
