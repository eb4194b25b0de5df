#!/usr/bin/env bash
# The board in a real Chromium without a head, driven by Playwright, judged by axe-core: tests/outside/board.sh
# SHOTS=DIR keeps pictures there. CHROMIUM is the browser (/usr/bin/chromium). Needs Python 3 with venv, and PyPI once.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
[[ -x $CHROMIUM ]] || { echo 'SKIPPED: there is no Chromium'; exit 77; }
. "$here/venv.sh" playwright axe-playwright-python
exec "$VENV/bin/python" "$here/board_run.py"
