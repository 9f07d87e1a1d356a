//! A TOML table read key by key, where every mistake is gathered with its line instead of ending
//! the reading: an operator sees all of them at once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Problems, suggest};

/// The file being read, and what is wrong with it so far.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    file: &'a Path,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, problems: RefCell::new(Vec::new()) }
    }

    pub(crate) fn file(&self) -> &'a Path {
        self.file
    }

    /// The line of a byte offset, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|b| **b == b'\n').count() + 1
    }

    pub(crate) fn problem(&self, line: usize, key: impl Into<String>, text: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { line, key: key.into(), text: text.into() });
    }

    /// A path in the file, relative to the file's folder.
    pub(crate) fn path(&self, written: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(written)
    }

    /// Everything that was wrong, by line.
    pub(crate) fn finish(self) -> Result<(), Problems> {
        let mut list = self.problems.into_inner();
        if list.is_empty() {
            return Ok(());
        }
        list.sort_by_key(|p| p.line);
        list.dedup();
        Err(Problems { file: self.file.into(), list })
    }
}

/// A value with its place, for checks that come later (names that must exist).
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) line: usize,
    pub(crate) key: String,
}

/// One table.
pub(crate) struct Section<'s, 't> {
    source: &'s Source<'s>,
    table: Option<&'t DeTable<'t>>,
    path: String,
    span: Range<usize>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'s, 't> Section<'s, 't> {
    pub(crate) fn root(source: &'s Source<'s>, table: &'t Spanned<DeTable<'t>>) -> Self {
        Self {
            source,
            table: Some(table.get_ref()),
            path: String::new(),
            span: 0..0,
            asked: RefCell::default(),
        }
    }

    fn child(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    /// The line where the section begins.
    pub(crate) fn line(&self) -> usize {
        self.source.line(self.span.start)
    }

    pub(crate) fn source(&self) -> &'s Source<'s> {
        self.source
    }

    /// Whether the table is there at all.
    pub(crate) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether a key is there (without asking for it).
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    fn get(&self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.borrow_mut().insert(key);
        self.table?.get(key)
    }

    /// The line of a key, or of the section.
    pub(crate) fn line_of(&self, key: &str) -> usize {
        self.table
            .and_then(|t| t.get_key_value(key))
            .map_or_else(|| self.line(), |(key, _)| self.source.line(key.span().start))
    }

    pub(crate) fn problem(&self, key: &str, text: impl Into<String>) {
        let path = if key.is_empty() { self.path.clone() } else { self.child(key) };
        self.source.problem(self.line_of(key), path, text);
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = describe(value.get_ref());
        self.source.problem(
            self.source.line(value.span().start),
            self.child(key),
            format!("expected {expected}, found {found}"),
        );
    }

    fn at<T>(&self, key: &str, value: T) -> At<T> {
        At { value, line: self.line_of(key), key: self.child(key) }
    }

    /// A text, or none.
    pub(crate) fn text(&self, key: &'static str) -> Option<At<String>> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(self.at(key, text.to_owned())),
            None => {
                self.wrong(key, value, "a text in quotes");
                None
            }
        }
    }

    /// A text that must be there and not be empty.
    pub(crate) fn required(&self, key: &'static str, example: &str) -> At<String> {
        let present = self.has(key);
        match self.text(key) {
            Some(text) if !text.value.trim().is_empty() => return text,
            Some(_) => self.problem(key, format!("is empty; expected {example}")),
            None if !present => self.problem(key, format!("is missing; expected {example}")),
            None => {}
        }
        self.at(key, String::new())
    }

    /// A name: 1 to 64 letters, digits, dashes, dots and underscores.
    pub(crate) fn name(&self, key: &'static str) -> At<String> {
        let name = self.required(key, "a name of letters, digits and dashes");
        let fits =
            name.value.len() <= 64 && name.value.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
        if !fits {
            self.problem(key, "expected a name of at most 64 letters, digits, dashes, dots and underscores");
        }
        name
    }

    /// A text that parses as `T`.
    pub(crate) fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<At<T>> {
        let text = self.text(key)?;
        match parse(&text.value) {
            Some(value) => Some(At { value, line: text.line, key: text.key }),
            None => {
                self.problem(key, format!("expected {expected}, found {:?}", text.value));
                None
            }
        }
    }

    /// One of the words.
    pub(crate) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)], default: T) -> T {
        let Some(text) = self.text(key) else { return default };
        match words.iter().find(|(word, _)| *word == text.value) {
            Some((_, value)) => *value,
            None => {
                let list = words.iter().map(|(w, _)| format!("`{w}`")).collect::<Vec<_>>().join(" or ");
                self.problem(key, format!("expected {list}, found {:?}", text.value));
                default
            }
        }
    }

    /// A whole number within a range, or the default.
    pub(crate) fn number<T>(&self, key: &'static str, range: RangeInclusive<T>, default: T) -> T
    where
        T: Copy + TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let Some(value) = self.get(key) else { return default };
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|i| i64::from_str_radix(&i.as_str().replace('_', ""), i.radix()).ok())
            .and_then(|i| T::try_from(i).ok())
            .filter(|n| range.contains(n));
        number.unwrap_or_else(|| {
            self.wrong(key, value, &expected);
            default
        })
    }

    /// Seconds, whole or broken, as milliseconds.
    pub(crate) fn seconds_ms(&self, key: &'static str, range_s: RangeInclusive<f64>, default_ms: u64) -> u64 {
        let Some(value) = self.get(key) else { return default_ms };
        let text = match value.get_ref() {
            DeValue::Integer(i) => i.as_str().replace('_', ""),
            DeValue::Float(f) => f.as_str().replace('_', ""),
            _ => String::new(),
        };
        match text.parse::<f64>() {
            Ok(s) if range_s.contains(&s) => (s * 1_000.0).round() as u64,
            _ => {
                self.wrong(key, value, &format!("seconds from {} to {}", range_s.start(), range_s.end()));
                default_ms
            }
        }
    }

    /// True or false, or the default.
    pub(crate) fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.get(key) else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong(key, value, "true or false");
            default
        })
    }

    /// A secret that stands in the file, in a variable of the environment or in a file of its own, by the keys for these;
    /// and how many of the keys are there.
    pub(crate) fn secret(
        &self,
        what: &str,
        [plain, variable, file]: [&'static str; 3],
    ) -> (Option<String>, usize) {
        let mut given = self.text(plain).map(|text| text.value);
        if let Some(name) = self.text(variable) {
            match std::env::var(&name.value) {
                Ok(secret) if !secret.is_empty() => given = Some(secret),
                _ => self.problem(
                    variable,
                    format!("the environment has no variable {:?} with {what} in it", name.value),
                ),
            }
        }
        if let Some(name) = self.text(file) {
            let path = self.source().path(&name.value);
            match std::fs::read_to_string(&path) {
                Ok(secret) if !secret.trim().is_empty() => given = Some(secret.trim().to_owned()),
                Ok(_) => self.problem(file, format!("{} is empty; expected {what} in it", path.display())),
                Err(e) => self.problem(file, format!("{} cannot be read: {e}", path.display())),
            }
        }
        (given, [plain, variable, file].iter().filter(|key| self.has(key)).count())
    }

    /// A list of texts; empty when it is not there.
    pub(crate) fn texts(&self, key: &'static str) -> Vec<At<String>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, value, "a list of texts, such as [\"a\", \"b\"]");
            return Vec::new();
        };
        array
            .iter()
            .enumerate()
            .filter_map(|(i, item)| match item.get_ref().as_str() {
                Some(text) => Some(At {
                    value: text.to_owned(),
                    line: self.source.line(item.span().start),
                    key: format!("{}[{i}]", self.child(key)),
                }),
                None => {
                    self.wrong(key, item, "a text in quotes");
                    None
                }
            })
            .collect()
    }

    /// A table below; empty when it is not there.
    pub(crate) fn section(&self, key: &'static str) -> Section<'s, 't> {
        let empty = |span| Section {
            source: self.source,
            table: None,
            path: self.child(key),
            span,
            asked: RefCell::default(),
        };
        let Some(value) = self.get(key) else { return empty(self.span.clone()) };
        match value.get_ref().as_table() {
            Some(table) => Section { table: Some(table), ..empty(value.span()) },
            None => {
                self.wrong(key, value, &format!("a table: [{}]", self.child(key)));
                empty(value.span())
            }
        }
    }

    /// A list of tables below.
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Section<'s, 't>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, value, &format!("a list of tables: [[{}]]", self.child(key)));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (i, item) in array.iter().enumerate() {
            match item.get_ref().as_table() {
                Some(table) => sections.push(Section {
                    source: self.source,
                    table: Some(table),
                    path: format!("{}[{i}]", self.child(key)),
                    span: item.span(),
                    asked: RefCell::default(),
                }),
                None => self.wrong(key, item, "a table"),
            }
        }
        sections
    }

    /// Every key of a table of free names, with its value as text (numbers and booleans as written).
    pub(crate) fn entries(&self) -> Vec<(String, At<String>)> {
        let Some(table) = self.table else { return Vec::new() };
        let mut entries = Vec::new();
        for (key, value) in table {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(i) => i.as_str().to_owned(),
                DeValue::Float(f) => f.as_str().to_owned(),
                DeValue::Boolean(b) => b.to_string(),
                _ => {
                    self.wrong(key.get_ref(), value, "a text, a number, true or false");
                    continue;
                }
            };
            let line = self.source.line(key.span().start);
            entries
                .push((key.get_ref().to_string(), At { value: text, line, key: self.child(key.get_ref()) }));
        }
        entries
    }

    /// Every table below in a table of free names.
    pub(crate) fn named_sections(&self) -> Vec<(String, Section<'s, 't>)> {
        let Some(table) = self.table else { return Vec::new() };
        let mut sections = Vec::new();
        for (key, value) in table {
            match value.get_ref().as_table() {
                Some(below) => sections.push((
                    key.get_ref().to_string(),
                    Section {
                        source: self.source,
                        table: Some(below),
                        path: self.child(key.get_ref()),
                        span: value.span(),
                        asked: RefCell::default(),
                    },
                )),
                None => self.wrong(key.get_ref(), value, "a table"),
            }
        }
        sections
    }

    /// Names of keys that were never asked for are mistakes. Call when all was asked.
    pub(crate) fn done(self) {
        let Some(table) = self.table else { return };
        let asked = self.asked.borrow();
        for (key, _) in table {
            let key = key.get_ref();
            if !asked.contains(&**key) {
                let known = asked.iter().copied().filter(|k| !table.contains_key(*k));
                self.problem(key, format!("no such key{}", suggest(key, known)));
            }
        }
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(i) => format!("the number {}", i.as_str()),
        DeValue::Float(f) => format!("the number {}", f.as_str()),
        DeValue::Boolean(b) => format!("{b}"),
        DeValue::Datetime(d) => format!("the time {d}"),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}
