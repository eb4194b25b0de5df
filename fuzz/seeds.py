#!/usr/bin/env python3
"""Makes seeds in tests/corpus from the scenarios, to be run again when scenarios come or change; a test asks.

For each scenario one file in frames, with all that either side says in it, as it would stand on the wire, or in scanner,
with what the scanner sends; and one in api, with what is asked and ordered in it, if no other scenario asks just that."""

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
    if verb in (">", ">&", "<", "<other", "<next"):
        return frame(compact(rest))
    if verb == "<within":
        return frame(compact(rest.split(" ", 1)[1]))
    if verb == ">padded":
        length, text = rest.split(" ", 1)
        text = compact(text)
        return frame(text[:-1] + b" " * (int(length) - len(text) - 10) + text[-1:])
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


def asked(line):
    """The request that stands behind a line, if one does."""
    words = line.split()
    if line.startswith("? status "):
        return request("GET", "/v1/status")
    if line.startswith("? missing "):
        return request("GET", "/v1/devices/" + words[2])
    if line.startswith("? ") and len(words) > 2 and words[2].startswith("/"):
        return request("GET", "/v1/devices/" + words[1])
    if line.startswith("! order device "):
        return request("POST", "/v1/devices/%s/%s" % (words[4], words[3]), {"reason": words[6]})
    if line.startswith("! order batch open "):
        return request("POST", "/v1/batches", {"id": words[4], "product": words[6], "count": 1})
    if line.startswith("! order "):
        return request("POST", "/v1/" + words[2], {})
    return None


def request(verb, path, body=None):
    head = "%s %s HTTP/1.1\r\nHost: x\r\n" % (verb, path)
    if body is None:
        return (head + "\r\n").encode()
    body = json.dumps(body, separators=(",", ":"))
    return ("%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body)).encode()


def put(target, name, seed):
    with open(os.path.join(ROOT, "tests/corpus", target, name), "wb") as out:
        out.write(seed)


def main():
    scenarios = os.path.join(ROOT, "tests/scenarios")
    requests = set()
    for name in sorted(os.listdir(scenarios)):
        path = os.path.join(scenarios, name, "conversation.txt")
        if not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as file:
            lines = [it.strip() for it in file]
        if name.startswith("scanner_"):
            put("scanner", name, b"".join(said(it) for it in lines if it.startswith(">")))
        else:
            put("frames", name, b"".join(said(it) for it in lines))
        wanted = tuple(dict.fromkeys(it for it in map(asked, lines) if it))
        if wanted and wanted not in requests:
            requests.add(wanted)
            put("api", name, b"".join(wanted))


if __name__ == "__main__":
    main()
