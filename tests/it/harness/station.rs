//! A station with all that is around it, in a directory of its own.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use linemint::cloud::aws::{AwsCloud, AwsOptions};
use linemint::cloud::{Call, Cloud as _, Reply};
use linemint::control::client::{Client, ClientError};
use linemint::rehearsal::cloud::{Audit, AuditScope, CloudOptions, SimulatedCloud};
use linemint::rehearsal::fixture::{FixtureOptions, SimulatedFixture};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use toml::Table;

use super::gate::{Gate, Mode};
use super::{Deadline, PATIENCE, Process, TestFixture, linemint, linemint_after, put};

/// The configuration that a test begins with. `resend` is long, so that a slow machine sees no
/// copies.
pub(crate) const BASE: &str = r#"
[station]
id = "IT"
[journal]
dir = "state/journal"
min_free = "1MiB"
[api]
socket = "api.sock"
[aws]
region = "eu-west-1"
call_timeout = "5s"
[aws.quota]
preset = "unlimited"
[pki]
ca_certificate = "ca/ca.pem"
ca_key = "ca/ca.key"
[[fixture]]
name = "nest-1"
port = "nest-1.tty"
product = "thermostat"
resend = "30s"
[product.thermostat]
serial = "^[A-Z0-9]{12,50}$"
policy = { document = "policy.json" }
certificate = {}
"#;

/// How often what nobody announces is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// `base` with what `over` says instead: tables are merged, and arrays of tables element by element.
pub(crate) fn merged(base: &str, over: &str) -> String {
    let mut table: Table = base.parse().unwrap();
    merge(&mut table, over.parse().unwrap());
    table.to_string()
}

fn merge(into: &mut Table, over: Table) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(over)) => merge(into, over),
            (Some(toml::Value::Array(into)), toml::Value::Array(over)) => {
                for (index, value) in over.into_iter().enumerate() {
                    match (into.get_mut(index), value) {
                        (Some(toml::Value::Table(into)), toml::Value::Table(over)) => merge(into, over),
                        (Some(into), value) => *into = value,
                        (None, value) => into.push(value),
                    }
                }
            }
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// A directory with CA and configuration, a simulated AWS behind a gate, and a station to start.
pub(crate) struct World {
    dir: TempDir,
    cloud: SimulatedCloud,
    gate: Gate,
    station: Option<Process>,
    runtime: Runtime,
}

impl World {
    /// With [`BASE`] and `over`; nothing is started but AWS.
    pub(crate) fn new(over: &str) -> Self {
        Self::with_cloud(over, CloudOptions::default())
    }

    /// With another AWS. Its quotas are lifted.
    pub(crate) fn with_cloud(over: &str, options: CloudOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let options = CloudOptions { quotas: linemint::cloud::Quotas::unlimited(), ..options };
        let cloud = runtime.block_on(SimulatedCloud::start(options)).unwrap();
        let gate = Gate::new(cloud.addr(), runtime.handle().clone());
        let dir = tempfile::Builder::new().prefix("linemint-it-").tempdir().unwrap();
        let ca = dir.path().join("ca");
        let made = Process::run(&mut linemint(&["ca", "init", "--dir", ca.to_str().unwrap()]));
        assert_eq!(made.0, 0, "{}", made.2);
        put(&dir.path().join("policy.json"), include_bytes!("../../../config/policies/thermostat.json"));
        let url = gate.url();
        let endpoints =
            format!("[aws]\niot_endpoint = \"{url}\"\nmanaged_integrations_endpoint = \"{url}\"\n");
        put(&dir.path().join("linemint.toml"), merged(&merged(BASE, &endpoints), over).as_bytes());
        fs::create_dir(dir.path().join("state")).unwrap();
        Self { dir, cloud, gate, station: None, runtime }
    }

    /// A world with its station running and its fixture `nest-1` greeted.
    pub(crate) fn running(over: &str) -> (Self, TestFixture) {
        let mut world = Self::new(over);
        let mut fixture = world.fixture("nest-1");
        world.start();
        fixture.hello("nest-1", 1);
        (world, fixture)
    }

    /// Starts the station; its fixture `nest-1` is greeted and has presented `serial` under the id 1.
    pub(crate) fn presented(&mut self, serial: &str) -> TestFixture {
        let mut fixture = self.fixture("nest-1");
        self.start();
        fixture.hello("nest-1", 1);
        fixture.send(&json!({ "type": "unit", "id": 1, "serial": serial }));
        fixture.expect(&json!({ "type": "ack", "id": 1 }));
        fixture
    }

    /// A device's history comes to have these words.
    pub(crate) fn tells(&self, serial: &str, words: &str) {
        self.eventually("the sentence is in the device's history", |world| {
            let history =
                world.get(&format!("/v1/devices/{serial}")).map_err(|it| it.to_string())?.to_string();
            if history.contains(words) { Ok(()) } else { Err(history) }
        });
    }

