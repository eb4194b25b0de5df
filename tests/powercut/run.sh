#!/usr/bin/env bash
# Cuts the power of a station at work at hundreds of places, and looks what each cut has left.
# RIG=… tests/powercut/run.sh [STATES]; README.md beside this tells the rest. Needs root.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${RIG:?the directory of the rig, see tests/powercut/README.md}"
export RIG RIG_NAME=${RIG_NAME:-powercut}
states=${1:-240} devices=${DEVICES:-32} seed=${SEED:-1}
[[ -n ${LINEMINT:-} ]] || cargo build --locked --manifest-path "$here/../../Cargo.toml"
export LINEMINT=${LINEMINT:-$here/../../target/debug/linemint}
work=${KEEP:-$(mktemp -d)}
mkdir -p "$work/states"

rig() { "$RIG/rig" "$@"; }
say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
started=()
finish() {
  kill "${started[@]}" 2>/dev/null || true
  [[ $(rig status) != *'"up": true'* ]] || rig powercut --off --lose cache >/dev/null
  [[ -n ${KEEP:-} ]] || rm -rf "$work"
}
trap finish EXIT
# first_line FILE: waits until somebody has written one there.
first_line() { timeout 60 bash -c 'until [[ -s $0 ]] && read -r line <"$0"; do sleep 0.05; done; echo "$line"' "$1"; }
# told NAME: how often the station has told the fixture that.
told() { grep -c "\"station\".*\"type\": \"$1\"" "$work/line.jsonl" || true; }
# until_told NAME COUNT
until_told() {
  local end=$((SECONDS + 900))
  until (($(told "$1") >= $2)); do
    ((SECONDS < end)) || { say "the station does not get on"; rig run 'journalctl -u linemint -o cat | tail -n 20'; exit 1; }
    sleep 0.2
  done
}
disk_log=${RIG_DIR:-/tmp/rig}/$RIG_NAME/write.log

say "this side: CA, AWS, and what writes down all that it is asked"
"$LINEMINT" ca init --dir "$work/ca"
cp "$here/../../config/policies/thermostat.json" "$work/"
cp "$here/station.toml" "$work/"
"$LINEMINT" cloud simulate --listen 127.0.0.1:0 --quota unlimited >"$work/cloud.out" & started+=($!)
cloud=$(first_line "$work/cloud.out")
python3 "$here/record.py" cloud "$work/cloud.jsonl" "$disk_log" "${cloud#listening on }" >"$work/proxy.out" & started+=($!)
proxy=$(first_line "$work/proxy.out")

say "the machine"
rig up --fresh --fwd "4599:$proxy"
mkdir "$work/etc"
cp -r "$work/ca" "$work/thermostat.json" "$work/station.toml" "$work/etc/"
strip -o "$work/linemint" "$LINEMINT"
rig put "$work/linemint" /usr/local/bin/linemint
rig put "$work/etc" /etc/linemint
rig run 'mkdir -p /var/lib/linemint && sync'
preload=()
if [[ -n ${CONTROL:-} ]]; then
  say "CONTROL: this station's syncs do nothing; the states have to be bad"
  echo 'int fsync(int f) { return 0; } int fdatasync(int f) { return 0; }' >"$work/nosync.c"
  cc -shared -fPIC -w -o "$work/nosync.so" "$work/nosync.c"
  rig put "$work/nosync.so" /usr/local/lib/nosync.so
  preload=(-E LD_PRELOAD=/usr/local/lib/nosync.so)
fi

say "its fixture, on a serial adapter"
wire=$(rig plug fixture)
"$LINEMINT" fixture simulate --json --link "$work/fixture" --nests 4 --count "$devices" --seed "$seed" \
  --write-time 200ms >"$work/fixture.out" & started+=($!)
first_line "$work/fixture.out" >/dev/null
python3 "$here/record.py" line "$work/line.jsonl" "$disk_log" "$work/fixture" "$wire" >"$work/line.out" & started+=($!)
first_line "$work/line.out" >/dev/null

say "$devices devices; the station is killed twice meanwhile, and comes back"
rig mark begin
rig run "systemd-run -q --unit linemint -p Restart=always -p RestartSec=0 -E AWS_ACCESS_KEY_ID=AKIDTEST \
  -E AWS_SECRET_ACCESS_KEY=test -E AWS_EC2_METADATA_DISABLED=true ${preload[*]} \
  linemint run --config /etc/linemint/station.toml"
until_told ack 1
rig mark first-ack
say "the first device is acknowledged"
until_told pass $((devices / 3))
rig run 'systemctl kill -s KILL linemint'
until_told pass $((devices / 2))
rig mark half
say "half of them have passed"
until_told pass $((devices * 2 / 3))
rig run 'systemctl kill -s KILL linemint'
until_told pass $((devices - 4))
rig powercut --hold
kill "${started[@]}" 2>/dev/null || true
python3 - "$work" <<'P'
import json, sys
units = {m["message"]["serial"] for m in map(json.loads, open(sys.argv[1] + "/line.jsonl")) if m["message"].get("type") == "unit"}
open(sys.argv[1] + "/serials", "w").write("\n".join(sorted(units)) + "\n")
P
say "the power is off: acks $(told ack), passes $(told pass), requests to AWS $(wc -l <"$work/cloud.jsonl"), $(wc -l <"$work/serials") devices were presented"

# cuts NAME SHARE OPTIONS…: so many of all states, in a folder of that name.
cuts() {
  rig states --path /var/lib/linemint --out "$work/states/$1" -n $((states * $2 / 100)) "${@:3}" | tail -n 1
}
say "$states states"
cuts 1-torn-from-the-beginning 50 --since begin --seed "$seed"
cuts 2-torn-from-the-first-ack 20 --since first-ack --seed $((seed + 100))
cuts 3-torn-from-half 10 --since half --seed $((seed + 200))
cuts 4-nothing-unflushed 10 --since first-ack --lose writes --seed $((seed + 300))
cuts 5-everything-written 10 --since first-ack --lose cache --seed $((seed + 400))
say "judged by $LINEMINT"
status=0
python3 "$here/judge.py" "$work" "$work/states" --complete-every "${COMPLETE_EVERY:-1}" || status=$?
say "done"
exit "$status"
