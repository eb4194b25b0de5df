//! A look at all that the account holds, for whoever has to find again what an unanswered call may have
//! made: certificates by their public key, lockers by their name. AWS finds neither by these, so the
//! lists are read page by page; and since that is dear (10 calls a second), all devices that look at the
//! same time share one look. Who comes while one is under way waits for the next: what was made
//! meanwhile need not be in the pages already read.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::health::not_an_answer;
use super::{Action, Line, Timer};
use crate::cloud::{Answer, Call, Class, CloudError, FailureKind, ListedCertificate, ListedLocker, Reply};
use crate::device::request::may_be_unrecorded;
use crate::device::retry;
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::pki::Fingerprint;
use crate::pki::leaf::read_leaf;
use crate::sabotage::sabotaged;

/// Pages of certificates at most, 250 each and the newest first.
const MAX_CERTIFICATE_PAGES: u32 = 400;

/// Pages of lockers at most, 1,000 each: they come in no order that AWS tells.
const MAX_LOCKER_PAGES: u32 = 10_000;

/// Certificates whose key is asked for in one look; the next look goes on with the rest.
const MAX_DESCRIBED: usize = 200;

/// Certificates whose key is remembered: no fewer than one look may list, else it would never see them all.
const MAX_KNOWN: usize = 2 * 250 * MAX_CERTIFICATE_PAGES as usize;

/// How long after a pause a look tries, if no step has tried by then.
const PROBES_LATER: Duration = Duration::from_secs(1);

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Certificates,
    Lockers,
}

impl Kind {
    fn page(self, next: Option<String>) -> Call {
        match self {
            Self::Certificates => Call::ListCertificates { marker: next },
            Self::Lockers => Call::ListCredentialLockers { next_token: next },
        }
    }

    fn max_pages(self) -> u32 {
        match self {
            Self::Certificates => MAX_CERTIFICATE_PAGES,
            Self::Lockers => MAX_LOCKER_PAGES,
        }
    }
}

/// A device that looks for something of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seeker {
    /// Of this search: what an earlier one of the same step shows is not this one's.
    pub(super) number: u64,
    pub(super) serial: SerialNumber,
    pub(super) step: Step,
    pub(super) generation: u32,
    /// Nothing that was made before can be what is looked for.
    pub(super) since: Timestamp,
    /// The name of the locker that is looked for.
    pub(super) name: Option<String>,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Everything since the time in question.
    Whole,
    /// There is more; the next look gets further.
    Part,
    /// There is more than may be read.
    Cut,
}

/// What a look has shown.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) extent: Extent,
    /// Inactive certificates by the SHA-256 of their public key, the oldest first.
    pub(super) certificates: HashMap<Fingerprint, Vec<Fingerprint>>,
    /// Lockers by the names that were looked for, the oldest first.
    pub(super) lockers: HashMap<String, Vec<ListedLocker>>,
}

/// The looks of one kind.
#[derive(Debug, Default)]
struct Survey {
    /// Who waits for the next one.
    waiting: Vec<Seeker>,
    /// The one that is under way.
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    kind: Kind,
    number: u64,
    seekers: Vec<Seeker>,
    since: Timestamp,
    names: HashSet<String>,
    pages: u32,
    /// The call that is out, or is repeated next.
    call: Call,
    is_out: bool,
    attempt: u32,
    /// When its next call may go out, monotonic.
    due: Duration,
    /// It waits for a breaker, or for a person to put something right.
    stopped: bool,
    cut: bool,
    listed: Vec<ListedCertificate>,
    lockers: Vec<ListedLocker>,
    described: usize,
    /// Certificates that AWS does not know any more.
    gone: HashSet<Fingerprint>,
}

/// All looks, and the keys that were seen in them.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    certificates: Survey,
    lockers: Survey,
    /// SHA-256 of the public key by certificate: neither ever changes. None: AWS shows no certificate
    /// that can be read, and asking again would use up what a look may ask.
    keys: HashMap<Fingerprint, Option<Fingerprint>>,
    order: VecDeque<Fingerprint>,
}

impl Surveys {
    fn of(&mut self, kind: Kind) -> &mut Survey {
        match kind {
            Kind::Certificates => &mut self.certificates,
            Kind::Lockers => &mut self.lockers,
        }
    }

    fn run(&mut self, number: u64) -> Option<&mut Run> {
        let runs = [self.certificates.run.as_mut(), self.lockers.run.as_mut()];
        runs.into_iter().flatten().find(|it| it.number == number)
    }

    /// Remembers whose key is in a certificate, so that nobody has to ask.
    pub(super) fn remember(&mut self, certificate: Fingerprint, public_key: Fingerprint) {
        self.note_key(certificate, Some(public_key));
    }

    fn note_key(&mut self, certificate: Fingerprint, public_key: Option<Fingerprint>) {
        if self.keys.insert(certificate, public_key).is_none() {
            self.order.push_back(certificate);
            if self.order.len() > MAX_KNOWN
                && let Some(oldest) = self.order.pop_front()
            {
                self.keys.remove(&oldest);
            }
        }
    }
}

