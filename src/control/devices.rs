//! `GET /v1/devices` and `GET /v1/devices/{serial}`.

use std::cell::RefCell;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::problem::{Refused, internal, not_found};
use super::reading::RulesOnce;
use super::report::{Reporting, span_of};
use super::server::Context;
use super::{DevicePage, DeviceStory, MAX_HISTORY, Problem, query, view};
use crate::device;
use crate::device::serial::SerialNumber;
use crate::journal::store::{MAX_SCAN, Store};
use crate::journal::{JournalError, Shelf as _};
use crate::shift::ShiftSpan;

/// The parameters of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    state: Option<String>,
    batch: Option<String>,
    shift: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

/// What a list is to hold.
#[derive(Debug)]
struct Wanted {
    state: Option<device::State>,
    batch: Option<String>,
    /// They were first presented in it.
    shift: Option<ShiftSpan>,
    after: Option<String>,
    limit: usize,
}

impl ListQuery {
    fn check(self, reporting: &Reporting) -> Result<Wanted, Refused> {
        let (calendar, now) = (&reporting.maker.calendar, reporting.clock.now().wall);
        let shift = query::given(self.shift).map(|it| span_of(calendar, &it, now)).transpose()?;
        let after = query::given(self.after).map(|it| query::serial("after", &it)).transpose()?;
        Ok(Wanted {
            state: query::state(self.state)?,
            batch: query::given(self.batch),
            shift,
            after: after.map(String::from),
            limit: query::limit(self.limit)?,
        })
    }
}

#[utoipa::path(
    get,
    path = "/v1/devices",
    operation_id = "listDevices",
    tag = "devices",
    params(
        ("state" = Option<String>, Query, description = "Only devices in this state: admitted, provisioning, delivering, passed, failed, quarantined or scrapped", pattern = "^(admitted|provisioning|delivering|passed|failed|quarantined|scrapped)?$"),
        ("batch" = Option<String>, Query, description = "Only devices of this batch"),
        ("shift" = Option<String>, Query, description = "Only devices first presented in this shift: `2026-11-22/early`, `current` or `last`"),
        ("after" = Option<String>, Query, description = "Begin after this serial number: `next` of the page before", pattern = "^[!-~]{0,128}$"),
        ("limit" = Option<u32>, Query, description = "At most so many, 1 to 1000; 100 if it is not given", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "A page of devices in the order of their serials", body = DevicePage),
        (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The shift has not begun yet", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The journal's disk does not keep up, or the station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(context): State<Arc<Context>>,
    parameters: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<DevicePage>, Refused> {
    let wanted = query::parameters(parameters)?.check(&context.reporting())?;
    let (page, newest) = context.reading.read("list devices", move |store| page(store, &wanted)).await?;
    context.reading.on_disk(newest).await?;
    Ok(Json(page))
}

/// A page, and the newest record that is in it.
fn page(store: &Store, wanted: &Wanted) -> Result<(DevicePage, u64), JournalError> {
    // Where the search stands: how many it has looked at, and the last of them.
    let seen = RefCell::new((0_usize, None));
    let mut found = store.devices(wanted.after.as_deref(), wanted.limit + 1, |it| {
        let mut seen = seen.borrow_mut();
        *seen = (seen.0 + 1, Some(it.serial.clone()));
        wanted.state.is_none_or(|state| it.state == state)
            && wanted.batch.as_ref().is_none_or(|batch| it.batch.as_ref() == Some(batch))
            && wanted.shift.as_ref().is_none_or(|shift| (shift.begin..shift.end).contains(&it.first_at()))
    })?;
    let next = if found.len() > wanted.limit {
        found.truncate(wanted.limit);
        found.last().map(|it| it.serial.clone())
    } else {
        let (looked_at, last) = seen.into_inner();
        last.filter(|_| looked_at >= MAX_SCAN)
    };
    let newest = found.iter().map(|it| it.last_seq).max().unwrap_or(0);
    let mut rules = RulesOnce::of(store);
    let devices = found.iter().map(|it| rules.view(it)).collect::<Result<_, _>>()?;
    Ok((DevicePage { devices, next: next.map(String::from) }, newest))
}

/// A device as it stands.
pub(super) async fn one(context: &Context, serial: SerialNumber) -> Result<super::Device, Refused> {
    let wanted = serial.clone();
    let read = move |store: &Store| {
        let Some(device) = store.device(&wanted)? else { return Ok(None) };
        Ok(Some((RulesOnce::of(store).view(&device)?, device.last_seq)))
    };
    let Some((device, seq)) = context.reading.read("read a device", read).await? else {
        return Err(unknown(&serial));
    };
    context.reading.on_disk(seq).await?;
    Ok(device)
}

fn unknown(serial: &SerialNumber) -> Refused {
    let sentence = format!("device {serial} is not in this station's journal");
    not_found(sentence).with_hint("serial numbers are compared to the letter")
}

#[utoipa::path(
    get,
    path = "/v1/devices/{serial}",
    operation_id = "showDevice",
    tag = "devices",
    params(("serial" = String, Path, description = "Its serial number, to the letter", pattern = "^[!-~]{1,128}$")),
    responses(
        (status = 200, description = "The device and what happened to it", body = DeviceStory),
        (status = 400, description = "It is no serial number", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This station does not know it", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The journal's disk does not keep up, or the station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(context): State<Arc<Context>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<DeviceStory>, Refused> {
    let serial = query::serial_in_path(path)?;
    let wanted = serial.clone();
    let read = move |store: &Store| {
        let Some(device) = store.device(&wanted)? else { return Ok(None) };
        let records = store.history(&wanted, MAX_HISTORY + 1)?;
        Ok(Some((RulesOnce::of(store).view(&device)?, records, device.last_seq)))
    };
    let Some((device, mut records, seq)) = context.reading.read("read a device", read).await? else {
        return Err(unknown(&serial));
    };
    context.reading.on_disk(records.last().map_or(seq, |it| it.seq.max(seq))).await?;
    let history_cut = records.len() > MAX_HISTORY;
    records.drain(..records.len().saturating_sub(MAX_HISTORY));
    let history = records.iter().map(view::event).collect::<Result<_, _>>();
    let history = history.map_err(|error| internal("show a device's history", &error))?;
    Ok(Json(DeviceStory { device, history, history_cut }))
}
