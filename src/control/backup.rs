//! `GET /v1/journal/backup`: a backup of the journal as it is now, as a stream.

use std::io::{self, Write};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Problem;
use super::door::EndlessAnswer;
use super::problem::{Refused, unavailable};
use super::server::Context;
use crate::error::Chain;

/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;

/// Chunks that wait for the reader: what a backup holds in memory.
const CHUNKS: usize = 4;

/// What it is, to whoever saves it: described in `docs/journal.md`.
const MEDIA_TYPE: &str = "application/vnd.linemint.journal";

#[utoipa::path(
    get,
    path = "/v1/journal/backup",
    operation_id = "backUpJournal",
    tag = "journal",
    responses(
        (status = 200, description = "A backup of the journal as it is now, for `linemint journal restore`", body = Vec<u8>, content_type = "application/vnd.linemint.journal"),
        (status = 503, description = "Another one is being read", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn stream(State(context): State<Arc<Context>>) -> Result<Response, Refused> {
    let (chunks, taken) = mpsc::channel(CHUNKS);
    let begun = context.reading.back_up(move |store, permit| {
        let mut out = Chunks { _permit: permit, chunks, chunk: Vec::with_capacity(CHUNK) };
        if let Err(error) = store.backup(&mut out) {
            tracing::error!(error = %Chain(&error), "a backup of the journal was cut off");
            // The reader sees a broken answer, and no mark at its end. Nobody may be there any more.
            let _ = out.chunks.blocking_send(Err(io::Error::other("the backup was cut off")));
        }
    });
    if !begun {
        return Err(unavailable("a backup is being read already, and there is one at a time"));
    }
    let body = stream::unfold(taken, |mut taken| async move { Some((taken.recv().await?, taken)) });
    let mut response = ([(header::CONTENT_TYPE, MEDIA_TYPE)], Body::from_stream(body)).into_response();
    response.extensions_mut().insert(EndlessAnswer);
    Ok(response)
}

/// Hands on what is written, a chunk at a time; waits for the reader.
struct Chunks {
    /// Given back before the last reader's end shows: whoever has seen that may begin the next.
    _permit: OwnedSemaphorePermit,
    chunks: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.chunks.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