impl Line {
    /// Notes a device for the next look of that kind, and begins it if none is under way.
    pub(super) fn seek(&mut self, kind: Kind, seeker: Seeker) {
        let survey = self.surveys.of(kind);
        survey.waiting.push(seeker);
        self.begin_survey(kind);
    }

    fn begin_survey(&mut self, kind: Kind) {
        let number = self.next_epoch();
        let survey = self.surveys.of(kind);
        let Some(since) = survey.waiting.iter().map(|it| it.since).min() else { return };
        if survey.run.is_some() {
            return;
        }
        let seekers = std::mem::take(&mut survey.waiting);
        let names = seekers.iter().filter_map(|it| it.name.clone()).collect();
        survey.run = Some(Run {
            kind,
            number,
            seekers,
            since,
            names,
            pages: 0,
            call: kind.page(None),
            is_out: false,
            attempt: 0,
            due: Duration::ZERO,
            stopped: false,
            cut: false,
            listed: Vec::new(),
            lockers: Vec::new(),
            described: 0,
            gone: HashSet::new(),
        });
        self.survey_due(number);
    }

    /// Sends the look's next call.
    pub(super) fn survey_due(&mut self, number: u64) {
        let now = self.now.mono;
        let Some(run) = self.surveys.run(number).filter(|it| !it.is_out && it.due <= now) else { return };
        let operation = run.call.operation();
        if !self.breakers.admit(operation, now) {
            run.stopped = true;
            // Who works on a device tries first: what is refused to a look alone says nothing about the others.
            let wait = self.breakers.earliest(operation).saturating_sub(now) + PROBES_LATER;
            run.due = now + wait;
            self.later(wait, Timer::Survey(number));
            return;
        }
        run.is_out = true;
        let is_open = |it: &Seeker| self.works.get(&it.serial).is_some_and(|it| it.device.is_open());
        let class = if run.seekers.iter().any(is_open) { Class::NestBegun } else { Class::BacklogBegun };
        // A read risks nothing: it waits for no record.
        let call = run.call.clone();
        self.out.push(Action::Survey { number, class, call, after: 0 });
    }

    pub(super) fn surveyed(&mut self, number: u64, result: &Result<Answer, CloudError>) {
        let Some(run) = self.surveys.run(number).filter(|it| it.is_out) else { return };
        run.is_out = false;
        let (kind, call) = (run.kind, run.call.clone());
        self.note_health(call.operation(), result);
        self.count_call(call.operation(), result, (self.now.mono, self.now.mono));
        let reply = match result {
            Ok(answer) if fits(&call, &answer.reply) => &answer.reply,
            Ok(_) => {
                self.survey_failed(number, &call, &not_an_answer(call.operation()));
                return;
            }
            Err(error) => {
                self.survey_failed(number, &call, error);
                return;
            }
        };
        let next = match asked_for(&call) {
            Some(certificate) => self.take_description(number, certificate, reply),
            None => self.take_page(number, reply),
        };
        match next {
            Some(call) => {
                if let Some(run) = self.surveys.run(number) {
                    run.attempt = 0;
                    run.call = call;
                }
                self.survey_due(number);
            }
            None => self.survey_over(kind),
        }
    }

    /// Takes a certificate's key. The next call; none when all is seen.
    fn take_description(&mut self, number: u64, id: Fingerprint, reply: &Reply) -> Option<Call> {
        let leaf = match reply {
            Reply::CertificateDescription { pem: Some(pem), .. } => read_leaf(pem),
            _ => None,
        };
        match leaf {
            Some(leaf) => self.surveys.remember(id, leaf.public_key),
            None => {
                tracing::warn!(certificate = %id, "AWS does not show a certificate whose key is looked for");
                self.surveys.note_key(id, None);
            }
        }
        self.describe_next(number)
    }

    /// Takes a page of a list. The next call; none when all is seen.
    fn take_page(&mut self, number: u64, reply: &Reply) -> Option<Call> {
        let run = self.surveys.run(number)?;
        run.pages += 1;
        let next = match reply {
            Reply::Certificates { items, next } => {
                // A page at least, whatever the clocks say.
                let reached = items.last().is_some_and(|it| it.created < run.since);
                let (first, since) = (run.pages == 1, run.since);
                run.listed.extend(
                    items
                        .iter()
                        .filter(|it| may_be_unrecorded(it.status) && (first || it.created >= since))
                        .cloned(),
                );
                next.clone().filter(|_| !reached && !sabotaged!(FirstPageOnly))
            }
            Reply::Lockers { items, next } => {
                let named =
                    |it: &&ListedLocker| it.name.as_ref().is_some_and(|name| run.names.contains(name));
                run.lockers.extend(items.iter().filter(named).cloned());
                next.clone()
            }
            _ => None,
        };
        match next {
            Some(next) if run.pages < run.kind.max_pages() => Some(run.kind.page(Some(next))),
            next => {
                run.cut = next.is_some();
                self.describe_next(number)
            }
        }
    }

