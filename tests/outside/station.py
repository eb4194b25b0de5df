"""A whole station for tools from outside: the daemon, a simulated cloud, a simulated fixture. Standard library only.

LINEMINT is the binary (target/release/linemint). Nothing here has a fixed port or place.
"""

import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINEMINT = os.environ.get("LINEMINT", str(ROOT / "target/release/linemint"))

CONFIG = """
[station]
id = "OUTSIDE-1"
takt = "3s"
[journal]
dir = "journal"
min_free = "16MiB"
[api]
socket = "api.sock"
board = "127.0.0.1:{board}"
[aws]
region = "eu-west-1"
iot_endpoint = "{cloud}"
managed_integrations_endpoint = "{cloud}"
[aws.quota]
preset = "{quota}"
[pki]
ca_certificate = "ca/ca.pem"
ca_key = "ca/ca.key"
[[fixture]]
name = "nest-1"
port = "nest-1.tty"
product = "thermostat"
resend = "300ms"
patience = "{patience}"
[product.thermostat]
serial = "^[A-Z0-9]{{12,50}}$"
policy = {{ document = "thermostat.json" }}
certificate = {{}}
"""


class Local(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout=30):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def wait_for(what, holds, seconds=60):
    """Looks again until it holds; what it gave."""
    end = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds} s in vain: {what}")
        time.sleep(0.05)


class Station:
    def __init__(self, quota="unlimited", patience="60s", cloud=()):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="linemint-outside-"))
        self.running = {}
        self.socket = self.dir / "api.sock"
        subprocess.run([LINEMINT, "ca", "init", "--dir", self.dir / "ca"], check=True, stdout=subprocess.DEVNULL)
        shutil.copy(ROOT / "config/policies/thermostat.json", self.dir)
        cloud = self.start("cloud", "cloud", "simulate", "--listen", "127.0.0.1:0", "--quota", quota, *cloud)
        self.cloud = wait_for("the simulated cloud", lambda: self.said("cloud", "listening on ")).split()[-1]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.board_port = free.getsockname()[1]
        text = CONFIG.format(board=self.board_port, cloud=self.cloud, quota=quota, patience=patience)
        (self.dir / "linemint.toml").write_text(text)

    def start(self, name, *args):
        log = open(self.dir / f"{name}.log", "ab")
        secrets = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
        self.running[name] = subprocess.Popen(
            [LINEMINT, *args], cwd=self.dir, stdout=log, stderr=log, env=os.environ | secrets)
        return self.running[name]

    def said(self, name, words):
        """The newest line of a process's output with these words."""
        lines = (self.dir / f"{name}.log").read_text(errors="replace").splitlines()
        return next((it for it in reversed(lines) if words in it), None)

    def fixture(self, *options):
        self.start("fixture", "fixture", "simulate", "--link", "nest-1.tty", "--resend", "300ms", *options)
        wait_for("the simulated fixture", lambda: (self.dir / "nest-1.tty").exists())

    def daemon(self):
        """Starts it, and waits until it answers."""
        self.start("station", "run", "--config", "linemint.toml")
        wait_for("the daemon", lambda: self.running["station"].poll() is not None or self.answers())
        if self.running["station"].poll() is not None:
            raise SystemExit((self.dir / "station.log").read_text())

    def answers(self):
        with contextlib.suppress(OSError):
            return self.get("/v1/status")

    def ask(self, verb, target, body=None):
        """Status and body."""
        client = Local(self.socket)
        try:
            client.request(verb, target, None if body is None else json.dumps(body))
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def get(self, target):
        status, body = self.ask("GET", target)
        assert status == 200, (target, status, body)
        return json.loads(body)

    def passed(self, count, seconds=120):
        """Waits until so many have passed."""
        wait_for(f"{count} passed", lambda: self.get("/v1/status")["counts"]["passed"] >= count, seconds)

    def stop(self, name, how=signal.SIGTERM):
        process = self.running.pop(name, None)
        if process is not None:
            if process.poll() is None:
                process.send_signal(how)
            process.wait(60)
        return process and process.returncode

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for name in list(self.running):
            self.stop(name, signal.SIGKILL)
        if kind is not None and (self.dir / "station.log").exists():
            print("the daemon's last words:")
            print("\n".join((self.dir / "station.log").read_text(errors="replace").splitlines()[-20:]))
        shutil.rmtree(self.dir, ignore_errors=True)


class Bridge:
    """A TCP port on loopback whose bytes go to and from a Unix socket, for tools that know no other."""

    def __init__(self, path):
        self.path = str(path)
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait()

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._carry, "127.0.0.1", 0, backlog=1024))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()

    async def _carry(self, reader, writer):
        try:
            there, back = await asyncio.open_unix_connection(self.path)
        except OSError:
            writer.close()
            return

        async def pump(source, sink):
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            with contextlib.suppress(OSError):
                sink.write_eof()

        await asyncio.gather(pump(reader, back), pump(there, writer))
        for it in (back, writer):
            it.close()
