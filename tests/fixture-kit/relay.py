#!/usr/bin/env python3
"""A cable: two ptys, and what is written into one comes out of the other, damaged if wanted.

    relay.py LINK-A LINK-B [--damage 0.05] [--seed 1] [--stats FILE] [--until-eof]

Makes a link to each pty, says `ready`, and runs until SIGINT or SIGTERM, or the end of its standard input.
A damaged line has a bit flipped, lost a piece, come twice, noise before it, or its end (LF included) torn off.
"""

import argparse
import json
import os
import random
import selectors
import signal
import sys
import tty

MAX_BUFFER = 1 << 16


class Way:
    """One direction."""

    def __init__(self, source, target, damage, random_):
        self.source, self.target, self.damage, self.random = source, target, damage, random_
        self.line, self.out = b"", b""
        self.lines = self.damaged = 0

    def take(self):
        data = os.read(self.source, 4096)
        if self.damage == 0:
            self.lines += data.count(b"\n")
            self.out += data
            return
        *whole, self.line = (self.line + data).split(b"\n")
        for line in whole:
            self.lines += 1
            self.out += self.spoilt(line + b"\n") if self.random.random() < self.damage else line + b"\n"

    def spoilt(self, line):
        self.damaged += 1
        kind = self.random.randrange(6)
        at = self.random.randrange(len(line))
        if kind == 0:  # one bit
            return line[:at] + bytes([line[at] ^ 1 << self.random.randrange(8)]) + line[at + 1:]
        if kind == 1:  # a piece is lost
            return line[:at] + line[at + self.random.randrange(1, 40):]
        if kind == 2:  # it comes twice
            return line + line
        if kind == 3:  # noise before it
            return bytes(self.random.randrange(256) for _ in range(self.random.randrange(1, 100))) + line
        if kind == 4:  # its end is torn off: it runs into the next one
            return line[:at]
        return b""  # it is lost

    def give(self):
        try:
            self.out = self.out[os.write(self.target, self.out):]
        except BlockingIOError:
            pass


def pty(link):
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    if os.path.islink(link):
        os.unlink(link)
    os.symlink(os.ttyname(slave), link)
    # The slave stays open here, so that neither side's end is a hang-up for the other.
    return master, slave


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("links", nargs=2)
    parser.add_argument("--damage", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stats", help="where to write how many lines there were, at the end")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    (a, _), (b, _) = pty(options.links[0]), pty(options.links[1])
    ways = [Way(a, b, options.damage, random.Random(options.seed)),
            Way(b, a, options.damage, random.Random(options.seed + 1))]
    end_read, end_write = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(end_write, b"!"))
    signal.signal(signal.SIGINT, lambda *_: os.write(end_write, b"!"))
    selector = selectors.DefaultSelector()
    selector.register(end_read, selectors.EVENT_READ)
    if options.until_eof:
        selector.register(sys.stdin, selectors.EVENT_READ)
    for way in ways:
        selector.register(way.source, selectors.EVENT_READ)
    print("ready", flush=True)
    run(selector, ways, (end_read, sys.stdin))
    if options.stats:
        with open(options.stats, "w", encoding="utf-8") as file:
            json.dump([{"lines": it.lines, "damaged": it.damaged} for it in ways], file)
    for link in options.links:
        os.unlink(link)


def run(selector, ways, ends):
    while True:
        for way, other in (ways, ways[::-1]):
            # Reads while there is room for it, writes what the other way's end has to take.
            room = selectors.EVENT_READ if len(way.out) < MAX_BUFFER else 0
            wanted = room | (selectors.EVENT_WRITE if other.out else 0)
            known = way.source in selector.get_map()
            if wanted and known:
                selector.modify(way.source, wanted)
            elif wanted:
                selector.register(way.source, wanted)
            elif known:
                selector.unregister(way.source)
        for key, events in selector.select():
            if key.fileobj in ends:
                return
            way = next(it for it in ways if it.source == key.fileobj)
            if events & selectors.EVENT_READ:
                way.take()
            if events & selectors.EVENT_WRITE:
                next(it for it in ways if it.target == key.fileobj).give()


if __name__ == "__main__":
    main()