    /// Has the product's devices connect to the simulated AWS before they pass.
    pub(crate) fn verify_by_tls(&self) {
        put(&self.path("roots.pem"), self.cloud.data_roots().as_bytes());
        let endpoint = self.cloud.data_endpoint().expect("devices connect somewhere");
        let over = format!(
            "[product.thermostat]\nverify = \"tls\"\nroots = \"roots.pem\"\nendpoint = \"{endpoint}\"\n"
        );
        let config = fs::read_to_string(self.path("linemint.toml")).unwrap();
        put(&self.path("linemint.toml"), merged(&config, &over).as_bytes());
    }

    /// Devices that the simulated AWS has let in.
    pub(crate) fn connections(&self) -> u64 {
        self.cloud.connections()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A fixture at the port that the configuration has for it.
    pub(crate) fn fixture(&self, name: &str) -> TestFixture {
        TestFixture::at(&self.path(&format!("{name}.tty")))
    }

    /// A simulated fixture in this process, which outlives the station.
    pub(crate) fn simulated(&self, options: FixtureOptions) -> SimulatedFixture {
        self.runtime.block_on(async { SimulatedFixture::start(options) }).unwrap()
    }

    /// What becomes of `future`, if it comes in time.
    pub(crate) fn within<T>(&self, span: Duration, future: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async { tokio::time::timeout(span, future).await.ok() })
    }

