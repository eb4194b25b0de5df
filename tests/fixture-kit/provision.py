#!/usr/bin/env python3
"""Provisions devices with a fixture of the kit against a real station and a simulated AWS, and judges the result.

    provision.py --linemint BINARY [--devices 50] [--damage 0.05] [--kill-station 1.0] [--kill-fixture 1.5]
                 NAME -- FIXTURE-COMMAND…

In the command {port}, {serials} and {directory} are replaced. Prints one row; the exit status is 0 only if every
device has passed, the account holds exactly what it should, and each device holds the certificate that passed.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 300.0  # seconds that a run may take

STATION = """
[station]
id = "KIT"
[journal]
dir = "state/journal"
min_free = "1MiB"
[api]
socket = "api.sock"
[aws]
region = "eu-west-1"
iot_endpoint = "{url}"
managed_integrations_endpoint = "{url}"
call_timeout = "1s"
[aws.quota]
preset = "unlimited"
[pki]
ca_certificate = "ca/ca.pem"
ca_key = "ca/ca.key"
[[fixture]]
name = "nest-1"
port = "station.tty"
product = "thermostat"
resend = "300ms"
answer_within = "10s"
[product.thermostat]
serial = "^[A-Z0-9]{{12}}$"
policy = {{ document = "policy.json" }}
certificate = {{}}
endpoint = "simulated-ats.iot.eu-west-1.amazonaws.com"
roots = "ca/ca.pem"
"""


class Failed(Exception):
    """The run is not what it should be."""


class Run:
    def __init__(self, options, work):
        self.options, self.work = options, work
        self.children = []
        self.kills = {"station": 0, "fixture": 0}
        chance = random.Random(options.seed)
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        self.serials = sorted({"".join(chance.choices(letters, k=12)) for _ in range(options.devices)})
        self.environment = dict(os.environ, AWS_ACCESS_KEY_ID="AKIDEXAMPLE", AWS_SECRET_ACCESS_KEY="none",
                                AWS_EC2_METADATA_DISABLED="true")
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "http_proxy", "HTTP_PROXY"):
            self.environment.pop(name, None)

    def path(self, name):
        return os.path.join(self.work, name)

    def start(self, name, command, first_line=None):
        """Starts a process of this run; waits for its first line if that has a known beginning."""
        log = open(self.path(name + ".log"), "ab")
        process = subprocess.Popen(command, cwd=self.work, env=self.environment, stdin=subprocess.PIPE, stderr=log,
                                   stdout=subprocess.PIPE if first_line else log)
        log.close()
        self.children.append(process)
        if first_line:
            line = process.stdout.readline().decode()
            if not line.startswith(first_line):
                raise Failed("%s does not start; see %s.log" % (name, name))
            return process, line.strip()
        return process

    def end(self, process):
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        if process.stdout:
            process.stdout.close()
        self.children.remove(process)

    def kill(self, process):
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        self.end(process)

    def prepare(self):
        linemint = self.options.linemint
        subprocess.run([linemint, "ca", "init", "--dir", self.path("ca")], check=True, capture_output=True)
        os.mkdir(self.path("state"))
        os.mkdir(self.path("units"))
        with open(os.path.join(HERE, "../../config/policies/thermostat.json"), "rb") as source:
            self.put("policy.json", source.read())
        self.put("serials", "".join(it + "\n" for it in self.serials).encode())
        cloud = [linemint, "cloud", "simulate", "--listen", "127.0.0.1:0", "--quota", "unlimited",
                 "--faults", self.options.faults, "--rtt", str(self.options.rtt), "--seed", str(self.options.seed)]
        _, line = self.start("cloud", cloud, "listening on ")
        self.url = line[len("listening on "):]
        self.put("linemint.toml", STATION.format(url=self.url).encode())
        relay = [sys.executable, os.path.join(HERE, "relay.py"), "station.tty", "fixture.tty",
                 "--damage", str(self.options.damage), "--seed", str(self.options.seed), "--stats", "cable.json",
                 "--until-eof"]
        self.relay, _ = self.start("relay", relay, "ready")

    def put(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)

    def start_station(self):
        return self.start("station", [self.options.linemint, "run", "--config", "linemint.toml"])

    def is_ready(self):
        """Whether the newest station has said that it is."""
        with open(self.path("station.log"), "rb") as file:
            return file.read().count(b"the station is ready") > self.kills["station"]

    def start_fixture(self):
        words = {"port": "fixture.tty", "serials": "serials", "directory": "units"}
        return self.start("fixture", [it.format(**words) for it in self.options.command])

    def provision(self):
        begin = time.monotonic()
        station, fixture = self.start_station(), self.start_fixture()
        due = {"station": self.options.kill_station, "fixture": self.options.kill_fixture}
        due = {name: begin + after for name, after in due.items() if after}
        while fixture.poll() is None:
            now = time.monotonic()
            if now - begin > LIMIT:
                raise Failed("it takes longer than %d s" % LIMIT)
            if now >= due.get("station", now + 1):
                self.kill(station)
                self.kills["station"] += 1
                station = self.start_station()
                due["station"] = float("inf")
            if due.get("station") == float("inf") and self.is_ready():
                # Counted from when it is ready: on a busy machine that takes its time, and it has to get somewhere.
                due["station"] = now + self.options.kill_station
            if now >= due.get("fixture", now + 1):
                self.kill(fixture)
                self.kills["fixture"] += 1
                fixture = self.start_fixture()
                # Longer each time: it presents all of its units each time.
                due["fixture"] = now + self.options.kill_fixture * (1 + self.kills["fixture"] / 2)
            if station.poll() is not None:
                raise Failed("the station ended with status %d" % station.returncode)
            time.sleep(0.01)  # nobody announces the end of another's process
        seconds = time.monotonic() - begin
        if fixture.returncode != 0:
            raise Failed("the fixture ended with status %d" % fixture.returncode)
        self.settle()
        self.end(station)
        self.end(fixture)
        self.end(self.relay)
        return seconds

    def settle(self):
        """What follows a PASS (an old certificate's end, a key's) may take a moment in an account with faults."""
        until = time.monotonic() + 30
        while True:
            request = urllib.request.Request(self.url + "/__audit", "\n".join(self.serials).encode(), method="POST")
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=30) as answer:
                self.audit = json.load(answer)
            if self.audit["ok"]:
                return
            if time.monotonic() > until:
                raise Failed("the account is not as it should be: %s" % self.audit["problems"][:3])
            time.sleep(0.2)

    def judge(self):
        count = len(self.serials)
        for what in ("things", "lockers", "policies", "active_certificates"):
            if self.audit[what] != count:
                raise Failed("%d %s for %d devices" % (self.audit[what], what, count))
        command = [self.options.linemint, "journal", "export", "--config", "linemint.toml"]
        export = subprocess.run(command, cwd=self.work, env=self.environment, check=True, capture_output=True)
        journal = export.stdout.decode().lower()
        for serial in self.serials:
            if stored(self.path("units"), serial) not in journal:
                raise Failed("%s holds a certificate that the journal does not know" % serial)

    def close(self):
        for process in list(self.children):
            self.kill(process)


def stored(directory, serial):
    """SHA-256 of the certificate that a unit of either fixture has stored."""
    path = os.path.join(directory, serial)
    try:
        with open(path + ".json", encoding="utf-8") as file:
            text = json.load(file)["certificate"]
    except FileNotFoundError:
        with open(path + ".pem", encoding="utf-8") as file:
            text = file.read()
    found = re.search("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", text, re.DOTALL)
    if found is None:
        raise Failed("%s has passed and holds no certificate" % serial)
    return hashlib.sha256(base64.b64decode("".join(found.group(1).split()))).hexdigest()


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--linemint", required=True)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--faults", default="mild")
    parser.add_argument("--rtt", type=int, default=0, help="milliseconds that AWS takes at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--damage", type=float, default=0.0)
    parser.add_argument("--kill-station", type=float, help="SIGKILL every so many seconds")
    parser.add_argument("--kill-fixture", type=float, help="the same for the fixture, later each time")
    parser.add_argument("--keep", help="a directory that everything stays in")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    options.linemint = os.path.abspath(options.linemint)
    return options


def main():
    options = arguments()
    # As SIGINT does: what was started is ended, whoever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="linemint-kit-") as scratch:
        if options.keep:
            os.mkdir(options.keep)
            scratch = os.path.abspath(options.keep)
        run = Run(options, scratch)
        verdict, seconds, cable = "ok", 0.0, [{}, {}]
        try:
            run.prepare()
            seconds = run.provision()
            run.judge()
            with open(run.path("cable.json"), encoding="utf-8") as file:
                cable = json.load(file)
        except (Failed, OSError, subprocess.SubprocessError) as error:
            verdict = "BAD: %s" % error
        finally:
            run.close()
        damaged = sum(it.get("damaged", 0) for it in cable)
        print("%-24s %7d %7.1f %7d %8d %6d %7d  %s" % (
            options.name, len(run.serials), seconds, sum(it.get("lines", 0) for it in cable), damaged,
            run.kills["station"], run.kills["fixture"], verdict), flush=True)
        if verdict != "ok":
            for name in ("station.log", "fixture.log"):
                if os.path.exists(run.path(name)):
                    with open(run.path(name), encoding="utf-8", errors="replace") as file:
                        sys.stderr.write("%s:\n%s\n" % (name, "".join(file.readlines()[-20:])))
        return 0 if verdict == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
