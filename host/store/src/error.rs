//! What can go wrong with the store, in words for the operator.

use std::path::PathBuf;

/// An error of the store. Its text says which file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused: disk full, no permission, not a database.
    #[error("the store {path}: {source}", path = .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// A row of the journal cannot be read.
    #[error(
        "the journal in {path} is damaged at row {row} of {rows} ({what}). Rows before it are whole. \
         Start with `--journal-keep-whole` to go on from them (places given after them are forgotten; records are not touched), \
         or restore the file from a backup", path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1, in order.
        row: u64,
        /// How many there are.
        rows: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The file was written by a later version.
    #[error("the store {path} was written by a later version of Cordboard (schema {found}, this one knows {known}): run that version, or point `store.path` elsewhere", path = .path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// The file's schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Another process has the store open for writing.
    #[error("the store {path} is in use by another process: two centres cannot share one store file", path = .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A value in a table cannot be read.
    #[error("the store {path}: {what} cannot be read: {why}", path = .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Of what.
        what: String,
        /// Why.
        why: String,
    },
    /// Input or output beside the database.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The journal's thread has ended: the store is closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn sqlite(path: &std::path::Path) -> impl Fn(rusqlite::Error) -> Self + '_ {
        move |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                Self::InUse { path: path.into() }
            }
            _ => Self::Sqlite { path: path.into(), source },
        }
    }
}
