//! What a repair does otherwise than the making of a device: between the two somebody else may have been in the account.
//!
//! An attaching gives a live certificate what the policy allows, and the thing's name. So the policy's document and the
//! thing's owner are read right before it, by the step itself: what a look has seen may be hours old when a restart or
//! an outage lies between.

use crate::cloud::{Answer, Call, CloudError};
use crate::device::rules::PolicyRule;
use crate::fixture::FailCode;

use super::{Step, Subject, Verdict, never};

impl Subject<'_> {
    /// Whether the step makes something again that was there before.
    fn makes_again(&self, step: Step) -> bool {
        self.device.mend.as_ref().is_some_and(|it| it.steps.contains(&step))
    }

    /// What is read before something is attached once more. A policy that a person has made is attached by its name,
    /// as at first: nothing here says what it should be.
    pub(super) fn look_before(&self, step: Step) -> Option<Call> {
        if !self.makes_again(step) {
            return None;
        }
        match (step, &self.rules.policy) {
            (Step::AttachThing, _) => Some(Call::DescribeThing { name: self.thing_name() }),
            (Step::AttachPolicy, PolicyRule::Device { .. } | PolicyRule::Product { .. }) => {
                Some(Call::GetPolicy { name: self.policy_name()? })
            }
            _ => None,
        }
    }

    /// What that has shown; none of another call. It is attached only to what is as it should be.
    pub(super) fn judge_look_before(
        &self,
        step: Step,
        call: &Call,
        result: &Result<Answer, CloudError>,
    ) -> Option<Verdict> {
        let looks = matches!(
            (step, call),
            (Step::AttachPolicy, Call::GetPolicy { .. }) | (Step::AttachThing, Call::DescribeThing { .. })
        );
        let answer = result.as_ref().ok().filter(|_| looks)?;
        Some(match self.judge_answer(step, call, answer) {
            Verdict::Done { .. } => self.attaching(step).map_or(Verdict::Again, Verdict::Ask),
            other => other,
        })
    }

    /// A certificate that is to be registered once more and that is there, inactive. Who made it that may have had a
    /// reason, so that a repair leaves it.
    pub(super) fn left_inactive(&self, step: Step, id: &str) -> Option<Verdict> {
        let message = format!("certificate {id} is in AWS by now and inactive: it is left as it is");
        self.makes_again(step).then(|| never(FailCode::Conflict, &message))
    }
}
