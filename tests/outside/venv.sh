# To be sourced with the packages that are needed: makes target/outside/venv, says where in VENV. Status 77 if it cannot.
VENV=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/outside/venv
[[ -x $VENV/bin/python ]] || python3 -m venv "$VENV" || { echo 'SKIPPED: there is no python3-venv'; exit 77; }
"$VENV/bin/pip" install --quiet --disable-pip-version-check "$@" || { echo "SKIPPED: PyPI does not give $*"; exit 77; }
