//! What another configuration changes, and whether that takes a restart.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;

use super::{Config, Fixture};
use crate::line::Deliver;

/// What is different, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Takes effect while the station works.
    pub alive: Vec<String>,
    /// Takes a restart.
    pub restart: Vec<String>,
}

impl Config {
    /// What `new` changes.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Changes {
        let mut changes = Changes::default();
        changes.station(self, new);
        changes.fixtures(self, new);
        changes.products(self, new);
        changes
    }

    /// The fixtures of this configuration that `other` has not.
    #[must_use]
    pub fn fixtures_without(&self, other: &Self) -> Vec<&Fixture> {
        let there = |it: &&Fixture| !other.fixtures.iter().any(|known| known.name == it.name);
        self.fixtures.iter().filter(there).collect()
    }

    /// Where credentials are delivered to, if not by a fixture, and where labels go: what there are writers for.
    pub(crate) fn directories(&self) -> BTreeSet<&PathBuf> {
        let mut directories = BTreeSet::new();
        for product in self.products.values() {
            directories.extend(&product.labels);
            if let Deliver::Directory(path) = &product.deliver {
                directories.insert(path);
            }
        }
        directories
    }
}

/// All that a configuration consists of can be printed, and holds no secret: what prints alike is alike.
fn differs<T: Debug>(old: &T, new: &T) -> bool {
    format!("{old:?}") != format!("{new:?}")
}

impl Changes {
    fn alive<T: Debug>(&mut self, key: impl Into<String>, old: &T, new: &T) {
        if differs(old, new) {
            self.alive.push(key.into());
        }
    }

    fn restart<T: Debug>(&mut self, key: impl Into<String>, old: &T, new: &T) {
        if differs(old, new) {
            self.restart.push(key.into());
        }
    }

    fn station(&mut self, old: &Config, new: &Config) {
        self.restart("station.id", &old.station.id, &new.station.id);
        self.restart("station.report_dir and the like", &old.station.reports, &new.station.reports);
        self.restart("[journal]", &fixed(&old.journal), &fixed(&new.journal));
        self.restart("[api]", &old.api, &new.api);
        let account = |it: &Config| super::Aws { quotas: new.aws.quotas.clone(), ..it.aws.clone() };
        self.restart("[aws]", &account(old), &account(new));
        self.restart("[pki]", &old.pki, &new.pki);
        self.alive("[aws.quota]", &old.aws.quotas, &new.aws.quotas);
        let kept = |it: &Config| it.journal.keep_undelivered;
        self.alive("journal.keep_undelivered", &kept(old), &kept(new));
        self.alive("station.backlog", &old.station.backlog, &new.station.backlog);
        if old.station.messages != new.station.messages {
            self.restart.push("station.messages".to_owned());
        }
        self.alive("station.takt", &old.station.takt, &new.station.takt);
        let calendar =
            |it: &Config| (it.shifts.clone(), it.station.timezone_name.clone(), it.station.days_off.clone());
        self.alive("[[shift]]", &calendar(old), &calendar(new));
    }

    fn fixtures(&mut self, old: &Config, new: &Config) {
        for it in new.fixtures_without(old) {
            self.alive.push(format!("fixture {} is new", it.name));
        }
        for it in old.fixtures_without(new) {
            self.alive.push(format!("fixture {} is gone", it.name));
        }
        for (before, after) in pairs(old, new) {
            let port = |it: &Fixture| format!("{:?}", (&it.port, &it.driver, it.baud, it.dtr, it.rts));
            self.restart(format!("the port of fixture {}", before.name), &port(before), &port(after));
            let times = |it: &Fixture| (it.product.clone(), it.resend, it.answer_within, it.patience);
            self.alive(format!("fixture {}", before.name), &times(before), &times(after));
        }
    }

