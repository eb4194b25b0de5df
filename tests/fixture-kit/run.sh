#!/usr/bin/env bash
# Proves the kit for fixture makers: its own tests, then whole runs of both fixtures against the station and a
# simulated AWS with faults. LINEMINT is the binary (target/release/linemint); DEVICES, SEED: of each run.
# Needs a C compiler, make and Python 3. docs/fixture/README.md tells more.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
export LINEMINT=${LINEMINT:-$root/target/release/linemint} PYTHONDONTWRITEBYTECODE=1
devices=${DEVICES:-50} seed=${SEED:-1}
[[ -x $LINEMINT ]] || { echo "there is no $LINEMINT: build it, or set LINEMINT" >&2; exit 2; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "the C kit's tests, with the sanitizers"
make -s -C "$root/docs/fixture/c" BUILD="$scratch/c" check example
echo "the Python kit's tests"
python3 -W error -m unittest discover -s "$root/docs/fixture/python"

# The command of each, with a period of so many milliseconds.
python_fixture() {
  command=(python3 "$root/docs/fixture/python/linemint_fixture.py" '{port}' --serials '{serials}'
    --directory '{directory}' --nests 4 --resend "0.$1" --again-after "0.$1")
}
c_fixture() {
  command=("$scratch/c/example" '{port}' nest-1 4 '{serials}' '{directory}' "$1")
}
bad=0

# provision NAME FIXTURE OPTION…
provision() {
  local name=$1 fixture=$2 command
  shift 2
  "${fixture}_fixture" 300
  python3 "$here/provision.py" --linemint "$LINEMINT" --devices "$devices" --seed "$seed" "$@" \
    "$fixture $name" -- "${command[@]}" || bad=1
}

# check FIXTURE: the rules of the protocol, one by one
check() {
  local command
  "$1_fixture" 700
  local dir=$scratch/check-$1 cable fixture status=0
  mkdir -p "$dir/units"
  printf 'SN%010d\n' {1..12} > "$dir/serials"
  python3 "$here/relay.py" "$dir/station.tty" "$dir/fixture.tty" > "$dir/relay.out" & cable=$!
  until grep -q ready "$dir/relay.out"; do kill -0 "$cable"; sleep 0.1; done
  local words=("${command[@]//\{port\}/$dir/fixture.tty}")
  words=("${words[@]//\{serials\}/$dir/serials}")
  "${words[@]//\{directory\}/$dir/units}" > "$dir/fixture.out" 2>&1 & fixture=$!
  "$LINEMINT" fixture check "$dir/station.tty" --yes --name nest-1 --key station --resend 700ms 2> "$dir/check.err" || status=$?
  [[ $status == 0 ]] || { cat "$dir/check.err" >&2; bad=1; }
  kill "$fixture" "$cable"
  wait "$fixture" "$cable" || true
}
for fixture in python c; do
  printf '\nfixture check, %s\n' "$fixture"
  check "$fixture"
done

printf '\n%-24s %7s %7s %7s %8s %6s %7s  %s\n' run devices seconds frames damaged kills resets verdict
for fixture in python c; do
  provision "plain" "$fixture"
  provision "bad cable" "$fixture" --damage 0.05
  provision "station killed" "$fixture" --rtt 150 --kill-station 1
  provision "fixture killed" "$fixture" --rtt 150 --kill-fixture 1.5
  provision "all of it" "$fixture" --rtt 100 --damage 0.05 --kill-station 1 --kill-fixture 2.3
done
exit "$bad"
