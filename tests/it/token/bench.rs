//! A station whose CA key is put into a SoftHSM token, and is nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Process, World, linemint, merged, put};

const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// Nothing else on the station reads like it.
pub(super) const PIN: &str = "pin-OF-line-3";

/// A world with a token. The station's module is the stern one, which locks itself.
pub(super) struct Bench {
    pub(super) world: World,
    /// The CA's private key as it was before it went into the token.
    pub(super) ca_key: String,
}

impl Bench {
    /// None, told aloud, where SoftHSM is not installed.
    pub(super) fn new(test: &str) -> Option<Self> {
        let module = MODULES.iter().map(Path::new).find(|it| it.exists());
        let tool = Command::new("softhsm2-util").arg("--version").output();
        let (Some(module), Ok(_)) = (module, tool) else {
            eprintln!("SKIPPED: {test}: SoftHSM 2 is not installed");
            return None;
        };
        let world = World::new("");
        let dir = world.path("token");
        fs::create_dir_all(dir.join("tokens")).unwrap();
        fs::create_dir(world.path("credentials")).unwrap();
        let conf = format!(
            "directories.tokendir = {}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n",
            dir.display()
        );
        put(&dir.join("softhsm2.conf"), conf.as_bytes());
        put(&dir.join("logins"), b"");
        build_stern(&dir.join("stern.so"));
        let bench = Self { ca_key: fs::read_to_string(world.path("ca/ca.key")).unwrap(), world };
        bench.softhsm(&["--init-token", "--free", "--label", "Line3", "--so-pin", "security-officer"]);
        let key = bench.world.path("ca/ca.key");
        let import = ["--import", key.to_str().unwrap(), "--token", "Line3", "--label", "ca", "--id", "01"];
        bench.softhsm(&import);
        fs::remove_file(&key).unwrap();
        bench.set_pin(PIN);
        bench.configure(
            "[pki]\nca_key = \"pkcs11:token=Line3;object=ca;id=%01\"\npkcs11_module = \"token/stern.so\"\n\
             pkcs11_pin = \"credential:pin\"\n",
        );
        put(&dir.join("module"), module.to_str().unwrap().as_bytes());
        Some(bench)
    }

    fn softhsm(&self, args: &[&str]) {
        let mut command = Command::new("softhsm2-util");
        let done = command.args(args).args(["--pin", PIN]).envs(self.env()).output().unwrap();
        assert!(done.status.success(), "{args:?}: {done:?}");
    }

    pub(super) fn configure(&self, over: &str) {
        let config = self.world.path("linemint.toml");
        let before = fs::read_to_string(&config).unwrap();
        put(&config, merged(&before, over).as_bytes());
    }

    /// What systemd hands to the service.
    pub(super) fn set_pin(&self, pin: &str) {
        let path = self.world.path("credentials/pin");
        put(&path, format!("{pin}\n").as_bytes());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn env(&self) -> [(&'static str, PathBuf); 4] {
        let module = fs::read_to_string(self.world.path("token/module")).unwrap_or_default();
        [
            ("SOFTHSM2_CONF", self.world.path("token/softhsm2.conf")),
            ("CREDENTIALS_DIRECTORY", self.world.path("credentials")),
            ("STERN_DIR", self.world.path("token")),
            ("STERN_MODULE", module.into()),
        ]
    }

    /// Starts the station as systemd would.
    pub(super) fn start(&mut self) {
        let set = self.env().map(|(name, value)| format!("export {name}='{}'", value.display()));
        self.world.start_after(&set.join("; "));
    }

    /// A start that does not come to anything: its status, and what it has said.
    pub(super) fn refused(&mut self) -> (i32, String) {
        self.start();
        let ended = self.world.ended();
        assert!(!ended.1.contains(PIN), "{}", ended.1);
        ended
    }

    /// What a command says that is told what the service is.
    pub(super) fn command(&self, args: &[&str]) -> (i32, String, String) {
        let config = self.world.path("linemint.toml");
        Process::run(linemint(args).args(["--config", config.to_str().unwrap()]).envs(self.env()))
    }

    /// How each login went that got as far as the token.
    pub(super) fn logins(&self) -> Vec<String> {
        let text = fs::read_to_string(self.world.path("token/logins")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Pulls the token out, or puts it back.
    pub(super) fn plug(&self, is_in: bool) {
        let (tokens, pulled) = (self.world.path("token/tokens"), self.world.path("token/pulled"));
        if is_in {
            fs::remove_dir(&tokens).unwrap();
            fs::rename(pulled, tokens).unwrap();
        } else {
            fs::rename(&tokens, pulled).unwrap();
            fs::create_dir(tokens).unwrap();
        }
    }

    /// From now on the token does so, or does not any more.
    pub(super) fn misbehave(&self, how: &str, on: bool) {
        let path = self.world.path("token").join(how);
        if on {
            put(&path, b"");
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

fn build_stern(to: &Path) {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/token/stern.c");
    let args = ["-std=gnu99", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"];
    let done = Command::new(compiler).args(args).arg(to).arg(source).arg("-ldl").output().unwrap();
    assert!(done.status.success(), "{done:?}");
}