    fn products(&mut self, old: &Config, new: &Config) {
        for name in old.products.keys().filter(|it| !new.products.contains_key(*it)) {
            self.restart.push(format!("product {name} is gone"));
        }
        for (name, product) in &new.products {
            match old.products.get(name) {
                None => self.alive.push(format!("product {name} is new")),
                Some(before) => {
                    // A device in flight would pass by files where its fixture was to confirm, or the reverse.
                    self.restart(format!("deliver of product {name}"), &before.deliver, &product.deliver);
                    let deliver = before.deliver.clone();
                    self.alive(
                        format!("product {name}"),
                        before,
                        &super::Product { deliver, ..product.clone() },
                    );
                }
            }
        }
        for directory in new.directories().difference(&old.directories()) {
            self.restart.push(format!("the directory {}", directory.display()));
        }
    }
}

fn pairs<'a>(old: &'a Config, new: &'a Config) -> impl Iterator<Item = (&'a Fixture, &'a Fixture)> {
    old.fixtures.iter().filter_map(|it| Some((it, new.fixtures.iter().find(|other| other.name == it.name)?)))
}

/// What of `[journal]` is opened at the start.
fn fixed(journal: &super::Journal) -> impl Debug {
    (journal.dir.clone(), journal.min_free, journal.seal_key.clone())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Files;
    use crate::config::tests::PEM;

    struct Documents;

    impl Files for Documents {
        fn exists(&self, _: &Path) -> std::io::Result<bool> {
            Ok(true)
        }

        fn read(&self, path: &Path, _: u64) -> std::io::Result<Vec<u8>> {
            if path.extension().is_some_and(|it| it == "pem") {
                return Ok(PEM.to_vec());
            }
            Ok(br#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}"#.to_vec())
        }
    }

    const BASE: &str = r#"
[station]
id = "S1"
[journal]
dir = "journal"
[aws]
region = "eu-west-1"
[pki]
ca_certificate = "ca.pem"
ca_key = "ca.key"
[[fixture]]
name = "nest-1"
port = "/dev/ttyUSB0"
product = "lamp"
[product.lamp]
serial = "^[A-Z0-9]{4,20}$"
policy = { document = "lamp.json" }
certificate = {}
"#;

    fn changes(edit: impl Fn(String) -> String) -> Changes {
        let read = |text: &str| Config::parse(text, Path::new("/etc/linemint.toml"), &Documents).unwrap();
        read(BASE).changes(&read(&edit(BASE.to_owned())))
    }

    fn alive(edit: impl Fn(String) -> String) -> Vec<String> {
        let it = changes(edit);
        assert_eq!(it.restart, Vec::<String>::new());
        it.alive
    }

    fn restart(edit: impl Fn(String) -> String) -> Vec<String> {
        changes(edit).restart
    }

    #[test]
    fn the_same_in_other_words_changes_nothing() {
        assert_eq!(changes(|it| it), Changes::default());
        assert_eq!(changes(|it| format!("# a comment\n{it}")), Changes::default());
    }

    #[test]
    fn what_a_line_lead_changes_in_a_shift_is_taken_over_alive() {
        let more = |text: &'static str| move |it: String| it + text;
        assert_eq!(alive(more("[aws.quota]\ncreate-policy = 3\n")), ["[aws.quota]"]);
        assert_eq!(
            alive(more("[[shift]]\nname = \"early\"\nstart = \"06:00\"\nend = \"14:00\"\n")),
            ["[[shift]]"]
        );
        assert_eq!(alive(|it| it.replace("id = \"S1\"", "id = \"S1\"\ntakt = \"9s\"")), ["station.takt"]);
        assert_eq!(alive(|it| it.replace("{4,20}", "{4,21}")), ["product lamp"]);
        assert_eq!(
            alive(|it| it.replace("\"lamp\"\n[p", "\"lamp\"\npatience = \"9s\"\n[p")),
            ["fixture nest-1"]
        );
        let second = "[[fixture]]\nname = \"nest-2\"\nport = \"/dev/ttyUSB1\"\nproduct = \"lamp\"\n";
        assert_eq!(alive(more(second)), ["fixture nest-2 is new"]);
        let renamed = alive(|it| it.replace("nest-1", "nest-9"));
        assert_eq!(renamed, ["fixture nest-9 is new", "fixture nest-1 is gone"]);
    }

    #[test]
    fn what_is_opened_at_the_start_takes_a_restart() {
        assert_eq!(restart(|it| it.replace("\"S1\"", "\"S2\"")), ["station.id"]);
        assert_eq!(restart(|it| it.replace("\"journal\"", "\"other\"")), ["[journal]"]);
        assert_eq!(restart(|it| it.replace("eu-west-1", "eu-central-1")), ["[aws]"]);
        assert_eq!(restart(|it| it.replace("ca.key", "new.key")), ["[pki]"]);
        assert_eq!(restart(|it| it.replace("ttyUSB0", "ttyUSB7")), ["the port of fixture nest-1"]);
        assert_eq!(restart(|it| it + "[api]\nboard = \"127.0.0.1:0\"\n"), ["[api]"]);
        let other = |it: String| {
            it.replace("product.lamp", "product.bulb").replace("product = \"lamp\"", "product = \"bulb\"")
        };
        assert_eq!(restart(other), ["product lamp is gone"]);
        let to = |it: String| {
            it.replace("certificate = {}", "certificate = {}\ndeliver = \"directory\"\ndirectory = \"out\"")
        };
        assert_eq!(restart(to), ["deliver of product lamp", "the directory /etc/out"]);
    }

    const BULB: &str = r#"
[product.bulb]
serial = "^[A-Z0-9]{4,20}$"
policy = { document = "lamp.json" }
certificate = {}
deliver = "directory"
directory = "out"
labels = "labels"
"#;

    /// Both with another product, which has its directories already.
    fn beside(edit: impl Fn(String) -> String) -> Changes {
        let read = |text: &str| Config::parse(text, Path::new("/etc/linemint.toml"), &Documents).unwrap();
        let both = format!("{BASE}{BULB}");
        read(&both).changes(&read(&edit(both.clone())))
    }

    fn lamp(more: &'static str) -> impl Fn(String) -> String {
        move |it| it.replacen("certificate = {}", &format!("certificate = {{}}\n{more}"), 1)
    }

    #[test]
    fn a_directory_that_nobody_writes_into_yet_takes_a_restart_also_for_labels() {
        assert_eq!(restart(lamp("labels = \"paper\"")), ["the directory /etc/paper"]);
        let moved = |it: String| it.replace("labels = \"labels\"", "labels = \"paper\"");
        assert_eq!(beside(moved).restart, ["the directory /etc/paper"]);
        let alive = |edit: &dyn Fn(String) -> String| {
            let it = beside(edit);
            assert_eq!(it.restart, Vec::<String>::new());
            it.alive
        };
        // One thread writes into a directory whatever goes there.
        assert_eq!(alive(&lamp("labels = \"labels\"")), ["product lamp"]);
        assert_eq!(alive(&lamp("labels = \"out\"")), ["product lamp"]);
        assert_eq!(alive(&|it: String| it.replace("labels = \"labels\"\n", "")), ["product bulb"]);
    }

    #[test]
    fn where_a_products_credentials_go_takes_a_restart_even_if_the_directory_is_there() {
        let to = lamp("deliver = \"directory\"\ndirectory = \"out\"");
        let expected = Changes { alive: Vec::new(), restart: vec!["deliver of product lamp".to_owned()] };
        assert_eq!(beside(to), expected);
        let back = beside(|it| it.replace("deliver = \"directory\"\ndirectory = \"out\"\n", ""));
        assert_eq!(back.restart, ["deliver of product bulb"]);
        let both =
            beside(|it| lamp("deliver = \"directory\"\ndirectory = \"out\"\nmax_certificates = 2")(it));
        assert_eq!((both.alive, both.restart.len()), (vec!["product lamp".to_owned()], 1));
    }
}
