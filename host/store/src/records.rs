//! The detail records of interactions and offers: inserted with the fact that closes the
//! interaction, in the same transaction; listed, filtered and exported from here.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use cordboard_base::Id;
use cordboard_call::facts::Record;
use cordboard_call::messages::OfferResult;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use serde::Serialize;

use crate::{StoreError, codec, schema};

/// Which records. All that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Ended at or after, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Ended before, Unix milliseconds.
    pub until_ms: Option<i64>,
    /// From this number.
    pub caller: Option<String>,
    /// To this number.
    pub called: Option<String>,
    /// Last in this workgroup.
    pub workgroup: Option<String>,
    /// Last with this agent.
    pub agent: Option<String>,
    /// With this Q.850 cause.
    pub cause: Option<u8>,
    /// Before this row: the `row` of the last one of the page before.
    pub before_row: Option<i64>,
    /// At most so many; 0: 100.
    pub limit: u32,
}

/// A record without its timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Grows in the order in which interactions ended; for paging.
    pub row: i64,
    /// Which.
    pub interaction: String,
    /// Whose.
    pub tenant: String,
    /// Where from.
    pub trunk: String,
    /// Calling number.
    pub caller: String,
    /// Dialled number.
    pub called: String,
    /// Of the caller's leg.
    pub call_id: String,
    /// Unix milliseconds.
    pub began_ms: i64,
    /// Unix milliseconds.
    pub ended_ms: i64,
    /// Q.850.
    pub cause: u8,
    /// `caller`, `script`, `agent`, `host`, `operator`.
    pub ended_by: String,
    /// In words.
    pub text: String,
    /// SIP status.
    pub status: u16,
    /// Whether it was answered.
    pub answered: bool,
    /// The last one, empty without.
    pub workgroup: String,
    /// The last one who talked, empty without.
    pub agent: String,
    /// In queues.
    pub waited_ms: i64,
    /// With agents.
    pub talked_ms: i64,
    /// The first estimate of the wait.
    pub estimate_ms: Option<i64>,
    /// What it then was.
    pub estimate_actual_ms: Option<i64>,
    /// Names of recordings.
    pub recordings: Vec<String>,
}

/// The detail record of an offer, as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfferSummary {
    /// Of which interaction.
    pub interaction: String,
    /// The offer.
    pub token: String,
    /// The place.
    pub ticket: String,
    /// To whom.
    pub agent: String,
    /// Unix milliseconds.
    pub offered_ms: i64,
    /// `accepted`, `no-answer`, `busy`, `declined 603`… `unsettled` after a crash.
    pub result: String,
    /// How long it rang.
    pub rang_ms: i64,
    /// How long they talked.
    pub talked_ms: i64,
}

/// The reading end.
#[derive(Debug)]
pub struct Records {
    db: Connection,
    path: PathBuf,
}

const COLUMNS: &str = "row, id, tenant, trunk, caller, called, call_id, began_ms, ended_ms, cause, ended_by, text, status, \
     answered, workgroup, agent, waited_ms, talked_ms, estimate_ms, estimate_actual_ms, recordings";

/// The heads of the CSV export, in order.
pub const CSV_HEAD: &str = "interaction,tenant,trunk,caller,called,call_id,began_ms,ended_ms,cause,ended_by,text,status,answered,\
workgroup,agent,waited_ms,talked_ms,estimate_ms,estimate_actual_ms,recordings";

