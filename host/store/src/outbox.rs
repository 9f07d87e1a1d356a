//! Events that wait to be delivered, the cursor of each adapter, and the dead letters.
//!
//! Written by the journal's thread in the same transaction as the facts that caused them, so an
//! event is never told without its fact, nor lost with it. Read by the delivery of the server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cordboard_call::events::Event;
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use crate::{StoreError, codec, schema};

/// An event with its place in the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Grows by one with each event of the node, from 1; the cursors count in it.
    pub place: u64,
    /// The event.
    pub event: Arc<Event>,
}

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetter {
    /// Names it for `forget`.
    pub id: i64,
    /// Which adapter gave it up.
    pub adapter: String,
    /// Its place in the outbox.
    pub place: u64,
    /// When, Unix milliseconds.
    pub wall_ms: i64,
    /// Why.
    pub reason: String,
    /// The event.
    pub event: Event,
}

/// The reading end.
#[derive(Debug)]
pub struct Outbox {
    db: Connection,
    path: PathBuf,
}

impl Outbox {
    /// Opens a file that a journal has made.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { db: schema::open_reader(path)?, path: path.into() })
    }

    /// An adapter's cursor; none until [`crate::Journal::adapters`] has named it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn cursor(&self, adapter: &str) -> Result<Option<u64>, StoreError> {
        self.db
            .query_row("SELECT at FROM cursors WHERE adapter = ?1", [adapter], |row| row.get::<_, i64>(0))
            .optional()
            .map(|at| at.map(|at| at as u64))
            .map_err(StoreError::sqlite(&self.path))
    }

    /// At least one event after a place if there is any, at most about `limit`, in order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn after(&self, place: u64, limit: usize) -> Result<Vec<Stored>, StoreError> {
        let wrong = StoreError::sqlite(&self.path);
        let mut statement = self
            .db
            .prepare_cached("SELECT first, body FROM outbox WHERE last > ?1 ORDER BY first")
            .map_err(&wrong)?;
        let mut rows = statement.query([place as i64]).map_err(&wrong)?;
        let mut events = Vec::new();
        while let Some(row) = rows.next().map_err(&wrong)? {
            let first: i64 = row.get(0).map_err(&wrong)?;
            let body = row.get_ref(1).map_err(&wrong)?.as_blob().unwrap_or_default();
            let found: Vec<Event> = codec::decode(body).map_err(|why| StoreError::Value {
                path: self.path.clone(),
                what: format!("the outbox from {first} on"),
                why,
            })?;
            let places = first as u64..;
            events.extend(
                places
                    .zip(found)
                    .filter(|(at, _)| *at > place)
                    .map(|(place, event)| Stored { place, event: Arc::new(event) }),
            );
            if events.len() >= limit {
                break;
            }
        }
        Ok(events)
    }

    /// The dead letters, newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let wrong = StoreError::sqlite(&self.path);
        let mut statement = self
            .db
            .prepare_cached("SELECT id, adapter, event, wall_ms, reason, body FROM dead_letters ORDER BY id DESC LIMIT ?1")
            .map_err(&wrong)?;
        let mut rows = statement.query([limit as i64]).map_err(&wrong)?;
        let mut letters = Vec::new();
        while let Some(row) = rows.next().map_err(&wrong)? {
            let id: i64 = row.get(0).map_err(&wrong)?;
            let body: Vec<u8> = row.get(5).map_err(&wrong)?;
            let bad =
                |why| StoreError::Value { path: self.path.clone(), what: format!("dead letter {id}"), why };
            let event = codec::decode(&body).map_err(bad)?.pop().ok_or_else(|| bad("it is empty".into()))?;
            letters.push(DeadLetter {
                id,
                adapter: row.get(1).map_err(&wrong)?,
                place: row.get::<_, i64>(2).map_err(&wrong)? as u64,
                wall_ms: row.get(3).map_err(&wrong)?,
                reason: row.get(4).map_err(&wrong)?,
                event,
            });
        }
        Ok(letters)
    }
}

/// The next free place: beyond every event and every cursor, so that a place is never given twice.
pub(crate) fn next_id(db: &Connection, path: &Path) -> Result<u64, StoreError> {
    db.query_row(
        "SELECT max(coalesce((SELECT max(last) FROM outbox), 0), coalesce((SELECT max(at) FROM cursors), 0)) + 1",
        [],
        |row| row.get::<_, i64>(0),
    )
    .map(|id| id as u64)
    .map_err(StoreError::sqlite(path))
}

/// Deletes what every adapter has dealt with. Cursors of adapters that are no more are deleted by the server.
pub(crate) fn trim(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM outbox WHERE last <= (SELECT min(at) FROM cursors)")?.execute([])?;
    Ok(())
}

/// Gives up events up to a place; how many there were.
pub(crate) fn drop_oldest(db: &Connection, up_to: u64) -> rusqlite::Result<u64> {
    let gone: i64 = db
        .prepare_cached("SELECT coalesce(sum(last - first + 1), 0) FROM outbox WHERE last <= ?1")?
        .query_row([up_to as i64], |row| row.get(0))?;
    if gone > 0 {
        db.prepare_cached("DELETE FROM outbox WHERE last <= ?1")?.execute([up_to as i64])?;
    }
    Ok(gone as u64)
}
