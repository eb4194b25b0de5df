//! What was made for a device: in the cloud, and on paper.

use serde::{Deserialize, Serialize};

use super::Device;

/// What the cloud holds for a device, as far as it is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// The locker's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locker: Option<String>,
    /// The locker's ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locker_arn: Option<String>,
    /// The managed thing's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_thing: Option<String>,
    /// The policy is there.
    pub policy: bool,
    /// The thing is there.
    pub thing: bool,
    /// The present certificate, which AWS has issued inactive, is active.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub active: bool,
    /// The policy is attached to the present certificate.
    pub attach_policy: bool,
    /// The thing is attached to the present certificate.
    pub attach_thing: bool,
    /// A resource of the device's own was there before: AWS knows it from an earlier life, or from a
    /// call whose answer was lost.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub met: bool,
    /// The present certificate was tried out as the product wants it (`verify`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub proved: bool,
    /// What else is attached to the thing has been looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub principals: bool,
}

impl Device {
    /// One that is owed already is not owed twice.
    pub(super) fn owe_label(&mut self) {
        self.label_due.get_or_insert(self.labels + 1);
    }

    /// The label that was owed is written, or is wanted no more.
    pub(super) fn labelled(&mut self, number: u32, written: bool) {
        self.label_due = None;
        if written {
            self.labels = number;
        }
    }
}
