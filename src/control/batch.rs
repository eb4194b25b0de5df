//! Batches on the wire.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Counts;
use crate::batch;
use crate::device::State;
use crate::device::operator::Operator;

/// A batch as it stands. `seen` is `expected - missing + extra`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Batch {
    /// Its id.
    pub id: String,
    /// What is made.
    pub product: String,
    /// `open` or `closed`.
    pub state: String,
    /// Whether serial numbers that are not on its list are refused.
    pub strict: bool,
    /// Whether it has a list of serial numbers.
    pub listed: bool,
    /// Devices that are ordered.
    pub expected: u64,
    /// Devices that were presented while it was open.
    pub seen: u64,
    /// Ordered devices that were not.
    pub missing: u64,
    /// Devices beyond the order.
    pub extra: u64,
    /// Its devices by state, extra ones among them.
    pub counts: Counts,
    /// Fixtures that present its product while it is open, whatever the configuration says of them.
    pub fixtures: Vec<String>,
    /// When it was opened.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// Who has opened it.
    pub opened_by: By,
    /// When it was opened again, the newest time.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub reopened_at: Option<Timestamp>,
    /// Who has opened it again.
    pub reopened_by: Option<By>,
    /// When it was closed; `null` while it is open.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed_at: Option<Timestamp>,
    /// Who has closed it.
    pub closed_by: Option<By>,
}

/// Who has ordered something, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct By {
    /// The user's number.
    pub uid: u32,
    /// The user's name.
    pub name: String,
    /// Why, where it was said.
    pub reason: Option<String>,
}

/// A page of batches in the order of their ids: `GET /v1/batches`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchPage {
    /// The batches.
    pub batches: Vec<Batch>,
    /// What the next page is to begin `after`; `null` if this is the last.
    pub next: Option<String>,
}

/// What a batch is opened with: the body of `POST /v1/batches`, and, without `count`, the parameters of one whose
/// body is a list of serial numbers. Without `product` and `count` one that was closed is opened again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NewBatch {
    /// Its id.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub id: String,
    /// What is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Devices that are ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Fixtures that are to present its product.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixtures: Vec<String>,
    /// Why, in one line; has to be said when it is opened again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        max_length = 200,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\x00-\\x20\\x7f-\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000][^\\x00-\\x1f\\x7f-\\x9f]*$"
    )]
    pub reason: Option<String>,
}

/// Why a batch is closed: the body of `POST /v1/batches/{id}/close`; an empty one is `{}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Closing {
    /// Why, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        max_length = 200,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\x00-\\x20\\x7f-\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000][^\\x00-\\x1f\\x7f-\\x9f]*$"
    )]
    pub reason: Option<String>,
}

/// A serial number on a batch's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listed {
    /// The serial number.
    pub serial: String,
    /// Where its device stands; `null` if it was never presented.
    pub state: Option<State>,
    /// Whether its device belongs to the batch: one that was presented earlier belongs to another, or to none.
    pub here: bool,
}

/// A page of a batch's list in ascending order: `GET /v1/batches/{id}/serials`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListedPage {
    /// The serial numbers. May be fewer than were asked for, even none, where more follow.
    pub serials: Vec<Listed>,
    /// What the next page is to begin `after`; `null` if this is the last.
    pub next: Option<String>,
}

impl From<Operator> for By {
    fn from(it: Operator) -> Self {
        let reason = Some(it.reason).filter(|it| !it.is_empty());
        Self { uid: it.uid, name: it.name, reason }
    }
}

impl From<batch::Batch> for Batch {
    fn from(it: batch::Batch) -> Self {
        let (seen, missing, extra) = (it.seen(), it.missing(), it.extra());
        let counts: std::collections::BTreeMap<State, u64> =
            State::ALL.map(|state| (state, it.tally.of(state))).into_iter().collect();
        let (reopened_at, reopened_by) = it.reopened.map(|(at, by)| (at, by.into())).unzip();
        let (closed_at, closed_by) = it.closed.map(|(at, by)| (at, by.into())).unzip();
        Self {
            id: it.terms.batch.into(),
            product: it.terms.product,
            state: if closed_at.is_none() { "open" } else { "closed" }.to_owned(),
            strict: it.terms.strict,
            listed: it.list.is_some(),
            expected: it.terms.expected,
            seen,
            missing,
            extra,
            counts: (&counts).into(),
            fixtures: it.terms.fixtures,
            opened_at: it.opened_at,
            opened_by: it.opened_by.into(),
            reopened_at,
            reopened_by,
            closed_at,
            closed_by,
        }
    }
}
