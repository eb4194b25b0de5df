//! Who is next: first come, first served within a class, and no class starves.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::cloud::Class;

/// Turns of the nests after which one goes to the backlog that waits: a tenth is its share.
const BACKLOG_AFTER: u32 = 9;

/// Turns of others after which one goes to a read that waits.
const READ_AFTER: u32 = 49;

/// Callers that wait for one place, by class.
#[derive(Debug, Default)]
pub(super) struct Queue {
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    taken: bool,
    waiting: [VecDeque<oneshot::Sender<()>>; Class::ALL.len()],
    /// Turns that the backlog has seen go by.
    backlog_passed: u32,
    /// Turns that the reads have seen go by.
    reads_passed: u32,
}

impl Line {
    fn waits(&self, class: Class) -> bool {
        !self.waiting[class as usize].is_empty()
    }

    /// The class whose turn it is, if anybody waits.
    fn next(&mut self) -> Option<Class> {
        let first = |classes: &[Class]| classes.iter().copied().find(|it| self.waits(*it));
        let backlog = first(&[Class::BacklogBegun, Class::BacklogNew]);
        let read = first(&[Class::Read]);
        let next = match (backlog, read) {
            (Some(it), _) if self.backlog_passed >= BACKLOG_AFTER => it,
            (_, Some(it)) if self.reads_passed >= READ_AFTER => it,
            _ => first(&Class::ALL)?,
        };
        let is_backlog = matches!(next, Class::BacklogBegun | Class::BacklogNew);
        self.backlog_passed = if backlog.is_some() && !is_backlog { self.backlog_passed + 1 } else { 0 };
        self.reads_passed = if read.is_some() && next != Class::Read { self.reads_passed + 1 } else { 0 };
        Some(next)
    }
}

impl Queue {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits to be the head. Whoever stops waiting is passed over.
    pub(super) async fn enter(&self, class: Class) -> Turn<'_> {
        let mut waiter = {
            let mut line = self.line();
            if !line.taken {
                line.taken = true;
                return Turn(self);
            }
            let (call, called) = oneshot::channel();
            line.waiting[class as usize].push_back(call);
            Waiter { queue: self, called, done: false }
        };
        // It cannot be closed unheard: the queue outlives its waiters.
        let _ = (&mut waiter.called).await;
        waiter.done = true;
        Turn(self)
    }

    fn pass_on(&self) {
        let mut line = self.line();
        while let Some(class) = line.next() {
            if let Some(call) = line.waiting[class as usize].pop_front()
                && call.send(()).is_ok()
            {
                return;
            }
        }
        line.taken = false;
    }
}

/// The head of a queue, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Queue);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

struct Waiter<'a> {
    queue: &'a Queue,
    called: oneshot::Receiver<()>,
    done: bool,
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
