#!/usr/bin/env bash
# The package under a real systemd: RIG=DIRECTORY tests/rig/service.sh [linemint_….deb]
#
# RIG holds `nsrig`, a bare Debian 12 with its own systemd in namespaces (`up --fresh`, `put`, `run`, `down`). The package is
# the newest in target/package/out (systemd/debian/package.sh) unless one is named. Needs root; outside CI.
# One line a check; exit status 0 only if all held.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
rig=${RIG:?RIG is the directory of nsrig}/nsrig
package=${1:-$(ls -t "$here"/../../target/package/out/linemint_*.deb | head -1)}

"$rig" up --fresh
trap '"$rig" down' EXIT
"$rig" put "$package" /opt/linemint.deb
# A test build, where there is one: what hangs by a debug switch is no part of the package.
debug=$here/../../target/debug/linemint
[ ! -x "$debug" ] || "$rig" put "$debug" /opt/linemint-test
"$rig" put "$here/service-inside.sh" /opt/service-inside.sh
"$rig" run 'bash /opt/service-inside.sh'
