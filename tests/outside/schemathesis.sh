#!/usr/bin/env bash
# Schemathesis (PyPI) against docs/openapi.json and the real daemon over its real socket: tests/outside/schemathesis.sh
# EXAMPLES is how many at least (5000), SEED makes them the same again. Needs Python 3 with venv, and PyPI once.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/venv.sh" schemathesis
exec "$VENV/bin/python" "$here/schemathesis_run.py"