impl Records {
    /// Opens a file that a journal has made.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { db: schema::open_reader(path)?, path: path.into() })
    }

    /// Records, newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Summary>, StoreError> {
        let mut records = Vec::new();
        self.each(filter, if filter.limit == 0 { 100 } else { filter.limit }, |summary| {
            records.push(summary);
            Ok(())
        })?;
        Ok(records)
    }

    /// One whole record, with its timeline.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, interaction: Id) -> Result<Option<Record>, StoreError> {
        let wrong = StoreError::sqlite(&self.path);
        let body: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT body FROM interactions WHERE id = ?1")
            .and_then(|mut s| s.query_row([interaction.to_string()], |row| row.get(0)).optional())
            .map_err(wrong)?;
        let Some(body) = body else { return Ok(None) };
        codec::decode(&body).map(|mut all| all.pop()).map_err(|why| StoreError::Value {
            path: self.path.clone(),
            what: format!("the record of {interaction}"),
            why,
        })
    }

    /// The offers of an interaction, in order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn offers(&self, interaction: Id) -> Result<Vec<OfferSummary>, StoreError> {
        let wrong = StoreError::sqlite(&self.path);
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT i.id, o.token, o.ticket, o.agent, o.offered_ms, o.result, o.rang_ms, o.talked_ms \
                 FROM offers o JOIN interactions i ON i.row = o.interaction WHERE i.id = ?1 ORDER BY o.row",
            )
            .map_err(&wrong)?;
        let rows = statement
            .query_map([interaction.to_string()], |row| {
                Ok(OfferSummary {
                    interaction: row.get(0)?,
                    token: row.get(1)?,
                    ticket: row.get(2)?,
                    agent: row.get(3)?,
                    offered_ms: row.get(4)?,
                    result: row.get(5)?,
                    rang_ms: row.get(6)?,
                    talked_ms: row.get(7)?,
                })
            })
            .map_err(&wrong)?;
        rows.collect::<rusqlite::Result<_>>().map_err(&wrong)
    }

    /// Writes the records, newest first, as CSV (RFC 4180) with a head line.
    ///
    /// # Errors
    /// When the file cannot be read, or `out` not be written.
    pub fn export_csv(&self, filter: &Filter, out: &mut dyn Write) -> Result<u64, StoreError> {
        let io = |source| StoreError::Io { what: "writing the export".into(), source };
        write!(out, "{CSV_HEAD}\r\n").map_err(io)?;
        let mut count = 0;
        self.each(filter, filter.limit, |s| {
            count += 1;
            writeln!(out, "{}\r", csv_line(&s)).map_err(io)
        })?;
        Ok(count)
    }

    /// Writes the whole records, newest first, one JSON object a line, with offers and timeline.
    ///
    /// # Errors
    /// When the file cannot be read, or `out` not be written.
    pub fn export_json_lines(&self, filter: &Filter, out: &mut dyn Write) -> Result<u64, StoreError> {
        let io = |source| StoreError::Io { what: "writing the export".into(), source };
        let mut count = 0;
        self.each(filter, filter.limit, |s| {
            let id = s.interaction.parse().unwrap_or_default();
            if let Some(record) = self.get(id)? {
                count += 1;
                let line = serde_json::to_string(&record).map_err(|e| io(e.into()))?;
                writeln!(out, "{line}").map_err(io)?;
            }
            Ok(())
        })?;
        Ok(count)
    }

    /// Calls `each` with the records that match, newest first; `limit` 0 means all.
    fn each(
        &self,
        filter: &Filter,
        limit: u32,
        mut each: impl FnMut(Summary) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let wrong = StoreError::sqlite(&self.path);
        let (clause, values) = clause(filter);
        let mut sql = format!("SELECT {COLUMNS} FROM interactions{clause} ORDER BY row DESC");
        if limit > 0 {
            let _ = write!(sql, " LIMIT {limit}");
        }
        let mut statement = self.db.prepare_cached(&sql).map_err(&wrong)?;
        let mut rows = statement.query(params_from_iter(values)).map_err(&wrong)?;
        while let Some(row) = rows.next().map_err(&wrong)? {
            each(summary(row).map_err(&wrong)?)?;
        }
        Ok(())
    }
}

fn clause(filter: &Filter) -> (String, Vec<Value>) {
    let text = |v: &Option<String>| v.clone().map(Value::Text);
    let number = |v: Option<i64>| v.map(Value::Integer);
    let parts = [
        ("tenant = ?", text(&filter.tenant)),
        ("ended_ms >= ?", number(filter.since_ms)),
        ("ended_ms < ?", number(filter.until_ms)),
        ("caller = ?", text(&filter.caller)),
        ("called = ?", text(&filter.called)),
        ("workgroup = ?", text(&filter.workgroup)),
        ("agent = ?", text(&filter.agent)),
        ("cause = ?", number(filter.cause.map(i64::from))),
        ("row < ?", number(filter.before_row)),
    ];
    let (terms, values): (Vec<_>, Vec<_>) =
        parts.into_iter().filter_map(|(term, value)| value.map(|v| (term, v))).unzip();
    let clause = if terms.is_empty() { String::new() } else { format!(" WHERE {}", terms.join(" AND ")) };
    (clause, values)
}

fn summary(row: &rusqlite::Row<'_>) -> rusqlite::Result<Summary> {
    let recordings: String = row.get(20)?;
    Ok(Summary {
        row: row.get(0)?,
        interaction: row.get(1)?,
        tenant: row.get(2)?,
        trunk: row.get(3)?,
        caller: row.get(4)?,
        called: row.get(5)?,
        call_id: row.get(6)?,
        began_ms: row.get(7)?,
        ended_ms: row.get(8)?,
        cause: row.get(9)?,
        ended_by: row.get(10)?,
        text: row.get(11)?,
        status: row.get(12)?,
        answered: row.get(13)?,
        workgroup: row.get(14)?,
        agent: row.get(15)?,
        waited_ms: row.get(16)?,
        talked_ms: row.get(17)?,
        estimate_ms: row.get(18)?,
        estimate_actual_ms: row.get(19)?,
        recordings: recordings.split('\n').filter(|r| !r.is_empty()).map(Into::into).collect(),
    })
}

