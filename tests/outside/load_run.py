"""Whether those who look keep those who make waiting, and how long those who look wait themselves."""

import os
import re
import socket
import statistics
import subprocess
import sys
import time

from station import Local, Station, wait_for

DEVICES = int(os.environ.get("DEVICES", "300"))
EACH_S = int(os.environ.get("SECONDS_EACH", "30"))
PAIRS = int(os.environ.get("PAIRS", "5"))
SLOW = 1000
STATUS_P99_MS = 5.0
NEAR = 0.10
NEAR_MS = 5.0


def p99(values):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * 0.99))]


class Shift:
    """Devices one batch after the other, and how long each took."""

    def __init__(self, station):
        self.station = station
        self.seed = 0
        self.done = 0

    def run(self):
        """Sends a batch of devices through; the p99 of their times, ms."""
        self.seed += 1
        # Nests enough for the devices to spread over the time of the load.
        think = max(1, EACH_S * 1000 * 8 // (2 * DEVICES))
        self.station.fixture(
            "--nests", "8", "--count", str(DEVICES), "--seed", str(self.seed), "--think-time", f"{think}ms")
        self.done += DEVICES
        self.station.passed(self.done, seconds=10 * EACH_S + 120)
        self.station.stop("fixture")
        text = (self.station.dir / "station.log").read_text(errors="replace")
        took = [int(it) for it in re.findall(r"INFO PASS .*took_ms=(\d+)", text)]
        return p99(took[-DEVICES:])


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def under_load(station, shift):
    """The p99 of devices and of looks."""
    address = f"http://127.0.0.1:{station.board_port}/v1/status"
    wrk = subprocess.Popen(
        ["wrk", "-t1", "-c64", f"-d{EACH_S}s", "--latency", address], stdout=subprocess.PIPE, text=True)
    made = shift.run()
    said = wrk.communicate()[0]
    looked = milliseconds(re.search(r"99%\s+(\S+)", said).group(1))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    if bad:
        print(said)
        raise SystemExit(f"{bad.group(1)} looks were refused")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1))
    return made, looked, rate


def crowd(station, says):
    """A thousand clients that say so much and wait; half at each listener."""
    clients, turned_away = [], 0
    for number in range(SLOW):
        local = number % 2 == 0
        client = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
        client.settimeout(0.2)
        try:
            client.connect(str(station.socket) if local else ("127.0.0.1", station.board_port))
            client.sendall(says)
            clients.append(client)
        except OSError:
            turned_away += 1
    return clients, turned_away


def under_silence(station, shift):
    """The p99 of devices while a thousand clients have connected and say nothing, and how many could not connect."""
    clients, turned_away = crowd(station, b"")
    made = shift.run()
    for client in clients:
        client.close()
    wait_for("an answer", station.answers, 40)
    return made, turned_away


def near(verdicts, what, pairs):
    """Whether the devices of each pair, alone and not, take about as long."""
    more = statistics.median(made - quiet for quiet, made in pairs)
    share = statistics.median(made / quiet - 1 for quiet, made in pairs)
    told = f"devices: p99 {more:+.1f} ms, {100 * share:+.1f} % {what} (median of {len(pairs)})"
    verdicts.append((told, more <= NEAR_MS or share <= NEAR))


def feed(clients):
    alive = 0
    for client in clients:
        try:
            client.send(b"a")
            alive += 1
        except OSError:
            pass
    return alive


def main():
    verdicts = []
    with Station(cloud=("--rtt", "20")) as station:
        station.daemon()
        shift = Shift(station)
        shift.run()
        pairs = []
        for number in range(PAIRS):
            quiet = shift.run()
            made, looked, rate = under_load(station, shift)
            pairs.append((quiet, made, looked))
            print(f"pair {number + 1}: devices p99 {quiet} ms alone, {made} ms under load; "
                  f"/v1/status p99 {looked:.2f} ms at {rate:.0f}/s", flush=True)
        looked = statistics.median(it[2] for it in pairs)
        verdicts.append((f"/v1/status: p99 {looked:.2f} ms (median of {PAIRS})", looked < STATUS_P99_MS))
        near(verdicts, "under load", [(quiet, made) for quiet, made, _ in pairs])

        silent = []
        for number in range(PAIRS):
            quiet = shift.run()
            made, turned_away = under_silence(station, shift)
            silent.append((quiet, made))
            print(f"pair {number + 1}: devices p99 {quiet} ms alone, {made} ms with {SLOW} clients that say nothing "
                  f"({turned_away} turned away)", flush=True)
        near(verdicts, f"with {SLOW} clients that say nothing", silent)

        # And once with those that send the head of a request a byte at a time and never end.
        clients, turned_away = crowd(station, b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
        begun = time.monotonic()
        quiet = silent[-1][0]
        shift_under = shift.run()
        alive = feed(clients)
        told = f"{SLOW} slow clients ({turned_away} turned away, {alive} left after {time.monotonic() - begun:.0f} s)"
        verdicts.append((f"{told}: devices p99 {shift_under} ms, {quiet} ms alone",
                         shift_under - quiet <= NEAR_MS or shift_under / quiet - 1 <= NEAR))
        wait_for("an answer", station.answers, 40)
        for client in clients:
            client.close()
        begun = time.monotonic()
        client = Local(station.socket)
        client.request("GET", "/v1/status")
        verdicts.append((f"and the next is answered in {1000 * (time.monotonic() - begun):.1f} ms", client.getresponse().status == 200))
    for what, holds in verdicts:
        print(f"{'ok     ' if holds else 'FAILED '} {what}")
    sys.exit(0 if all(holds for _, holds in verdicts) else 1)


if __name__ == "__main__":
    main()
