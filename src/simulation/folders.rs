//! The directory that credentials are delivered into, on a disk whose names are durable only when their directory
//! was synced; and what has to lie there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use super::cloud::der_of;
use super::disk::Ending;
use super::plan::STATION;
use super::world::{Event, World};
use crate::delivery::{Content, Folders, Manifest, folder_name};
use crate::device::Device;
use crate::device::rules::{ProductRules, RulesId};
use crate::durable_fs::FileError;
use crate::label::Label;
use crate::line::{Delivery, Input, Labelling};
use crate::pki::Fingerprint;
use crate::station::deliveries;

/// Where the products of the simulation are delivered, if they are.
pub(super) const DIRECTORY: &str = "out";

/// Where their labels go, if they get any.
pub(super) const LABELS: &str = "labels";

/// What every directory is in.
const ROOT: usize = 0;

/// Changes of names that are one to the file system: all of them or none is on disk.
type Change = Vec<(String, Option<usize>)>;

#[derive(Debug, Clone)]
enum Node {
    /// A file's content is synced when it has a name.
    File(Vec<u8>),
    Folder {
        names: BTreeMap<String, usize>,
        on_disk: BTreeMap<String, usize>,
        /// What is not on disk yet, in order.
        changes: Vec<Change>,
    },
}

impl Node {
    fn folder() -> Self {
        Self::Folder { names: BTreeMap::new(), on_disk: BTreeMap::new(), changes: Vec::new() }
    }
}

/// What a delivery runs into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// An attempt fails.
    Fails,
    /// The station ends there.
    Ends,
}

#[derive(Debug)]
struct Tree {
    nodes: Vec<Node>,
    /// After so many attempts comes trouble.
    trouble: Option<(usize, Trouble)>,
    ended: bool,
}

/// The folders.
#[derive(Debug)]
pub(super) struct SimFolders(RefCell<Tree>);

