"""A week of three shifts in one go: the daemon's memory and files at the start, in the middle and at the end, and what it
takes to go on after it was killed."""

import os
import sys
import time

from station import Station

DEVICES = int(os.environ.get("DEVICES", "80640"))
NESTS = int(os.environ.get("NESTS", "16"))
# What may be more at the end than in the middle: memory is flat, but not to the page.
GROWTH = float(os.environ.get("GROWTH", "0.10"))
# Devices that are made after the daemon was killed and has started again.
AFTERWARDS = 1000
# Connections to the cloud come and go.
FILES_MORE = 16


class Daemon:
    """A process as /proc shows it."""

    def __init__(self, pid):
        self.pid = pid

    def looks(self):
        words = dict(it.split(":", 1) for it in open(f"/proc/{self.pid}/status") if ":" in it)
        mib = lambda key: int(words[key].split()[0]) / 1024
        return {"rss": mib("VmRSS"), "highest": mib("VmHWM"), "threads": int(words["Threads"]),
                "files": len(os.listdir(f"/proc/{self.pid}/fd"))}

    def cpu_s(self):
        words = open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def tell(what, it):
    print(f"{what:>10}: {it['rss']:.1f} MiB resident (highest {it['highest']:.1f}), "
          f"{it['files']} files, {it['threads']} threads", flush=True)


def main():
    with Station() as station:
        station.daemon()
        daemon = Daemon(station.running["station"].pid)
        tell("idle", daemon.looks())
        before, begun = daemon.cpu_s(), time.monotonic()
        time.sleep(10)
        idle = (daemon.cpu_s() - before) / (time.monotonic() - begun)
        station.fixture("--nests", str(NESTS), "--count", str(DEVICES), "--seed", "1")
        begun, seen, marks = time.monotonic(), {}, {DEVICES // 100: "start", DEVICES // 2: "middle", DEVICES: "end"}
        for count, name in marks.items():
            station.passed(count, seconds=max(600, count // 5))
            seen[name] = daemon.looks()
            tell(name, seen[name])
        took = time.monotonic() - begun
        print(f"{DEVICES} devices in {took:.0f} s, {DEVICES / took:.0f} a second")
        size = sum(it.stat().st_size for it in (station.dir / "journal").rglob("*") if it.is_file())
        print(f"the journal has {size / 2**20:.0f} MiB, {size / DEVICES / 1024:.1f} KiB a device")
        station.stop("fixture")
        station.running["station"].kill()
        station.running["station"].wait()
        station.daemon()
        station.fixture("--nests", str(NESTS), "--count", str(AFTERWARDS), "--seed", "2")
        station.passed(DEVICES + AFTERWARDS, seconds=600)
        again = Daemon(station.running["station"].pid).looks()
        tell("afterwards", again)
        verdicts = [
            (f"idle: {100 * idle:.2f} % of a processor", idle < 0.005),
            (f"memory: {seen['end']['rss'] / seen['middle']['rss'] - 1:+.1%} from the middle to the end",
             seen["end"]["rss"] <= seen["middle"]["rss"] * (1 + GROWTH)),
            (f"memory: at most {seen['end']['highest']:.0f} MiB, the unit allows 512", seen["end"]["highest"] < 512),
            (f"files: {seen['end']['files'] - seen['middle']['files']:+d} from the middle to the end",
             seen["end"]["files"] <= seen["middle"]["files"] + FILES_MORE),
            (f"memory: at most {again['highest']:.0f} MiB after it was killed and has made {AFTERWARDS} more",
             again["highest"] < 256),
            ("it ends in good order", station.stop("station") == 0),
        ]
    for what, holds in verdicts:
        print(f"{'ok     ' if holds else 'FAILED '} {what}")
    sys.exit(0 if all(holds for _, holds in verdicts) else 1)


if __name__ == "__main__":
    main()
