#!/usr/bin/env bash
# Inside the machine of service.sh: installs the package, and has it do what a station does in a year.
set -uo pipefail
failed=0
check() { # what, command…
  local what=$1
  shift
  if "$@" > /tmp/check.out 2>&1; then
    echo "ok      $what"
  else
    failed=1
    echo "FAILED  $what"
    tail -20 /tmp/check.out | sed 's/^/        /'
  fi
}
until_true() { # seconds, command…: looks again until it holds
  local end=$((SECONDS + $1))
  shift
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}
passed() { linemint status --json | tr -d ' \n' | grep -q "\"passed\":$1[,}]"; }
some_passed() { linemint status --json | tr -d ' \n' | grep -Eq '"passed":[1-9]'; }
api() { # verb, path, body: speaks to the daemon; the body of its answer
  python3 - "$@" <<'P'
import http.client, socket, sys
class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect("/run/linemint/linemint.sock")
client = Local("x")
client.request(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
answer = client.getresponse()
print(answer.read().decode())
raise SystemExit(answer.status != 200)
P
}
told() { # a Python condition over `it`: whether it holds for a record of the service in the system's journal
  journalctl -u linemint -o json | python3 -c '
import json, re, sys
found = [it for it in map(json.loads, sys.stdin) if eval(sys.argv[1].strip())]
print(found[:2])
raise SystemExit(not found)' "$1"
}
happened() { # the same over an event of the daemon
  api GET '/v1/events?limit=1000' | python3 -c '
import json, re, sys
found = [it for it in json.load(sys.stdin)["events"] if eval(sys.argv[1].strip())]
print(found[:2])
raise SystemExit(not found)' "$1"
}
one_device() { # finds a device in the system's journal by its field
  local serial
  serial=$(linemint device list --state passed --limit 1 --json | tr -d ' \n' | grep -o '"serial":"[A-Z0-9]*"' | head -1 | cut -d'"' -f4)
  test -n "$serial" && test "$(journalctl -u linemint SERIAL="$serial" -o cat | wc -l)" -ge 2
}
in_groups() { # names…: whether the daemon's process is in just these groups, the first of them its primary one
  local pid wanted
  pid=$(systemctl show -p MainPID --value linemint)
  grep -E '^(Gid|Groups):' "/proc/$pid/status"
  wanted=$(for it in "$@"; do getent group "$it" | cut -d: -f3; done | sort -n | xargs)
  test "$(awk '/^Gid:/ { print $2 }' "/proc/$pid/status")" = "$(getent group "$1" | cut -d: -f3)" &&
    test "$(awk '/^G(id|roups):/ { for (i = 2; i <= NF; i++) print $i }' "/proc/$pid/status" | sort -nu | xargs)" = "$wanted"
}
alone() { # whether nothing below the state directory is for anybody but its owner
  find /var/lib/linemint ! -type l -perm /077 ! -name '*.pub' -ls
  test "$(find /var/lib/linemint ! -type l -perm /077 ! -name '*.pub' | wc -l)" = 0
}
hang() { # stops the daemon's process; whether it is soon there again, as another
  local before i
  before=$(systemctl show -p NRestarts --value linemint)
  systemctl kill -s STOP linemint
  for i in $(seq 150); do
    sleep 0.2
    test "$(systemctl show -p NRestarts --value linemint)" -gt "$before" && systemctl is-active -q linemint && return 0
  done
  return 1
}
starve() { # has a test build's journal hang at its first record; whether the watchdog ends it, and the packaged one goes on
  local dropin=/etc/systemd/system/linemint.service.d/starve.conf before held=1
  before=$(systemctl show -p NRestarts --value linemint)
  printf '%s\n' '[Service]' 'Environment=LINEMINT_DEBUG_STALL_JOURNAL_AT=1' ExecStart= \
    'ExecStart=/opt/linemint-test run --config /etc/linemint/linemint.toml' > "$dropin"
  systemctl daemon-reload
  systemctl kill -s KILL linemint
  # Once for the kill, and once for the watchdog.
  until_true 60 eval 'test "$(systemctl show -p NRestarts --value linemint)" -ge $((before + 2))' && held=0
  journalctl -u linemint -o cat | grep -q 'the journal hangs, as this test build was told' || held=1
  rm "$dropin"
  systemctl daemon-reload
  systemctl kill -s KILL linemint
  until_true 30 linemint status && return $held
}
clients() { # asks forty times; says who was refused, and ends with how many were
  python3 - <<'P'
import http.client, socket, time
class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect("/run/linemint/linemint.sock")
refused = 0
for _ in range(40):
    try:
        client = Local("x")
        client.request("GET", "/v1/status")
        status = client.getresponse().status
        if status != 200:
            print("answered with", status)
            refused += 1
    except OSError as error:
        print(error)
        refused += 1
    time.sleep(0.1)
raise SystemExit(refused)
P
}
all_answered() { # a background job of this shell: whether none of its clients was refused
  wait "$1" && return
  cat /tmp/clients
  return 1
}

echo "== a bare machine: $(. /etc/os-release; echo "$PRETTY_NAME"), $(systemctl --version | head -1)"
check 'the package installs' dpkg -i --force-depends /opt/linemint.deb
check 'nothing was started' bash -c '! systemctl is-active linemint linemint.socket'
check 'there is the user, and the group of those who may change something' bash -c 'id linemint && getent group linemint-admin'
check 'the user is in the group of the serial ports also where it runs under another' bash -c 'getent group linemint | grep -q ":linemint$"'
check 'an unconfigured station is not started, and that is no failure' bash -c 'systemctl start linemint; ! systemctl is-failed linemint'

echo '== configured'
mkdir -p /run/rig && chmod 755 /run/rig
install -d -m 755 /etc/linemint/ca
linemint ca init --dir /opt/ca --common-name 'rig CA' > /dev/null
install -m 644 /opt/ca/ca.pem /etc/linemint/ca/ca.pem
install -m 600 /opt/ca/ca.key /etc/linemint/secret/ca.key
cat > /etc/linemint/linemint.toml <<'T'
[station]
id = "RIG-1"
[journal]
dir = "/var/lib/linemint/journal"
min_free = "16MiB"
[aws]
region = "eu-west-1"
iot_endpoint = "http://127.0.0.1:4599"
managed_integrations_endpoint = "http://127.0.0.1:4599"
[pki]
ca_certificate = "ca/ca.pem"
ca_key = "credential:ca.key"
[[fixture]]
name = "nest-1"
port = "/run/rig/nest-1"
product = "thermostat"
resend = "500ms"
[product.thermostat]
serial = "^[A-Z0-9]{12,50}$"
policy = { document = "policies/thermostat.json" }
certificate = {}
T
mkdir -p /etc/systemd/system/linemint.service.d
# A fixture on a pseudo-terminal instead of a USB adapter, and credentials of a simulated account.
cat > /etc/systemd/system/linemint.service.d/rig.conf <<'T'
[Service]
DeviceAllow=char-136 rw
LoadCredential=ca.key:/etc/linemint/secret/ca.key
# So that a watchdog that is starved below bites soon.
WatchdogSec=6
Environment=AWS_ACCESS_KEY_ID=AKIDTEST AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true
T
systemctl daemon-reload
check 'the configuration is right' linemint check-config
check 'the units are sound' systemd-analyze verify --man=no /usr/lib/systemd/system/linemint.service /usr/lib/systemd/system/linemint.socket
systemd-run -q --unit rig-cloud linemint cloud simulate --listen 127.0.0.1:4599 --rtt 20
check 'it starts, and is ready' systemctl start linemint.socket linemint
check 'it says what it does' bash -c 'systemctl show -p StatusText --value linemint | grep -E "ready|degraded|starting"'
check 'it runs as its own user' bash -c 'test "$(ps -o user= -p "$(systemctl show -p MainPID --value linemint)")" = linemint'
check 'and under the two groups' in_groups linemint-admin linemint
check 'in a namespace of users, with root, its own user and its own group in it' bash -c '
  cd /proc/$(systemctl show -p MainPID --value linemint) && cat uid_map gid_map &&
  test "$(awk "{ print \$1, \$2, \$3 }" uid_map | sort -n | xargs)" = "0 0 1 $(id -u linemint) $(id -u linemint) 1" &&
  test "$(awk "{ print \$1 }" gid_map | sort -n | xargs)" = "0 $(getent group linemint-admin | cut -d: -f3)"'
check 'what it has made is for its user alone' alone
check 'it starts at boot when it is told to' systemctl enable linemint

echo '== who may change something'
useradd --no-create-home --groups linemint-admin ada
useradd --no-create-home --gid linemint-admin grace
useradd --no-create-home bob
ada=$(id -u ada)
check 'a member of linemint-admin is let in' runuser -u ada -- linemint drain --reason 'the shift is over'
check 'the log calls her a member, and has her process' until_true 5 told "
  it.get('MESSAGE') == 'told through the API' and re.fullmatch(r'a member of linemint-admin \\(process \\d+\\)', it.get('NAME'))"
check 'so does the record' happened "
  it['event'] == 'drained' and it['by']['reason'] == 'the shift is over' and it['by']['name'].startswith('a member of linemint-admin (process ')"
check 'and she lets the station go on' runuser -u ada -- linemint resume
check 'so is one whose primary group it is' runuser -u grace -- linemint resume --reason 'grace may'
check 'and the daemon itself, by its name' bash -c 'runuser -u linemint -- linemint resume --reason "its own user"'
check 'and root' linemint resume --reason 'root may'
check 'the record bears these two names' happened "
  it['event'] == 'resumed' and (it['by']['uid'], it['by']['name'], it['by']['reason']) == ($(id -u linemint), 'linemint', 'its own user')"
check 'of root too' happened "
  it['event'] == 'resumed' and (it['by']['uid'], it['by']['name'], it['by']['reason']) == (0, 'root', 'root may')"
check 'a stranger cannot open the socket' bash -c 'runuser -u bob -- linemint status; test $? = 77'
chmod 666 /run/linemint/linemint.sock
# To the daemon each stranger has the number of this one.
usermod --append --groups linemint-admin nobody
check 'where he can, he may look' runuser -u bob -- linemint status
check 'and change nothing, status 77' bash -c 'runuser -u bob -- linemint drain; test $? = 77'
check 'the log says that somebody was refused, and his process' until_true 5 told "
  it.get('MESSAGE') == 'a command was refused' and re.fullmatch(r'a user without a name here \\(process \\d+\\)', it.get('NAME'))"
gpasswd --delete nobody linemint-admin > /dev/null
chmod 660 /run/linemint/linemint.sock
printf '%s\n' '[Service]' PrivateUsers=no > /etc/systemd/system/linemint.service.d/names.conf
systemctl daemon-reload
check 'with PrivateUsers=no she is let in as well' bash -c 'systemctl restart linemint && runuser -u ada -- linemint drain --reason "by name"'
check 'the log bears her number and her name' until_true 5 told "
  it.get('MESSAGE') == 'told through the API' and it.get('UID') == '$ada' and it.get('NAME') == 'ada'"
check 'so does the record' happened "
  it['event'] == 'drained' and it['by'] == {'uid': $ada, 'name': 'ada', 'reason': 'by name'}"
check 'and a stranger changes nothing' bash -c '
  chmod 666 /run/linemint/linemint.sock; runuser -u bob -- linemint drain; it=$?; chmod 660 /run/linemint/linemint.sock; test $it = 77'
rm /etc/systemd/system/linemint.service.d/names.conf
systemctl daemon-reload
check 'and back' bash -c 'systemctl restart linemint && runuser -u ada -- linemint resume'

echo '== another configuration'
before=$(systemctl show -p MainPID --value linemint)
sed -i 's/^resend = "500ms"/resend = "500ms"\npatience = "50s"/' /etc/linemint/linemint.toml
check 'a reload' systemctl reload linemint
check 'is taken over alive, and is a record' until_true 10 happened "
  it['event'] == 'reconfigured' and it['changed'] == ['fixture nest-1']"
cp /etc/linemint/linemint.toml /tmp/right.toml
sed -i 's/^region = .*/region = "the moon"/' /etc/linemint/linemint.toml
check 'a reload of a file that is wrong' systemctl reload linemint
check 'changes nothing, and the log says why' until_true 10 told "
  it.get('MESSAGE', '').startswith('the configuration is not taken over') and 'aws.region' in it.get('WHY', '')"
cp /tmp/right.toml /etc/linemint/linemint.toml
check 'it is the same process, active and with a status' bash -c "
  test \$(systemctl show -p MainPID --value linemint) = $before && test \$(systemctl show -p ActiveState --value linemint) = active"

echo '== its socket alone'
systemctl stop linemint
check 'with its socket alone a client starts it, and is answered' bash -c '
  ! systemctl is-active -q linemint && systemctl is-active -q linemint.socket && linemint status && systemctl is-active -q linemint'
systemctl stop linemint
sed -i 's/^region = .*/region = "the moon"/' /etc/linemint/linemint.toml
check 'with a wrong configuration each client is told why' bash -c '
  for i in $(seq 30); do
    linemint status > /tmp/why 2>&1 && exit 1
    grep -q aws.region /tmp/why || { cat /tmp/why; exit 1; }
  done'
check 'and the socket stays' systemctl is-active -q linemint.socket
cp /tmp/right.toml /etc/linemint/linemint.toml
# The last one told is not gone yet: it says its last words to whoever comes within half a second.
until_true 20 systemctl is-failed linemint
check 'with a right one the next client starts it' linemint status
check 'a damaged journal is not begun anew while somebody restores it' bash -c '
  systemctl stop linemint.socket linemint &&
  mv /var/lib/linemint/journal /var/lib/linemint/journal.damaged && systemctl start linemint
  test ! -e /var/lib/linemint/journal/log && journalctl -u linemint -o cat | grep -q "shows that there was one" &&
  systemctl stop linemint.socket linemint &&
  rm -rf /var/lib/linemint/journal && mv /var/lib/linemint/journal.damaged /var/lib/linemint/journal &&
  systemctl start linemint.socket linemint && linemint status'

echo '== devices'
check 'she opens a batch' runuser -u ada -- linemint batch open WO-1 --product thermostat --count 50
check 'more is logged from now on' api PUT /v1/log-level '{"level": "debug", "reason": "the rig looks"}'
systemd-run -q --unit rig-fixture linemint fixture simulate --link /run/rig/nest-1 --nests 4 --count 50 --seed 1 --resend 500ms --think-time 500ms
until_true 10 test -e /run/rig/nest-1
chmod 666 "$(readlink -f /run/rig/nest-1)"
check 'devices pass' until_true 60 some_passed
check 'the log has a line for each with SERIAL, BATCH and FIXTURE' until_true 10 told "
  it.get('MESSAGE') == 'PASS' and it.get('SERIAL') and it.get('BATCH') == 'WO-1' and it.get('FIXTURE') == 'nest-1'"
check 'and steps with STEP and REQUEST_ID' until_true 10 told "
  it.get('SERIAL') and it.get('STEP') and it.get('REQUEST_ID')"
check 'journalctl finds one device by its field' one_device

echo '== in mid-shift'
if [ -x /opt/linemint-test ]; then
  check 'with a journal that hangs it starves, is ended by the watchdog, and comes back' starve
else
  echo 'skipped a journal that hangs: there is no test build'
fi
check 'stopped as a process, it is ended by the watchdog, and comes back' hang
check 'the system says so' bash -c 'journalctl -u linemint -o cat | grep -i "watchdog"'
check 'kill -9: it comes back by itself' bash -c '
  systemctl kill -s KILL linemint; sleep 0.5
  for i in $(seq 100); do systemctl is-active -q linemint && exit 0; sleep 0.2; done; exit 1'
clients > /tmp/clients 2>&1 & asking=$!
check 'a restart with devices in flight' systemctl restart linemint
check 'clients at its socket wait meanwhile, none is refused' all_answered "$asking"
# As a version left it that ran under the group linemint.
chown -R linemint:linemint /var/lib/linemint
gpasswd --delete linemint linemint > /dev/null
check 'an upgrade with devices in flight' bash -c 'dpkg -i --force-depends /opt/linemint.deb && systemctl is-active -q linemint'
check 'what an older version has left to its group is taken over' bash -c '
  test "$(find /var/lib/linemint ! -group linemint-admin -o ! -user linemint | wc -l)" = 0 && getent group linemint | grep -q ":linemint$"'
check 'and it is in the two groups again' in_groups linemint-admin linemint
check 'all 50 devices pass' until_true 180 passed 50
check 'and all it has made is for its user alone' alone
linemint device list --limit 1000 --json | tr -d ' ' | grep -o '"serial":"[A-Z0-9]*"' | cut -d'"' -f4 | sort -u > /tmp/serials
check 'the simulated account holds what it should' bash -c '
  test "$(wc -l < /tmp/serials)" = 50 && python3 -c "
import json, urllib.request
audit = json.load(urllib.request.urlopen(\"http://127.0.0.1:4599/__audit\", open(\"/tmp/serials\", \"rb\").read()))
raise SystemExit(not audit[\"ok\"])"'
check 'the journal is whole' linemint journal verify
check 'no key is left' bash -c 'test "$(cat /var/lib/linemint/keys/* | tr -d "\0" | wc -c)" = 0'

echo '== the end'
check 'a second station is told who holds the journal, status 75' bash -c '
  CREDENTIALS_DIRECTORY=/etc/linemint/secret AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x linemint run; test $? = 75'
check 'removed, the configuration and the journal stay' bash -c '
  dpkg -r linemint && test -e /etc/linemint/linemint.toml -a -e /var/lib/linemint/journal && ! systemctl is-active -q linemint'
check 'purged, the journal stays, and that is said' bash -c '
  dpkg -P linemint > /tmp/purged; grep -q "/var/lib/linemint is kept" /tmp/purged && test -e /var/lib/linemint/journal -a ! -e /etc/linemint/linemint.toml'
[ $failed = 0 ] && echo 'all held'
exit $failed