impl Default for SimFolders {
    fn default() -> Self {
        let mut tree = Tree { nodes: vec![Node::folder()], trouble: None, ended: false };
        tree.change(ROOT, vec![(DIRECTORY.to_owned(), Some(1))]).unwrap();
        tree.nodes.push(Node::folder());
        tree.change(ROOT, vec![(LABELS.to_owned(), Some(2))]).unwrap();
        tree.nodes.push(Node::folder());
        tree.sync(ROOT);
        Self(RefCell::new(tree))
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// Which names a directory has: those that a process sees, or those that are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Now,
    OnDisk,
}

impl Tree {
    fn names(&self, at: usize, view: View) -> io::Result<&BTreeMap<String, usize>> {
        match (&self.nodes[at], view) {
            (Node::Folder { names, .. }, View::Now) => Ok(names),
            (Node::Folder { on_disk, .. }, View::OnDisk) => Ok(on_disk),
            (Node::File(_), _) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path, view: View) -> io::Result<usize> {
        path.components().try_fold(ROOT, |at, part| match part {
            Component::Normal(name) => {
                let name = name.to_str().ok_or_else(missing)?;
                self.names(at, view)?.get(name).copied().ok_or_else(missing)
            }
            _ => Ok(at),
        })
    }

    /// The directory that names a path, and the name.
    fn place(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().and_then(|it| it.to_str()).ok_or_else(missing)?;
        Ok((self.find(path.parent().unwrap_or(Path::new("")), View::Now)?, name.to_owned()))
    }

    fn change(&mut self, at: usize, change: Change) -> io::Result<()> {
        let Node::Folder { names, changes, .. } = &mut self.nodes[at] else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        apply(names, &change);
        changes.push(change);
        Ok(())
    }

    fn sync(&mut self, at: usize) {
        if let Node::Folder { names, on_disk, changes } = &mut self.nodes[at] {
            on_disk.clone_from(names);
            changes.clear();
        }
    }

    /// One more attempt to change something.
    fn attempt(&mut self) -> io::Result<()> {
        if self.ended {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let Some((left, trouble)) = self.trouble else { return Ok(()) };
        if left > 0 {
            self.trouble = Some((left - 1, trouble));
            return Ok(());
        }
        self.trouble = None;
        self.ended = trouble == Trouble::Ends;
        Err(io::ErrorKind::StorageFull.into())
    }

    fn put(&mut self, path: &Path, node: Node) -> io::Result<()> {
        self.attempt()?;
        let (at, name) = self.place(path)?;
        if self.names(at, View::Now)?.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.nodes.push(node);
        let new = self.nodes.len() - 1;
        self.change(at, vec![(name, Some(new))])
    }

    fn file(&self, path: &Path, view: View) -> io::Result<&[u8]> {
        match &self.nodes[self.find(path, view)?] {
            Node::File(content) => Ok(content),
            Node::Folder { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
    for (name, node) in change {
        match node {
            Some(node) => drop(names.insert(name.clone(), *node)),
            None => drop(names.remove(name)),
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    |source| FileError::Io { attempt: "write", path, source }
}

impl Folders for SimFolders {
    fn is_dir(&self, path: &Path) -> bool {
        let tree = self.0.borrow();
        tree.find(path, View::Now).is_ok_and(|at| tree.names(at, View::Now).is_ok())
    }

    fn is_taken(&self, path: &Path) -> bool {
        self.0.borrow().find(path, View::Now).is_ok()
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let tree = self.0.borrow();
        Ok(tree.names(tree.find(directory, View::Now)?, View::Now)?.keys().cloned().collect())
    }

    fn read(&self, path: &Path) -> io::Result<Content> {
        Ok(Content::new(self.0.borrow().file(path, View::Now)?.to_vec()))
    }

    fn make(&self, directory: &Path) -> io::Result<()> {
        self.0.borrow_mut().put(directory, Node::folder())
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), FileError> {
        self.0.borrow_mut().put(path, Node::File(content.to_vec())).map_err(failed(path))
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), FileError> {
        let mut tree = self.0.borrow_mut();
        let mut replace = || {
            tree.attempt()?;
            let (at, name) = tree.place(path)?;
            tree.nodes.push(Node::File(content.to_vec()));
            let new = tree.nodes.len() - 1;
            tree.change(at, vec![(name, Some(new))])?;
            // The name is there, and its sync may fail.
            tree.attempt()?;
            tree.sync(at);
            Ok(())
        };
        replace().map_err(failed(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.0.borrow_mut();
        tree.attempt()?;
        let ((at, old), (there, new)) = (tree.place(from)?, tree.place(to)?);
        let node = *tree.names(at, View::Now)?.get(&old).ok_or_else(missing)?;
        if at == there {
            return tree.change(at, vec![(old, None), (new, Some(node))]);
        }
        // Harder than file systems are: each of the two directories may be on disk without the other.
        tree.change(at, vec![(old, None)])?;
        tree.change(there, vec![(new, Some(node))])
    }

    fn sync(&self, directory: &Path) -> Result<(), FileError> {
        let mut tree = self.0.borrow_mut();
        let at = tree.attempt().and_then(|()| tree.find(directory, View::Now)).map_err(failed(directory))?;
        tree.sync(at);
        Ok(())
    }

    fn remove(&self, directory: &Path) -> io::Result<()> {
        let mut tree = self.0.borrow_mut();
        let (at, name) = tree.place(directory)?;
        if !tree.names(at, View::Now)?.contains_key(&name) {
            return Err(missing());
        }
        tree.attempt()?;
        tree.change(at, vec![(name, None)])
    }
}

impl SimFolders {
    /// After so many attempts comes trouble, unless there are fewer.
    pub(super) fn expect(&self, trouble: Option<(usize, Trouble)>) {
        self.0.borrow_mut().trouble = trouble;
    }

    /// Whether the station has ended in the middle of a delivery.
    pub(super) fn has_ended(&self) -> bool {
        self.0.borrow().ended
    }

    /// The station ends: of the changes of each directory that are not on disk the first few stay.
    pub(super) fn crash(&self, ending: Ending, rng: &mut fastrand::Rng) {
        let mut tree = self.0.borrow_mut();
        (tree.ended, tree.trouble) = (false, None);
        if ending == Ending::Kill {
            return;
        }
        for node in &mut tree.nodes {
            if let Node::Folder { names, on_disk, changes } = node
                && !changes.is_empty()
            {
                let kept = rng.usize(..=changes.len());
                changes.drain(..).take(kept).for_each(|it| apply(on_disk, &it));
                names.clone_from(on_disk);
            }
        }
    }

    /// The certificate whose files lie there for a serial number, as a process sees it.
    pub(super) fn holds(&self, serial: &str) -> Option<Fingerprint> {
        let tree = self.0.borrow();
        let manifest = tree.file(&folder(serial).join("manifest.json"), View::Now).ok()?;
        serde_json::from_slice::<Manifest>(manifest).ok()?.fingerprint.parse().ok()
    }

    /// What lies on disk for a serial number has to be that certificate's, whole; a hash of it.
    pub(super) fn check(&self, serial: &str, fingerprint: Fingerprint) -> Result<Fingerprint, String> {
        let tree = self.0.borrow();
        let folder = folder(serial);
        let read = |name: &str| {
            tree.file(&folder.join(name), View::OnDisk)
                .map_err(|it| format!("{name} of {serial} is not on disk: {it}"))
        };
        let manifest: Manifest =
            serde_json::from_slice(read("manifest.json")?).map_err(|it| it.to_string())?;
        if manifest.serial != serial || manifest.fingerprint != fingerprint.to_string() {
            return Err(format!("delivered for {serial} is {} of {}", manifest.fingerprint, manifest.serial));
        }
        let mut all = Vec::new();
        for (name, sha256) in &manifest.files {
            let content = read(name)?;
            if Fingerprint::of(content).to_string() != *sha256 {
                return Err(format!("{name} of {serial} is not what the manifest says"));
            }
            if name.ends_with("certificate.pem") {
                let pem = String::from_utf8_lossy(content);
                if Fingerprint::of(&der_of(&pem)) != fingerprint {
                    return Err(format!("{name} of {serial} is another certificate"));
                }
            }
            all.extend_from_slice(content);
        }
        if !manifest.files.keys().any(|it| it.ends_with("certificate.pem")) {
            return Err(format!("no certificate was delivered for {serial}"));
        }
        Ok(Fingerprint::of(&all))
    }

    /// Each device that the journal says has labels has just these, whole and on disk.
    pub(super) fn audit_labels<'a>(
        &self,
        devices: impl Iterator<Item = &'a Device>,
        rules: &BTreeMap<RulesId, ProductRules>,
    ) -> Result<(), String> {
        let tree = self.0.borrow();
        let mut wanted = BTreeMap::new();
        for device in devices {
            let serial = device.serial.to_string();
            if device.label_due.is_some() {
                return Err(format!("{serial} waits for its label still"));
            }
            let article = rules.get(&device.rules).and_then(|it| it.article.clone());
            for number in 1..=device.labels {
                let (product, serial) = (device.product.clone(), serial.clone());
                let name = folder_name(&serial)
                    + &(if number > 1 { format!(".copy-{number}") } else { String::new() });
                let label = Label { serial, product, article: article.clone(), number }
                    .render()
                    .map_err(|it| it.to_string())?;
                wanted.insert(format!("{name}.svg"), label.svg);
                wanted.insert(format!("{name}.zpl"), label.zpl);
            }
        }
        let there = tree.names(2, View::OnDisk).map_err(|it| it.to_string())?;
        if !there.keys().eq(wanted.keys()) {
            let (there, wanted): (Vec<_>, Vec<_>) = (there.keys().collect(), wanted.keys().collect());
            return Err(format!("of labels there are {there:?} and not {wanted:?}"));
        }
        for (name, content) in wanted {
            let found =
                tree.file(&Path::new(LABELS).join(&name), View::OnDisk).map_err(|it| it.to_string())?;
            if found != content.as_bytes() {
                return Err(format!("the label {name} says something else"));
            }
        }
        Ok(())
    }

    /// Every folder is one device's, and nothing half done is left.
    pub(super) fn audit(&self, serials: &[String]) -> Result<(), String> {
        let names = self.names(Path::new(DIRECTORY)).map_err(|it| it.to_string())?;
        let known: Vec<String> = serials.iter().map(|it| folder_name(it)).collect();
        if let Some(name) = names.iter().find(|it| !known.contains(it)) {
            return Err(format!("{name} is in the directory"));
        }
        for folder in &names {
            let inside = self.names(&Path::new(DIRECTORY).join(folder)).map_err(|it| it.to_string())?;
            if let Some(name) = inside.iter().find(|it| it.starts_with('.')) {
                return Err(format!("{name} is in {folder}"));
            }
        }
        Ok(())
    }
}

impl World {
    /// As the deliveries' thread does.
    pub(super) fn deliver(&mut self, delivery: Delivery) -> Result<(), String> {
        self.put(|it| deliveries::carry_out(delivery, &it.keys, STATION, &it.folders))
    }

    /// The same, of a label.
    pub(super) fn put_label(&mut self, label: Labelling) -> Result<(), String> {
        self.put(|it| deliveries::write_label(label, &it.folders))
    }

    /// At a file system on which it may fail or end anywhere.
    fn put(&mut self, put: impl FnOnce(&Self) -> Input) -> Result<(), String> {
        let number = self.lives;
        let fails = self.happens(5 * self.plan.rates.disk);
        let ends = !self.healed && self.crashes_left > 0 && self.rng.u8(..6) == 0;
        let at = self.rng.usize(..10);
        let trouble = if ends { Some(Trouble::Ends) } else { fails.then_some(Trouble::Fails) };
        self.folders.expect(trouble.map(|it| (at, it)));
        let input = put(self);
        self.folders.expect(None);
        self.tell(|| format!("a delivery, {trouble:?} at attempt {at}: {input:?}"));
        if self.folders.has_ended() {
            self.crashes_left -= 1;
            let ending = if self.rng.bool() { Ending::PowerCut } else { Ending::Kill };
            self.crash(ending);
            return Ok(());
        }
        let takes = self.millis(5);
        self.after(takes, Event::Input(number, input));
        Ok(())
    }

    /// What lies in the directory is what a unit is given.
    pub(super) fn look_into_folders(&mut self) {
        if self.plan.delivers {
            for piece in &mut self.pieces {
                piece.stored = self.folders.holds(&piece.serial);
            }
        }
    }
}

fn folder(serial: &str) -> std::path::PathBuf {
    Path::new(DIRECTORY).join(folder_name(serial))
}
