//! What is attached to a thing: all pages of it, since a certificate of an earlier life may stand on any.

use super::Line;
use crate::cloud::{Answer, Call, CloudError, Reply};
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Verdict};
use crate::sabotage::sabotaged;

/// Certificates at one thing that are retired. AWS documents no limit; nobody makes so many.
const MAX_PRINCIPALS: usize = 2_000;

/// Pages that are read; AWS may send short ones, and empty ones.
const MAX_PAGES: usize = 100;

/// The pages that are read so far.
#[derive(Debug, Default)]
pub(super) struct Pages {
    count: usize,
    arns: Vec<String>,
}

impl Line {
    /// Takes a page. The answer that all pages come to; none if the next one is asked for first.
    pub(super) fn gathered(
        &mut self,
        serial: &SerialNumber,
        call: &Call,
        result: &Result<Answer, CloudError>,
    ) -> Option<Result<Answer, CloudError>> {
        let (
            Call::ListThingPrincipals { thing, next_token },
            Ok(Answer { reply: Reply::Principals { arns, next }, request_id }),
        ) = (call, result)
        else {
            return Some(result.clone());
        };
        let work = self.works.get_mut(serial)?;
        let still_wanted = work.still_wants(Step::Principals);
        if next.is_some() && !still_wanted {
            // Half a list says nothing: it is looked at again when the device is released.
            self.note_health(call.operation(), result);
            self.unwanted(serial, Step::Principals, Verdict::Later, None);
            return None;
        }
        let wanted = still_wanted && !sabotaged!(FirstPrincipalsOnly);
        let running = work.running.get_mut(&Step::Principals)?;
        if next_token.is_none() {
            // The first page, perhaps of another try.
            running.pages = Pages::default();
        }
        let pages = &mut running.pages;
        pages.count += 1;
        pages.arns.extend_from_slice(arns);
        let too_many = pages.count >= MAX_PAGES || pages.arns.len() >= MAX_PRINCIPALS;
        match next {
            Some(next) if wanted && !too_many => {
                self.note_health(call.operation(), result);
                let call = Call::ListThingPrincipals { thing: thing.clone(), next_token: Some(next.clone()) };
                self.call(serial, Step::Principals, call);
                None
            }
            next => {
                if wanted && next.is_some() {
                    tracing::error!(
                        %serial,
                        thing,
                        "more certificates are attached to this thing than are read: detach what is not its own"
                    );
                }
                let arns = std::mem::take(&mut pages.arns);
                Some(Ok(Answer {
                    reply: Reply::Principals { arns, next: None },
                    request_id: request_id.clone(),
                }))
            }
        }
    }
}
