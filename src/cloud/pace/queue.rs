//! Who is next: first come, first served within a class, and no class starves.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::cloud::{Class, Urgency};

/// Turns of the nests after which one goes to the backlog that waits: a tenth is its share.
const BACKLOG_AFTER: u32 = 9;

/// Turns of others after which one goes to a read that waits.
const READ_AFTER: u32 = 49;

/// Callers that wait for one place.
#[derive(Debug, Default)]
pub(super) struct Queue {
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    taken: bool,
    /// By what never changes of a class ([`row`]), in the order in which they came.
    waiting: [VecDeque<Caller>; 3],
    /// Turns that the backlog has seen go by.
    backlog_passed: u32,
    /// Turns that the reads have seen go by.
    reads_passed: u32,
}

#[derive(Debug)]
struct Caller {
    urgency: Urgency,
    /// It is told whether its turn is its class's share.
    call: oneshot::Sender<bool>,
}

/// Whoever waits may go over from the nests to the backlog and back, but not from one of these to another.
const fn row(class: Class) -> usize {
    match class {
        Class::NestBegun | Class::BacklogBegun => 0,
        Class::NestNew | Class::BacklogNew => 1,
        Class::Read => 2,
    }
}

impl Line {
    /// The place in its row of the first who is of `class` now.
    fn first(&self, class: Class) -> Option<usize> {
        self.waiting[row(class)].iter().position(|it| it.urgency.class() == class)
    }

    /// Whether anybody waits who goes before `class`.
    fn has_before(&self, class: Class) -> bool {
        Class::ALL[..class as usize].iter().any(|it| self.first(*it).is_some())
    }

    /// Takes out whose turn it is, if anybody waits, and says whether that is the share of its class.
    fn next(&mut self) -> Option<(Caller, bool)> {
        let first = |classes: &[Class]| classes.iter().find_map(|it| Some((*it, self.first(*it)?)));
        let backlog = first(&[Class::BacklogBegun, Class::BacklogNew]);
        let read = first(&[Class::Read]);
        let ((next, place), share) = match (backlog, read) {
            (Some(it), _) if self.backlog_passed >= BACKLOG_AFTER => (it, true),
            (_, Some(it)) if self.reads_passed >= READ_AFTER => (it, true),
            _ => (first(&[Class::NestBegun, Class::NestNew]).or(backlog).or(read)?, false),
        };
        let is_backlog = matches!(next, Class::BacklogBegun | Class::BacklogNew);
        self.backlog_passed = if backlog.is_some() && !is_backlog { self.backlog_passed + 1 } else { 0 };
        self.reads_passed = if read.is_some() && next != Class::Read { self.reads_passed + 1 } else { 0 };
        Some((self.waiting[row(next)].remove(place)?, share))
    }
}

impl Queue {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits to be the head. Whoever stops waiting is passed over.
    pub(super) async fn enter(&self, urgency: Urgency) -> Turn<'_> {
        let waiter = {
            let mut line = self.line();
            if !line.taken {
                line.taken = true;
                return Turn { queue: Some(self), urgency, share: false };
            }
            let (call, called) = oneshot::channel();
            let caller = Caller { urgency: urgency.clone(), call };
            line.waiting[row(urgency.class())].push_back(caller);
            Waiter { queue: self, called, done: false }
        };
        waiter.wait(urgency).await
    }

    fn pass_on(&self) {
        let mut line = self.line();
        while let Some((caller, share)) = line.next() {
            if caller.call.send(share).is_ok() {
                return;
            }
        }
        line.taken = false;
    }
}

/// The head of a queue, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// None once the place is given away.
    queue: Option<&'a Queue>,
    urgency: Urgency,
    /// The class got it as its share, whoever else waits.
    share: bool,
}

impl<'a> Turn<'a> {
    /// Whether somebody waits who goes before this one. A head may wait for long: who is more urgent and
    /// comes meanwhile need not wait for it too.
    pub(super) fn has_to_give_way(&self) -> bool {
        !self.share && self.queue.is_some_and(|it| it.line().has_before(self.urgency.class()))
    }