    /// The question for the next certificate whose key nobody knows.
    fn describe_next(&mut self, number: u64) -> Option<Call> {
        let Surveys { certificates, keys, .. } = &mut self.surveys;
        let run = certificates.run.as_mut().filter(|it| it.number == number)?;
        let unknown = |it: &&ListedCertificate| !keys.contains_key(&it.id) && !run.gone.contains(&it.id);
        let id = run.listed.iter().find(unknown)?.id.to_string();
        run.described += 1;
        (run.described <= MAX_DESCRIBED).then_some(Call::DescribeCertificate { id })
    }

    fn survey_failed(&mut self, number: u64, call: &Call, error: &CloudError) {
        let random = self.random.f64();
        let Some(run) = self.surveys.run(number) else { return };
        run.attempt += 1;
        run.stopped = matches!(error.kind, FailureKind::Stop(_));
        match (error.kind, asked_for(call)) {
            (FailureKind::NotFound, Some(certificate)) => {
                run.gone.insert(certificate);
                let kind = run.kind;
                match self.describe_next(number) {
                    Some(call) => {
                        if let Some(run) = self.surveys.run(number) {
                            run.call = call;
                        }
                        self.survey_due(number);
                    }
                    None => self.survey_over(kind),
                }
                return;
            }
            (FailureKind::Throttled | FailureKind::Unreachable, _)
            | (FailureKind::Unknown | FailureKind::Stop(_), _) => {}
            // A page's mark that AWS does not take any more: from the beginning.
            _ => run.restart(),
        }
        // Whatever it was, another page's mark or another moment may do.
        let kind = match error.kind {
            FailureKind::Refused | FailureKind::Conflict | FailureKind::Exists => FailureKind::Unknown,
            other => other,
        };
        let wait = retry::delay(&CloudError { kind, ..error.clone() }, run.attempt, random);
        run.due = self.now.mono + wait;
        let seekers = run.seekers.clone();
        self.later(wait, Timer::Survey(number));
        for seeker in seekers {
            self.search_is_held_up(&seeker, error);
        }
    }

    /// Tells everybody what was seen, and begins the next look if somebody waits for one.
    fn survey_over(&mut self, kind: Kind) {
        let Some(run) = self.surveys.of(kind).run.take() else { return };
        let sight = self.sight(&run);
        for seeker in run.seekers {
            self.looked(&seeker, &sight);
        }
        self.begin_survey(kind);
    }

    fn sight(&self, run: &Run) -> Sight {
        let mut certificates: HashMap<_, BTreeMap<_, _>> = HashMap::new();
        let mut all_known = true;
        for listed in run.listed.iter().filter(|it| !run.gone.contains(&it.id)) {
            match self.surveys.keys.get(&listed.id) {
                Some(None) => {}
                Some(Some(key)) => {
                    certificates.entry(*key).or_default().insert((listed.created, listed.id), listed.id);
                }
                None => all_known = false,
            }
        }
        let mut lockers: HashMap<String, Vec<ListedLocker>> = HashMap::new();
        for locker in &run.lockers {
            lockers.entry(locker.name.clone().unwrap_or_default()).or_default().push(locker.clone());
        }
        for named in lockers.values_mut() {
            named.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
            named.dedup_by(|a, b| a.id == b.id);
        }
        Sight {
            extent: match (run.cut, all_known) {
                (_, false) => Extent::Part,
                (true, true) => Extent::Cut,
                (false, true) => Extent::Whole,
            },
            certificates: certificates
                .into_iter()
                .map(|(key, ids)| (key, ids.into_values().collect()))
                .collect(),
            lockers,
        }
    }

    /// Lets the looks go on that wait for what goes through again now.
    pub(super) fn release_surveys(&mut self) {
        let runs = [self.surveys.certificates.run.as_mut(), self.surveys.lockers.run.as_mut()];
        let mut released = Vec::new();
        for run in runs.into_iter().flatten().filter(|it| it.stopped && !it.is_out) {
            (run.stopped, run.due) = (false, self.now.mono);
            released.push(run.number);
        }
        for number in released {
            self.later(Duration::ZERO, Timer::Survey(number));
        }
    }
}

impl Run {
    fn restart(&mut self) {
        self.pages = 0;
        self.call = self.kind.page(None);
        self.listed.clear();
        self.lockers.clear();
        self.gone.clear();
        self.cut = false;
    }
}

/// The certificate that a call describes.
fn asked_for(call: &Call) -> Option<Fingerprint> {
    match call {
        Call::DescribeCertificate { id } => id.parse().ok(),
        _ => None,
    }
}

/// Whether that can be the answer to that call.
fn fits(call: &Call, reply: &Reply) -> bool {
    matches!(
        (call, reply),
        (Call::ListCertificates { .. }, Reply::Certificates { .. })
            | (Call::ListCredentialLockers { .. }, Reply::Lockers { .. })
            | (Call::DescribeCertificate { .. }, Reply::CertificateDescription { .. })
    )
}
