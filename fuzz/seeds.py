#!/usr/bin/env python3
"""Makes the seeds of the frame decoder in tests/corpus/frames from the scenarios: one file for each, with all that
either side says in it, as it would stand on the wire. To be run again when scenarios come or change; a test asks."""

import json
import os
import re
import zlib

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def unescape(text):
    return re.sub(rb"\\(x[0-9a-f]{2}|.)", lambda it: {b"n": b"\n", b"r": b"\r", b"\\": b"\\", b"t": b"\t"}.get(
        it.group(1)) or (bytes([int(it.group(1)[1:], 16)]) if it.group(1)[:1] == b"x" else it.group(0)), text.encode())


def frame(text, wrong=0):
    return text + b"*%08X\n" % (zlib.crc32(text) ^ wrong)


def compact(text):
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")).encode()


def said(line):
    verb, _, rest = line.lstrip("0123456789").partition(" ")
    if verb in (">", ">&", "<", "<other"):
        return frame(compact(rest))
    if verb == "<set":
        return b"".join(frame(compact(json.dumps(it))) for it in json.loads(rest))
    if verb == ">crc":
        return frame(compact(rest), 1)
    if verb == ">cut":
        length, text = rest.split(" ", 1)
        return frame(compact(text))[:int(length)]
    if verb == ">text":
        text = unescape(rest)
        body = text.rstrip(b"\r")
        return frame(body)[:-1] + text[len(body):] + b"\n"
    if verb == ">raw":
        return unescape(rest)
    if verb == ">noise":
        return bytes(it for it in range(256) if it != 10) + b"\n"
    if verb == ">flood":
        return b"A" * min(int(rest), 20000)
    return b""


def main():
    scenarios = os.path.join(ROOT, "tests/scenarios")
    for name in sorted(os.listdir(scenarios)):
        path = os.path.join(scenarios, name, "conversation.txt")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                seed = b"".join(said(line.strip()) for line in file)
            with open(os.path.join(ROOT, "tests/corpus/frames", name), "wb") as out:
                out.write(seed)


if __name__ == "__main__":
    main()