    /// Lets the others go first and waits to be the head again, before all others of its class.
    pub(super) async fn give_way(mut self) -> Turn<'a> {
        let Some(queue) = self.queue.take() else { return self };
        let (call, called) = oneshot::channel();
        let urgency = self.urgency.clone();
        let caller = Caller { urgency: urgency.clone(), call };
        queue.line().waiting[row(urgency.class())].push_front(caller);
        let waiter = Waiter { queue, called, done: false };
        queue.pass_on();
        waiter.wait(urgency).await
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(queue) = self.queue {
            queue.pass_on();
        }
    }
}

struct Waiter<'a> {
    queue: &'a Queue,
    called: oneshot::Receiver<bool>,
    done: bool,
}

impl<'a> Waiter<'a> {
    async fn wait(mut self, urgency: Urgency) -> Turn<'a> {
        // It cannot be closed unheard: the queue outlives its waiters.
        let share = (&mut self.called).await.unwrap_or(false);
        self.done = true;
        Turn { queue: Some(self.queue), urgency, share }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.called.close();
        // Called, and gone before it could come: the turn goes on to the next.
        if !self.done && self.called.try_recv().is_ok() {
            self.queue.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(it) => Some(it),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_head_that_waits_lets_the_more_urgent_go_first_and_keeps_its_place_among_its_own() {
        let queue = Queue::default();
        let head = poll(pin!(queue.enter(Class::BacklogNew.into()))).unwrap();
        let mut next = pin!(queue.enter(Class::BacklogNew.into()));
        assert!(poll(next.as_mut()).is_none());
        assert!(!head.has_to_give_way(), "its own kind waits behind it");
        let mut nest = pin!(queue.enter(Class::NestNew.into()));
        assert!(poll(nest.as_mut()).is_none());
        assert!(head.has_to_give_way());
        let mut head = pin!(head.give_way());
        assert!(poll(head.as_mut()).is_none());
        let nest = poll(nest.as_mut()).expect("the nest goes first");
        assert!(!nest.has_to_give_way());
        drop(nest);
        let head = poll(head.as_mut()).expect("then the one that gave way");
        assert!(poll(next.as_mut()).is_none());
        drop(head);
        assert!(poll(next.as_mut()).is_some());
    }

    #[test]
    fn a_share_is_not_given_away() {
        let queue = Queue::default();
        let mut turn = poll(pin!(queue.enter(Class::NestNew.into()))).unwrap();
        let mut backlog = Box::pin(queue.enter(Class::BacklogNew.into()));
        assert!(poll(backlog.as_mut()).is_none());
        for _ in 0..BACKLOG_AFTER {
            let mut nest = Box::pin(queue.enter(Class::NestNew.into()));
            assert!(poll(nest.as_mut()).is_none());
            drop(turn);
            turn = poll(nest.as_mut()).expect("nests go first");
        }
        let mut nest = Box::pin(queue.enter(Class::NestNew.into()));
        assert!(poll(nest.as_mut()).is_none());
        drop(turn);
        let share = poll(backlog.as_mut()).expect("the backlog's share");
        assert!(!share.has_to_give_way(), "however many nests wait");
    }

    #[test]
    fn whoever_stops_waiting_after_giving_way_takes_nothing_along() {
        let queue = Queue::default();
        let head = poll(pin!(queue.enter(Class::BacklogNew.into()))).unwrap();
        let mut nest = Box::pin(queue.enter(Class::NestNew.into()));
        assert!(poll(nest.as_mut()).is_none());
        let mut given = Box::pin(head.give_way());
        assert!(poll(given.as_mut()).is_none());
        drop(given);
        drop(poll(nest.as_mut()).unwrap());
        assert!(poll(pin!(queue.enter(Class::Read.into()))).is_some(), "the place is free");
    }
}