    /// The way to AWS.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn set_cloud(&mut self, mode: Mode) {
        self.gate.set(mode);
    }

    /// Starts the station.
    pub(crate) fn start(&mut self) {
        self.start_logging("info");
    }

    pub(crate) fn start_logging(&mut self, level: &str) {
        assert!(self.station.is_none(), "it runs already");
        let config = self.path("linemint.toml");
        let mut command = linemint(&["run", "--config", config.to_str().unwrap()]);
        self.station = Some(Process::start(command.env("LINEMINT_LOG", level)));
    }

    /// Starts the station in a process that a shell has prepared.
    pub(crate) fn start_after(&mut self, shell: &str) {
        assert!(self.station.is_none(), "it runs already");
        let config = self.path("linemint.toml");
        let mut command = linemint_after(shell, &["run", "--config", config.to_str().unwrap()]);
        self.station = Some(Process::start(command.env("LINEMINT_LOG", "info")));
    }

    /// Starts the station in a process that a shell has prepared, with an open file for that shell.
    pub(crate) fn start_handing(&mut self, file: OwnedFd, shell: &str) {
        assert!(self.station.is_none(), "it runs already");
        let config = self.path("linemint.toml");
        let mut command = linemint_after(shell, &["run", "--config", config.to_str().unwrap()]);
        self.station = Some(Process::start_reading(command.env("LINEMINT_LOG", "info"), file.into()));
    }

    /// A command with the configuration.
    pub(crate) fn command(&self, args: &[&str]) -> (i32, String, String) {
        let config = self.path("linemint.toml");
        Process::run(linemint(args).args(["--config", config.to_str().unwrap()]))
    }

    pub(crate) fn station(&mut self) -> &mut Process {
        self.station.as_mut().expect("the station runs")
    }

    /// Waits for its end; the exit status and the log.
    pub(crate) fn ended(&mut self) -> (i32, String) {
        let mut station = self.station.take().expect("the station runs");
        (station.wait(), station.stderr.text())
    }

    pub(crate) fn kill9(&mut self) {
        self.station.take().expect("the station runs").kill();
    }

    pub(crate) fn terminate(&mut self) {
        self.station().signal(Signal::TERM);
    }

    /// What the API answers.
    pub(crate) fn get(&self, target: &str) -> Result<Value, ClientError> {
        self.runtime.block_on(Client::new(self.path("api.sock")).get_json(target))
    }

    /// A client of the station's API.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.path("api.sock"))
    }

    /// Calls AWS as somebody else of the same account: not through the gate.
    pub(crate) fn aws(&self, calls: Vec<Call>) -> Vec<Reply> {
        let aws = self.other_client();
        self.runtime.block_on(async {
            let mut replies = Vec::with_capacity(calls.len());
            for call in calls {
                replies.push(aws.call(&call).await.unwrap_or_else(|error| panic!("{call:?}: {error}")).reply);
            }
            replies
        })
    }

    fn other_client(&self) -> AwsCloud {
        let options = AwsOptions {
            region: "eu-west-1".to_owned(),
            iot_endpoint: Some(self.cloud.url()),
            managed_integrations_endpoint: Some(self.cloud.url()),
            call_timeout: PATIENCE,
            account: None,
            ca_bundle: None,
        };
        let credentials = aws_credential_types::Credentials::new("AKIDOTHER", "test", None, None, "test");
        let _guard = self.runtime.enter();
        AwsCloud::with_credentials(options, credentials).unwrap()
    }

    /// The simulated AWS itself.
    pub(crate) fn cloud(&self) -> &SimulatedCloud {
        &self.cloud
    }

    /// Looks again until it is so; the status is painted some times a second.
    pub(crate) fn eventually<T: std::fmt::Debug>(
        &self,
        what: &str,
        look: impl FnMut(&Self) -> Result<(), T>,
    ) {
        self.eventually_within(PATIENCE, what, look);
    }

    /// The same for what takes its time.
    pub(crate) fn eventually_within<T: std::fmt::Debug>(
        &self,
        span: Duration,
        what: &str,
        mut look: impl FnMut(&Self) -> Result<(), T>,
    ) {
        let deadline = Deadline::after(span);
        loop {
            match look(self) {
                Ok(()) => return,
                Err(seen) if deadline.is_over() => panic!("{what} does not come true; it is {seen:?}"),
                Err(_) => self.runtime.block_on(async { tokio::time::sleep(LOOK_EVERY).await }),
            }
        }
    }

    /// Waits until what is at `pointer` of the answer to `target` is `wanted`.
    pub(crate) fn becomes(&self, target: &str, pointer: &str, wanted: &Value) {
        self.eventually(&format!("{target} {pointer} = {wanted}"), |world| {
            let answer = world.get(target).map_err(|error| error.to_string())?;
            match answer.pointer(pointer) {
                Some(it) if it == wanted => Ok(()),
                Some(it) => Err(it.to_string()),
                None => Err(answer.to_string()),
            }
        });
    }

    /// Waits until so many devices have passed and the last record of each is on disk: that its key is destroyed.
    /// While records come of a device, nobody holds it against the account.
    pub(crate) fn settles(&self, devices: usize) {
        let of_all = "/v1/report?since=2000-01-01T00:00:00Z";
        self.becomes(of_all, "/certificates/keys_destroyed", &Value::from(devices));
        self.becomes("/v1/status", "/counts/passed", &Value::from(devices));
    }

    pub(crate) fn audit(&self, serials: &[impl AsRef<str>]) -> Audit {
        self.cloud.audit(serials, AuditScope::default())
    }

    /// Panics if the account is not as it should be.
    pub(crate) fn assert_audit(&self, serials: &[impl AsRef<str>]) {
        let audit = self.audit(serials);
        assert!(audit.ok, "{:?}", audit.problems);
    }

    /// Every file below a directory of the world.
    pub(crate) fn files(&self, name: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        walk(&self.path(name), &mut files);
        files
    }

    /// Where sealed private keys lie: files of their own, and slots that are not empty.
    pub(crate) fn private_keys(&self) -> Vec<String> {
        let (slots, files): (Vec<_>, Vec<_>) = self
            .files("state/keys")
            .into_iter()
            .partition(|it| it.extension().is_some_and(|it| it == "slots"));
        let taken = |path: &PathBuf| {
            let bytes = fs::read(path).unwrap();
            let pages: Vec<bool> = bytes.chunks(4096).map(|it| it.iter().any(|it| *it != 0)).collect();
            pages
                .into_iter()
                .enumerate()
                .filter(|it| it.1)
                .map(|it| format!("slot {}", it.0))
                .collect::<Vec<_>>()
        };
        files.iter().map(|it| it.display().to_string()).chain(slots.iter().flat_map(taken)).collect()
    }

    /// Sends AWS a request of somebody else, signed well enough for the simulation.
    pub(crate) fn seed(&self, path: &str, body: &Value) {
        self.request("POST", path, "", body);
    }

    /// A call to AWS that was given up takes effect now: `certificate`, by its ARN, hangs on the policy and the thing
    /// of its serial number again.
    pub(crate) fn attach_late(&self, serial: &str, certificate: &str) {
        self.request(
            "PUT",
            &format!("/target-policies/{serial}"),
            "",
            &serde_json::json!({ "target": certificate }),
        );
        let principal = format!("x-amzn-principal: {certificate}\r\n");
        self.request("PUT", &format!("/things/{serial}/principals"), &principal, &serde_json::json!({}));
    }

    fn request(&self, verb: &str, path: &str, headers: &str, body: &Value) {
        use std::io::{Read as _, Write as _};
        let (address, body) = (self.cloud.addr(), body.to_string());
        let request = format!(
            "{verb} {path} HTTP/1.1\r\nhost: {address}\r\n{headers}connection: close\r\nauthorization: AWS4-HMAC-SHA256 \
             Credential=AKID/20261121/eu-west-1/iot/aws4_request, SignedHeaders=host;x-amz-date, \
             Signature={}\r\nx-amz-date: 20261121T120000Z\r\ncontent-length: {}\r\n\r\n{body}",
            "0".repeat(64),
            body.len()
        );
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for World {
    /// A test that fails shows what the station said.
    fn drop(&mut self) {
        if let Some(station) = self.station.as_ref().filter(|_| std::thread::panicking()) {
            eprintln!("the station's log:\n{}", station.stderr.text());
            eprintln!("its journal:");
            if let Ok(page) = self.get("/v1/events?limit=1000") {
                page["events"].as_array().into_iter().flatten().for_each(|it| eprintln!("{it}"));
            }
        }
    }
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}
