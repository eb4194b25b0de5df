//! The whole station in a simulated world, in one thread, from one number.
//!
//! The line, the frame codec both ways, the log's writer, reader and judge of torn ends, the fold into the
//! index, the holding back, the key handling and the sweep are the real ones. Around them stand a cable, a
//! disk, AWS, fixtures and people ([`cable`], [`disk`], [`cloud`], [`jig`], [`people`], [`orders`]) whose every delay,
//! loss, error and whim comes from the seed; and crashes, above all where something is under way. When the
//! time of trouble is over, all is well again, every unit is brought to its end, and what the account, the
//! units, the journal and the key files hold is audited ([`audit`]). What must hold always is checked at
//! every promise and every effect.
//!
//! A seed that fails names itself and the command that tells its story; `docs/testing.md` has both.

mod audit;
mod cable;
mod calls;
mod cloud;
mod disk;
mod folders;
mod index;
mod issued;
mod issuer;
mod jig;
mod orders;
mod people;
mod plan;
mod station;
mod tests;
mod world;
mod x509;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use self::plan::Plan;
use self::world::{Event, Stats, World};
use crate::device::{Device, State};
use crate::journal::is_pending;
use crate::line::Input;

/// How long all may take to come to its end once nothing goes wrong any more.
const TO_THE_END: Duration = Duration::from_secs(1_800);

/// How long retiring old certificates may take, which is tried again seldom.
const TO_RETIRE: Duration = Duration::from_secs(4 * 3_600);

/// What has been found, and what happened until then.
#[derive(Debug)]
struct Found {
    what: String,
    story: Vec<String>,
}

/// Runs a plan to its end, and audits it. A panic is something found like any other.
fn run(plan: Plan, tells: bool) -> Result<Stats, Found> {
    let mut world = World::new(plan, tells);
    let lived = catch_unwind(AssertUnwindSafe(|| live(&mut world))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or_default()))
    });
    lived.map_err(|what| Found { what, story: world.story.take().unwrap_or_default() })?;
    Ok(world.stats)
}

fn live(world: &mut World) -> Result<(), String> {
    world.after(Duration::ZERO, Event::Start);
    world.after(Duration::from_millis(700), Event::Operator);
    for piece in 0..world.pieces.len() {
        world.bring(piece, 4_000);
    }
    let begin = world.now;
    let trouble = begin + world.plan.trouble;
    world.run(trouble, |_| false)?;
    world.healed = true;
    world.tell(|| "all is well from now on".to_owned());
    for input in [people::resume(), Input::Gate(None)] {
        world.after(Duration::ZERO, Event::Input(world.lives, input));
    }
    let is_over = |world: &mut World| world.pieces.iter().all(|it| it.is_out) && world.life.is_some();
    if !is_over(world) && !world.run(trouble + TO_THE_END, is_over)? {
        let left: Vec<_> = world.pieces.iter().filter(|it| !it.is_out).map(|it| &it.serial).collect();
        return Err(format!("{left:?} never come to their end"));
    }
    // No fixture is needed for what is left, and two that idle for hours would take long.
    for fixture in 0..world.plan.fixtures {
        world.cables[fixture].epoch += 1;
        world.cables[fixture].is_open = false;
        world.jigs[fixture].up_from = Duration::MAX / 2;
        world.after(Duration::ZERO, Event::Input(world.lives, Input::PortLost(fixture)));
    }
    let until = world.now + TO_RETIRE;
    let settled = Duration::from_secs(5);
    let quiet_from = world.now + settled;
    world.run(until, |world| world.now >= quiet_from && world.is_at_rest())?;
    world.audit()
}

impl World {
    /// Whether the station has nothing left to do.
    fn is_at_rest(&self) -> bool {
        let Some(life) = &self.life else { return false };
        let excused =
            |serial: &str| self.truth.excused.contains(serial) || self.truth.foreign.contains(serial);
        life.index.devices.values().all(|it| !is_pending(it) || excused(it.serial.as_str()))
    }

    fn audit(&mut self) -> Result<(), String> {
        self.look_into_folders();
        let Some(life) = &self.life else { return Err("the station is down".to_owned()) };
        let mut stored: std::collections::BTreeMap<_, _> =
            self.pieces.iter().map(|it| (it.serial.clone(), it.stored)).collect();
        if let Some(twin) = &self.plan.twin {
            stored.remove(twin);
        }
        let world = audit::World {
            truth: &self.truth,
            index: &life.index,
            account: &self.account,
            keys: &self.keys,
            stored,
        };
        world.audit()?;
        if self.plan.delivers {
            self.folders.audit(&self.plan.serials)?;
            let Some(life) = &self.life else { return Err("the station is down".to_owned()) };
            for (device, live) in life.index.devices.values().filter_map(|it| Some((it, it.fingerprint()?))) {
                if device.state == State::Passed {
                    self.truth.delivers(device.serial.as_str(), live, &self.folders)?;
                }
            }
        }
        if let (true, Some(life)) = (self.plan.labels, &self.life) {
            let devices = || life.index.devices.values();
            let passed = |it: &&Device| it.passed_at.is_some() && it.state != State::Scrapped;
            if let Some(device) = devices().filter(passed).find(|it| it.labels == 0) {
                return Err(format!("{} has passed and has no label", device.serial));
            }
            self.folders.audit_labels(devices(), &life.index.rules)?;
        }
        let Some(life) = &self.life else { return Err("the station is down".to_owned()) };
        for (device, id) in life.index.devices.values().filter_map(|it| Some((it, it.done.locker.as_ref()?)))
        {
            let name = self.account.lockers.get(id).map(String::as_str);
            let its = name.is_none_or(|it| it == device.serial.as_str() || it == plan::BATCH_LOCKER);
            if !its || name.is_none() && device.state == State::Passed {
                return Err(format!("{} has the locker {name:?}", device.serial));
            }
        }
        self.check_log()?;
        use base64::Engine as _;
        let secret = base64::engine::general_purpose::STANDARD.encode(issuer::SECRET);
        if self.disk.holds(secret.as_bytes()) || self.disk.holds(issuer::SECRET) {
            return Err("a private key is in the log".to_owned());
        }
        if let Some((seq, hash)) = self.end_of_log() {
            let digits = u64::from_str_radix(&hash.to_string()[..16], 16).unwrap();
            self.stats.hash ^= digits.rotate_left(17).wrapping_add(seq);
        }
        Ok(())
    }
}
