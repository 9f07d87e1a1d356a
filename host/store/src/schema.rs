//! The tables, and how connections are opened.

use std::fs::{File, TryLockError};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::{Durability, StoreError};

/// Grows with every change of a table.
const SCHEMA: i64 = 1;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS journal (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS outbox (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS cursors (adapter TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letters (
  id INTEGER PRIMARY KEY, adapter TEXT NOT NULL, event INTEGER NOT NULL, wall_ms INTEGER NOT NULL,
  reason TEXT NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS interactions (
  row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, trunk TEXT NOT NULL, caller TEXT NOT NULL,
  called TEXT NOT NULL, call_id TEXT NOT NULL, began_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL,
  cause INTEGER NOT NULL, ended_by TEXT NOT NULL, text TEXT NOT NULL, status INTEGER NOT NULL, answered INTEGER NOT NULL,
  workgroup TEXT NOT NULL, agent TEXT NOT NULL, waited_ms INTEGER NOT NULL, talked_ms INTEGER NOT NULL,
  estimate_ms INTEGER, estimate_actual_ms INTEGER, recordings TEXT NOT NULL, body BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS interactions_ended ON interactions (ended_ms);
CREATE TABLE IF NOT EXISTS offers (
  row INTEGER PRIMARY KEY, token TEXT NOT NULL, interaction INTEGER NOT NULL REFERENCES interactions (row), ticket TEXT NOT NULL,
  agent TEXT NOT NULL, offered_ms INTEGER NOT NULL, result TEXT NOT NULL, rang_ms INTEGER NOT NULL, talked_ms INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS offers_interaction ON offers (interaction);
";

/// The one connection that writes, and the lock that keeps another process's writer out for as
/// long as it is held.
pub(crate) fn open_writer(path: &Path, durability: Durability) -> Result<(Connection, File), StoreError> {
    let wrong = StoreError::sqlite(path);
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Io {
            what: format!("making the folder {}", folder.display()),
            source,
        })?;
    }
    let lock_path = path.with_extension("lock");
    let io = |source| StoreError::Io { what: format!("opening {}", lock_path.display()), source };
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: path.into() }),
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    let db = Connection::open(path).map_err(&wrong)?;
    db.busy_timeout(std::time::Duration::from_millis(2_000)).map_err(&wrong)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(&wrong)?;
    let synchronous = match durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    db.pragma_update(None, "synchronous", synchronous).map_err(&wrong)?;
    db.pragma_update(None, "wal_autocheckpoint", 4_000).map_err(&wrong)?;
    db.pragma_update(None, "cache_size", -2_048).map_err(&wrong)?;
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&wrong)?;
    if found > SCHEMA {
        return Err(StoreError::Later { path: path.into(), found, known: SCHEMA });
    }
    db.execute_batch(TABLES).map_err(&wrong)?;
    db.pragma_update(None, "user_version", SCHEMA).map_err(&wrong)?;
    Ok((db, lock))
}

/// A connection that only reads.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let wrong = StoreError::sqlite(path);
    let db =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(&wrong)?;
    db.busy_timeout(std::time::Duration::from_millis(5_000)).map_err(&wrong)?;
    db.pragma_update(None, "query_only", true).map_err(&wrong)?;
    Ok(db)
}
