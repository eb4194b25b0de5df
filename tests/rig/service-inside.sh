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
clients() { # asks forty times; says who was refused
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
        refused += client.getresponse().status != 200
    except OSError as error:
        print(error)
        refused += 1
    time.sleep(0.1)
raise SystemExit(refused)
P
}

echo "== a bare machine: $(. /etc/os-release; echo "$PRETTY_NAME"), $(systemctl --version | head -1)"
check 'the package installs' dpkg -i --force-depends /opt/linemint.deb
check 'nothing was started' bash -c '! systemctl is-active linemint linemint.socket'
check 'there is the user, and the group of those who may change something' bash -c 'id linemint && getent group linemint-admin'
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
Environment=AWS_ACCESS_KEY_ID=AKIDTEST AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true
T
systemctl daemon-reload
check 'the configuration is right' linemint check-config
check 'the units are sound' systemd-analyze verify --man=no /usr/lib/systemd/system/linemint.service /usr/lib/systemd/system/linemint.socket
systemd-run -q --unit rig-cloud linemint cloud simulate --listen 127.0.0.1:4599 --rtt 20
systemd-run -q --unit rig-fixture linemint fixture simulate --link /run/rig/nest-1 --nests 4 --count 50 --seed 1 --resend 500ms
until_true 10 test -e /run/rig/nest-1
chmod 666 "$(readlink -f /run/rig/nest-1)"
check 'it starts, and is ready' systemctl start linemint.socket linemint
check 'it says what it does' bash -c 'systemctl show -p StatusText --value linemint | grep -E "ready|degraded|starting"'
check 'it runs as its own user' bash -c 'test "$(ps -o user= -p "$(systemctl show -p MainPID --value linemint)")" = linemint'
check 'it starts at boot when it is told to' systemctl enable linemint
check 'devices pass' until_true 60 some_passed

echo '== who may change something'
useradd --no-create-home --groups linemint-admin ada
useradd --no-create-home bob
check 'a member of linemint-admin is let in' runuser -u ada -- linemint drain
check 'the log bears her number and her name' bash -c '
  journalctl -u linemint -o cat | grep "told through the API" | grep "uid=$(id -u ada)" | grep ada'
check 'and lets the station go on' runuser -u ada -- linemint resume
check 'a stranger cannot open the socket' bash -c 'runuser -u bob -- linemint status; test $? = 77'
chmod 666 /run/linemint/linemint.sock
check 'where he can, he may look' runuser -u bob -- linemint status
check 'and change nothing, status 77' bash -c 'runuser -u bob -- linemint drain; test $? = 77'
chmod 660 /run/linemint/linemint.sock

echo '== in mid-shift'
check 'kill -9: it comes back by itself' bash -c '
  systemctl kill -s KILL linemint; sleep 0.5
  for i in $(seq 100); do systemctl is-active -q linemint && exit 0; sleep 0.2; done; exit 1'
clients > /tmp/clients 2>&1 & asking=$!
check 'a restart with devices in flight' systemctl restart linemint
check 'clients at its socket wait meanwhile, none is refused' bash -c "wait $asking 2>/dev/null || tail --pid=$asking -f /dev/null; ! grep -q . /tmp/clients"
check 'an upgrade with devices in flight' bash -c 'dpkg -i --force-depends /opt/linemint.deb && systemctl is-active -q linemint'
check 'all 50 devices pass' until_true 180 passed 50
linemint device list --limit 1000 --json | tr -d ' ' | grep -o '"serial":"[A-Z0-9]*"' | cut -d'"' -f4 | sort -u > /tmp/serials
check 'the simulated account holds what it should' bash -c '
  test "$(wc -l < /tmp/serials)" = 50 && python3 -c "
import json, urllib.request
audit = json.load(urllib.request.urlopen(\"http://127.0.0.1:4599/__audit\", open(\"/tmp/serials\", \"rb\").read()))
raise SystemExit(not audit[\"ok\"])"'
check 'the journal is whole' linemint journal verify
check 'no key is left' bash -c 'test -z "$(ls -A /var/lib/linemint/keys)"'

echo '== the end'
check 'a second station is told who holds the journal, status 75' bash -c '
  CREDENTIALS_DIRECTORY=/etc/linemint/secret AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x linemint run; test $? = 75'
check 'removed, the configuration and the journal stay' bash -c '
  dpkg -r linemint && test -e /etc/linemint/linemint.toml -a -e /var/lib/linemint/journal && ! systemctl is-active -q linemint'
check 'purged, the journal stays, and that is said' bash -c '
  dpkg -P linemint > /tmp/purged; grep -q "/var/lib/linemint is kept" /tmp/purged && test -e /var/lib/linemint/journal -a ! -e /etc/linemint/linemint.toml'
[ $failed = 0 ] && echo 'all held'
exit $failed