/// A field of RFC 4180. A leading `=`, `+`, `-` or `@` that is not a number gets a quote mark before
/// it, since callers choose their display text and spreadsheets would run it.
fn csv_field(value: &str) -> String {
    let formula = value.starts_with(['=', '+', '-', '@', '\t', '\r'])
        && !value[1..].bytes().all(|b| b.is_ascii_digit());
    let value = if formula { format!("'{value}") } else { value.to_owned() };
    if value.contains([',', '"', '\r', '\n']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value }
}

fn csv_line(s: &Summary) -> String {
    let optional = |v: Option<i64>| v.map(|v| v.to_string()).unwrap_or_default();
    let fields = [
        s.interaction.clone(),
        s.tenant.clone(),
        s.trunk.clone(),
        s.caller.clone(),
        s.called.clone(),
        s.call_id.clone(),
        s.began_ms.to_string(),
        s.ended_ms.to_string(),
        s.cause.to_string(),
        s.ended_by.clone(),
        s.text.clone(),
        s.status.to_string(),
        s.answered.to_string(),
        s.workgroup.clone(),
        s.agent.clone(),
        s.waited_ms.to_string(),
        s.talked_ms.to_string(),
        optional(s.estimate_ms),
        optional(s.estimate_actual_ms),
        s.recordings.join(" "),
    ];
    fields.iter().map(|f| csv_field(f)).collect::<Vec<_>>().join(",")
}

/// An offer's result as one word (and a status).
#[must_use]
pub fn result_name(result: Option<&OfferResult>) -> String {
    match result {
        None => "unsettled".into(),
        Some(OfferResult::Accepted) => "accepted".into(),
        Some(OfferResult::NoAnswer) => "no-answer".into(),
        Some(OfferResult::Busy) => "busy".into(),
        Some(OfferResult::Declined { status }) => format!("declined {status}"),
        Some(OfferResult::Unreachable { status }) => format!("unreachable {status}"),
        Some(OfferResult::Lost) => "lost".into(),
        Some(OfferResult::CallerGone) => "caller-gone".into(),
        Some(OfferResult::Revoked) => "revoked".into(),
        Some(OfferResult::NoCall) => "no-call".into(),
    }
}

/// Inserts a record; a record that is there already is left as it is (a fact heard twice).
pub(crate) fn insert(db: &Connection, r: &Record) -> rusqlite::Result<()> {
    let (estimate, actual) = r.estimate_ms.map_or((None, None), |(e, a)| (Some(e as i64), Some(a as i64)));
    let inserted = db
        .prepare_cached(
            "INSERT INTO interactions (id, tenant, trunk, caller, called, call_id, began_ms, ended_ms, cause, ended_by, text, status, \
             answered, workgroup, agent, waited_ms, talked_ms, estimate_ms, estimate_actual_ms, recordings, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21) \
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(rusqlite::params![
            r.interaction.to_string(),
            &*r.tenant,
            &*r.trunk,
            r.caller,
            r.called,
            r.call_id,
            r.began_ms,
            r.ended_ms,
            r.end.cause,
            r.end.by,
            r.end.text,
            r.end.status,
            r.end.answered,
            r.workgroup,
            r.agent,
            r.waited_ms as i64,
            r.talked_ms as i64,
            estimate,
            actual,
            r.end.recordings.join("\n"),
            codec::encode(r),
        ])?;
    if inserted == 0 || r.offers.is_empty() {
        return Ok(());
    }
    let row = db.last_insert_rowid();
    let mut statement = db.prepare_cached(
        "INSERT INTO offers (token, interaction, ticket, agent, offered_ms, result, rang_ms, talked_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for o in &r.offers {
        statement.execute(rusqlite::params![
            o.token.to_string(),
            row,
            o.ticket.to_string(),
            &*o.agent,
            o.offered_ms,
            result_name(o.result.as_ref()),
            o.rang_ms as i64,
            o.talked_ms as i64,
        ])?;
    }
    Ok(())
}

/// Records that one step deletes: some milliseconds, which a commit may take longer.
const RETAIN_STEP: usize = 500;

/// Deletes a step of what ended before a time, the oldest first; whether more may be left.
pub(crate) fn retain(db: &Connection, before_ms: i64) -> rusqlite::Result<bool> {
    let step = (before_ms, RETAIN_STEP as i64);
    db.prepare_cached(
        "DELETE FROM offers WHERE interaction IN (SELECT row FROM interactions WHERE ended_ms < ?1 ORDER BY ended_ms, row LIMIT ?2)",
    )?
    .execute(step)?;
    let deleted = db
        .prepare_cached(
            "DELETE FROM interactions WHERE row IN (SELECT row FROM interactions WHERE ended_ms < ?1 ORDER BY ended_ms, row LIMIT ?2)",
        )?
        .execute(step)?;
    Ok(deleted == RETAIN_STEP)
}
