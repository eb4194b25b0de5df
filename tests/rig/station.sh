#!/usr/bin/env bash
# The package's own unit on a machine with a real kernel, udev, USB bus and power plug (QEMU):
#
#     RIG=DIRECTORY tests/rig/station.sh [linemint_….deb]
#
# RIG is the rig that tests/powercut/README.md tells of (`"$RIG/rig" build` first; root, outside of CI). The package is the newest
# in target/package/out (systemd/debian/package.sh) unless one is named; its binary has to run on Debian 12. It is installed and
# enabled before any adapter is there. Then an FTDI adapter is plugged, pulled in the middle of a `credentials`, and plugged again as
# another number; and the machine's power is cut in mid-shift. It boots, the adapter is plugged, and the kit's fixture in Python
# presents the rest of its DEVICES (30). Exit status 0 only if each has passed with one certificate, the one that the journal has for it,
# and the simulated account holds exactly what it should.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${RIG:?the directory of the rig, see tests/powercut/README.md}"
export RIG RIG_NAME=${RIG_NAME:-station} PYTHONDONTWRITEBYTECODE=1
PACKAGE=${1:-$(ls -t "$here"/../../target/package/out/linemint_*.deb | head -1)}
export PACKAGE
exec python3 "$here/station.py"
