//! The API on a thread and a runtime of its own: however much is asked, it takes one processor, and no call, frame or
//! record of the line queues behind an answer. Where there are too few processors for all, the line's threads go first:
//! this one gives way after each answer, and is the less important one where it may say so.

use std::io;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::server::{Api, ApiError, Board, Listeners, OpenFiles, serve};

/// How far it stands back (nice(2)): where a processor is contended it gets a third of what a thread of the line gets,
/// and all that is left over. The installed unit does not permit it: the call is one of a group that is closed there.
const NICE: i32 = 5;

/// Lets those go first who wait for the processor. A thread that is always busy would otherwise have its share in pieces of
/// some milliseconds, and a device's next step would wait for the end of one. With 64 clients that ask without a pause, on
/// two processors, the slowest devices took 12 ms longer (22 %); with this 4 ms (7 %), with [`NICE`] alone 6 ms (11 %):
/// medians of seven pairs in turn. The clients got 4 % fewer answers.
pub(super) fn give_way() {
    std::thread::yield_now();
}

/// The API at work.
#[derive(Debug)]
pub struct Serving {
    end: oneshot::Sender<()>,
    /// Cancelled when its thread has ended, in whatever way.
    ended: CancellationToken,
}

impl Serving {
    /// Has it end, and waits for that at most so long.
    pub async fn end(self, within: Duration) {
        drop(self.end);
        // It is gone either way: with its thread, or with the process.
        let _ = tokio::time::timeout(within, self.ended.cancelled()).await;
    }

    /// Returns when nobody serves any more, though nobody has said so: always a bug.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// Listening places, without a runtime.
struct Places {
    socket: std::os::unix::net::UnixListener,
    board: Option<(std::net::TcpListener, Vec<String>)>,
}

impl Places {
    fn leave(listeners: Listeners) -> io::Result<Self> {
        let board = |it: Board| Ok::<_, io::Error>((it.listener.into_std()?, it.names));
        Ok(Self { socket: listeners.socket.into_std()?, board: listeners.board.map(board).transpose()? })
    }

    /// On the runtime that this is called in.
    fn enter(self) -> io::Result<Listeners> {
        let board = |(listener, names)| {
            Ok::<_, io::Error>(Board { listener: TcpListener::from_std(listener)?, names })
        };
        Ok(Listeners {
            socket: UnixListener::from_std(self.socket)?,
            board: self.board.map(board).transpose()?,
        })
    }
}

/// Serves as [`serve`] does, until [`Serving::end`].
///
/// # Errors
/// The system gives no thread, or no place among what it watches.
pub fn start(listeners: Listeners, api: Api, files: OpenFiles) -> Result<Serving, ApiError> {
    let places = Places::leave(listeners).map_err(ApiError::Thread)?;
    let (end, told) = oneshot::channel::<()>();
    let ended = CancellationToken::new();
    let done = ended.clone().drop_guard();
    let (ready, is_ready) = sync_channel(1);
    let work = move || {
        // Dropped at the end of the thread, a panic's too.
        let _done = done;
        // Of this thread alone: that is what the number 0 means on Linux. Where it is forbidden it goes on as the others do.
        let present = rustix::process::getpriority_process(None);
        if let Err(error) = present.and_then(|it| rustix::process::setpriority_process(None, it + NICE)) {
            tracing::debug!(%error, "the API's thread keeps the priority of the others");
        }
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(it) => it,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let listeners = {
            let _inside = runtime.enter();
            places.enter()
        };
        let listeners = match listeners {
            Ok(it) => it,
            Err(error) => return drop(ready.send(Err(error))),
        };
        drop(ready.send(Ok(())));
        runtime.block_on(serve(listeners, api, files, async {
            // A dropped sender ends it too.
            let _ = told.await;
        }));
        // What it reads for somebody who has gone may take long; it ends with the process.
        runtime.shutdown_background();
    };
    std::thread::Builder::new().name("api".to_owned()).spawn(work).map_err(ApiError::Thread)?;
    // It takes no longer than two calls of the system.
    let began = is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("its thread has ended")));
    began.map_err(ApiError::Thread)?;
    Ok(Serving { end, ended })
}
