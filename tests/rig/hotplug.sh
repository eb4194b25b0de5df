#!/usr/bin/env bash
# Pulls and swaps USB serial adapters under a station at work, on a machine with a real kernel, udev and USB bus (QEMU).
#
#     RIG=DIRECTORY tests/rig/hotplug.sh
#
# RIG is the rig that tests/powercut/README.md tells of (`"$RIG/rig" build` first; root, outside of CI). LINEMINT is the
# binary, by default target/debug/linemint; it has to run on Debian 12. DEVICES (20) are presented at each of two fixtures, the
# kit's in Python: one on an FTDI adapter that is configured by `usb`, one on a CDC-ACM adapter configured by its path by id.
# Each is pulled in the middle of a `credentials` and comes back under another number; then the two fixtures change places, which
# the station has to refuse, and change back. Exit status 0 only if each device has passed with one certificate, the one that the
# journal has for it, and the simulated account holds exactly what it should.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${RIG:?the directory of the rig, see tests/powercut/README.md}"
export RIG RIG_NAME=${RIG_NAME:-hotplug} PYTHONDONTWRITEBYTECODE=1
[[ -n ${LINEMINT:-} ]] || cargo build --locked --manifest-path "$here/../../Cargo.toml"
export LINEMINT=${LINEMINT:-$here/../../target/debug/linemint}
exec python3 "$here/hotplug.py"
