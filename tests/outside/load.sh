#!/usr/bin/env bash
# wrk with 64 connections at /v1/status for 30 s while 300 devices go through, against the same without it, five times each
# in turn; the same with 1,000 clients that connect and say nothing; then 1,000 that never finish their requests:
# tests/outside/load.sh
# Needs a release build, Python 3, wrk (Debian: wrk) and a machine with nothing else to do. SECONDS_EACH, DEVICES, PAIRS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
command -v wrk > /dev/null || { echo 'SKIPPED: there is no wrk'; exit 77; }
ulimit -n "$(ulimit -Hn)"
exec python3 "$here/load_run.py"
