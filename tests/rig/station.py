"""Drives station.sh, which tells what is shown."""

import os
import random
import subprocess
import sys
import tempfile

from hotplug import Cable, account, adapter, end, finished, fixture, judge, node, pulled, rig, say, some_serials, until

CONFIG = """
[station]
id = "RIG"
[journal]
dir = "/var/lib/linemint/journal"
min_free = "1MiB"
[aws]
region = "eu-west-1"
iot_endpoint = "http://10.0.2.100:4599"
managed_integrations_endpoint = "http://10.0.2.100:4599"
call_timeout = "60s"
[aws.quota]
preset = "unlimited"
[pki]
ca_certificate = "ca/ca.pem"
ca_key = "credential:ca.key"
[[fixture]]
name = "nest-1"
usb = { vid = "0403", pid = "6001", serial = "JIG1" }
product = "thermostat"
patience = "10m"
[product.thermostat]
serial = "^[A-Z0-9]{12}$"
policy = { document = "policies/thermostat.json" }
certificate = {}
"""

# What an administrator adds. An emulated machine is many times slower: the unit's own times are for a real one.
DROP_IN = """
[Service]
LoadCredential=ca.key:/etc/linemint/secret/ca.key
TimeoutStartSec=300
WatchdogSec=120
IPAddressAllow=10.0.2.100
Environment=AWS_ACCESS_KEY_ID=AKIDTEST AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true
"""


def installed(work):
    """The package, configured, enabled and started while no adapter is there; where its binary is on this side."""
    rig("put", os.environ["PACKAGE"], "/opt/linemint.deb")
    rig("run", "dpkg -i --force-depends /opt/linemint.deb && sync")
    rig("run", "linemint ca init --dir /opt/ca && install -d -m 755 /etc/linemint/ca"
        " && install -m 644 /opt/ca/ca.pem /etc/linemint/ca/ca.pem"
        " && install -d -m 700 /etc/linemint/secret && install -m 600 /opt/ca/ca.key /etc/linemint/secret/ca.key"
        " && mkdir -p /etc/systemd/system/linemint.service.d")
    for name, text, place in (
            ("linemint.toml", CONFIG, "/etc/linemint/linemint.toml"),
            ("rig.conf", DROP_IN, "/etc/systemd/system/linemint.service.d/rig.conf")):
        path = os.path.join(work, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        rig("put", path, place)
    if rig("run", "ls /dev/ttyUSB* /dev/ttyACM* 2>/dev/null | wc -l") != "0":
        sys.exit("an adapter is there already: nothing is shown")
    rig("run", "systemctl daemon-reload && systemctl enable --now linemint.socket linemint && sync")
    until("the service is active", is_active)
    score = rig("run", "systemd-analyze security linemint --no-pager | tail -n 1")
    say("installed, enabled and active without an adapter; %s" % score.strip())


def is_active():
    return rig("run", "systemctl is-active linemint; true") == "active"


def runs_as_the_unit_says():
    """Looked at before units come: each look takes as long as some of them."""
    main = rig("run", "systemctl show -p MainPID --value linemint")
    user = rig("run", "ps -o user= -p " + main)
    # The port is the second group's, in which the user is by its entry in /etc/group alone.
    groups = rig("run", "awk '/^Groups:/ { $1 = \"\"; print }' /proc/%s/status | xargs -n 1 getent group | cut -d: -f1" % main)
    if (user, sorted(groups.split())) != ("linemint", ["linemint", "linemint-admin"]):
        sys.exit("it runs as %s in the groups %s" % (user, groups.split()))
    locked = int(rig("run", "awk '/^VmLck:/ { print $2 }' /proc/%s/status" % main))
    if locked == 0:
        sys.exit("its memory is not locked")
    if len(rig("run", "cat /proc/%s/uid_map" % main).splitlines()) != 2:
        sys.exit("it sees all users of the station")
    say("it runs as %s under %s, sees no other user, and has %d KiB of memory locked" % (
        user, " and ".join(groups.split()), locked))


def power_cut(cable):
    """In mid-shift; the machine is up again afterwards, and its adapter plugged."""
    before = cable.count("pass")
    until("three more passes", lambda: cable.count("pass") >= before + 3)
    passed = cable.count("pass")
    rig("powercut")
    cable.pull()
    say("the power was cut after %d passes, and is back" % passed)
    until("the service is active after the boot", is_active)
    cable.plug(adapter("jig1"))
    until("two more passes after the power cut", lambda: cable.count("pass") >= passed + 2)
    say("it goes on")


def main():
    children = []
    with tempfile.TemporaryDirectory(prefix="linemint-station-") as work:
        try:
            subprocess.run(["dpkg-deb", "-x", os.environ["PACKAGE"], os.path.join(work, "package")], check=True)
            cloud, url = account(os.path.join(work, "package/usr/bin/linemint"))
            children.append(cloud)
            rig("up", "--fresh", "--fwd", "4599:%s" % url.rsplit(":", 1)[1])
            installed(work)
            runs_as_the_unit_says()
            serials = some_serials(random.Random(int(os.environ.get("SEED", "1"))), int(os.environ.get("DEVICES", "30")))
            cable = Cable(os.path.join(work, "tty0"))
            cable.plug(adapter("jig1"))
            say("plugged as %s" % node("JIG1"))
            children.append(fixture(work, 0, serials))
            until("a device has passed", lambda: cable.count("pass") >= 1)
            say("a device has passed, under the unit")
            pulled("jig1", "JIG1", cable, ["--serial", "STRANGERJIG1"])
            power_cut(cable)
            finished(work, children[1:])
            judge(work, url, [serials], "/etc/linemint/linemint.toml")
            say("ok")
        finally:
            end(children)


if __name__ == "__main__":
    main()
