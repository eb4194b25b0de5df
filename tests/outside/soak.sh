#!/usr/bin/env bash
# A week of three shifts, 80,640 devices, as fast as they go: tests/outside/soak.sh
# Tells the daemon's memory and files at the start, in the middle, at the end, and after a kill and a start. DEVICES, NESTS. Needs Python 3.
set -euo pipefail
exec python3 "$(cd "$(dirname "$0")" && pwd)/soak_run.py"
