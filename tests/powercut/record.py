"""Stands between a station that will lose its power and the world that does not: its AWS and its
fixture. What passes is handed on, and written down with the length that the disk's write log had when
it came. So it is known for each later cut what the world had seen by then.

    record.py cloud OUT DISK_LOG UPSTREAM        HTTP; prints the port that it listens on
    record.py line OUT DISK_LOG TTY SOCKET       SFP/1 between a tty and a Unix socket
"""
import asyncio
import base64
import contextlib
import json
import os
import socket
import sys
import tty

MAX_MESSAGE = 4 << 20


class Record:
    """JSON lines, each on its way to the disk before what it tells of is handed on."""

    def __init__(self, path, disk_log):
        self.file = open(path, "a", buffering=1)
        self.disk_log = disk_log

    def write(self, **members):
        # Before the machine runs for the first time there is no log.
        with contextlib.suppress(FileNotFoundError):
            members["at"] = os.path.getsize(self.disk_log)
        self.file.write(json.dumps(members) + "\n")


async def read_message(reader):
    """One HTTP message as it is, or None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    length = 0
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            raise ValueError("a chunked message cannot be recorded")
    if length > MAX_MESSAGE:
        raise ValueError(f"a message of {length} bytes")
    return head + await reader.readexactly(length)


async def cloud(record, upstream):
    host, port = upstream.removeprefix("http://").split(":")
    # One request at a time, so that a repetition in the same order gives the same account.
    turn = asyncio.Lock()

    async def serve(reader, writer):
        onward_reader, onward_writer = await asyncio.open_connection(host, int(port))
        try:
            while (request := await read_message(reader)) is not None:
                async with turn:
                    record.write(request=base64.b64encode(request).decode())
                    onward_writer.write(request)
                    answer = await read_message(onward_reader)
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the power went, or the station
        finally:
            writer.close()
            onward_writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def told(line):
    """A frame's message without its private key; None for what is no frame."""
    try:
        message = json.loads(line.rpartition(b"*")[0])
    except ValueError:
        return None
    if isinstance(message, dict) and "private_key" in message:
        message["private_key"] = "left out"
    return message


async def line(record, tty_path, socket_path):
    end = os.open(tty_path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    tty.setraw(end)
    wire = socket.socket(socket.AF_UNIX)
    wire.connect(socket_path)
    wire.setblocking(False)
    loop = asyncio.get_running_loop()

    async def carry(name, read, write):
        rest = b""
        while True:
            try:
                data = await read()
            except OSError:
                data = b""
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for message in filter(None, map(told, lines)):
                record.write(**{"from": name, "message": message})
            await write(data)

    def tty_ready(add, remove):
        async def ready():
            future = loop.create_future()
            add(end, lambda: future.done() or future.set_result(None))
            try:
                await future
            finally:
                remove(end)
        return ready

    readable = tty_ready(loop.add_reader, loop.remove_reader)
    writable = tty_ready(loop.add_writer, loop.remove_writer)

    async def read_tty():
        while True:
            await readable()
            with contextlib.suppress(BlockingIOError):
                return os.read(end, 4096)

    async def write_tty(data):
        while data:
            await writable()
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(end, data):]

    print("connected", flush=True)
    await asyncio.wait(
        [asyncio.create_task(carry("fixture", read_tty, lambda data: loop.sock_sendall(wire, data))),
         asyncio.create_task(carry("station", lambda: loop.sock_recv(wire, 4096), write_tty))],
        return_when=asyncio.FIRST_COMPLETED)


def main():
    what, out, disk_log, *rest = sys.argv[1:]
    asyncio.run({"cloud": cloud, "line": line}[what](Record(out, disk_log), *rest))


if __name__ == "__main__":
    main()
