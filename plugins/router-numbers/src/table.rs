//! Reads the lines of the table into rules. Every problem names its line and what was expected.

use cordboard_sdk::router::*;

use crate::when::{Days, Hours};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) line: usize,
    called: Pattern,
    caller: Option<Pattern>,
    days: Days,
    hours: Option<Hours>,
    pub(crate) answer: Route,
}

impl Rule {
    pub(crate) fn matches(&self, call: &Incoming) -> bool {
        let local = &call.local;
        let minute = u16::from(local.hour) * 60 + u16::from(local.minute);
        let in_time = match self.hours {
            None => self.days.contains(local.weekday),
            Some(hours) => hours.contains(self.days, local.weekday, minute),
        };
        in_time
            && self.called.matches(&call.called)
            && self.caller.as_ref().is_none_or(|caller| caller.matches(&call.caller))
    }
}

/// A number, or the beginning of numbers.
#[derive(Debug)]
struct Pattern {
    text: String,
    open: bool,
}

impl Pattern {
    fn read(word: &str) -> Result<Self, String> {
        let text = word.strip_suffix('*').unwrap_or(word);
        if text.contains('*') {
            return Err(format!("{word:?}: a * stands at the end of a number only"));
        }
        Ok(Pattern { text: text.to_owned(), open: word.ends_with('*') })
    }

    fn matches(&self, number: &str) -> bool {
        if self.open { number.starts_with(&self.text) } else { number == self.text }
    }
}

/// The rules of a table in their order, or what is wrong with a line (`line 3: ...`). Empty lines
/// and lines that begin with `#` are no rules.
pub(crate) fn lines(table: &str) -> impl Iterator<Item = Result<Rule, String>> + '_ {
    table
        .lines()
        .enumerate()
        .map(|(index, text)| (index + 1, text.trim()))
        .filter(|(_, text)| !text.is_empty() && !text.starts_with('#'))
        .map(|(line, text)| read(line, text).map_err(|problem| format!("line {line}: {problem}")))
}

fn read(line: usize, text: &str) -> Result<Rule, String> {
    let (conditions, answer) =
        text.split_once("->").ok_or("no -> between the number and the answer".to_owned())?;
    let mut words = conditions.split_whitespace();
    let called = Pattern::read(words.next().ok_or("no number before ->".to_owned())?)?;
    let mut rule =
        Rule { line, called, caller: None, days: Days::ALL, hours: None, answer: read_answer(answer)? };
    while let Some(word) = words.next() {
        if word == "from" {
            let number = words.next().ok_or("no calling number after from".to_owned())?;
            rule.caller = Some(Pattern::read(number)?);
        } else if word.starts_with(|first: char| first.is_ascii_digit()) {
            rule.hours = Some(Hours::read(word)?);
        } else {
            rule.days = Days::read(word)?;
        }
    }
    Ok(rule)
}

fn read_answer(text: &str) -> Result<Route, String> {
    let mut words = text.split_whitespace();
    let kind = words.next().ok_or("no answer after ->".to_owned())?;
    let mut target = || words.next().ok_or_else(|| format!("{kind} what?"));
    match kind {
        "script" => {
            let mut answer = script(target()?);
            for (name, value) in options(words)? {
                answer = answer.attribute(name, value);
            }
            Ok(answer.into())
        }
        "workgroup" => {
            let mut answer = workgroup(target()?);
            for (name, value) in options(words)? {
                answer = match name {
                    "skills" => {
                        value.split(',').filter(|skill| !skill.is_empty()).fold(answer, |a, s| a.skill(s))
                    }
                    "priority" => answer.priority(number(name, value, 0, 100)? as u8),
                    _ => answer.attribute(name, value),
                };
            }
            Ok(answer.into())
        }
        "bridge" => {
            let mut answer = bridge(address(target()?)?);
            for (name, value) in options(words)? {
                answer = match name {
                    "ring" => answer.ring_s(number(name, value, 1, 180)?),
                    _ => answer.attribute(name, value),
                };
            }
            Ok(answer.into())
        }
        "redirect" => {
            let contacts = target()?.split(',').map(uri).collect::<Result<Vec<_>, _>>()?;
            match words.next() {
                Some(more) => {
                    Err(format!("{more:?} after the contacts: put commas, no spaces, between them"))
                }
                None => Ok(redirect(contacts).into()),
            }
        }
        "refuse" => {
            let status = number("the status", target()?, 400, 699)?;
            let mut cause = cause_of(status);
            let mut reason: Vec<&str> = words.collect();
            if let Some(value) = reason.first().and_then(|word| word.strip_prefix("cause=")) {
                cause = number("cause", value, 1, 127)? as u8;
                reason.remove(0);
            }
            Ok(refuse(status, cause, reason.join(" ")).into())
        }
        other => Err(format!("{other:?} is not one of script, workgroup, bridge, redirect, refuse")),
    }
}

/// The words `name=value` at the end of an answer.
fn options<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<(&'a str, &'a str)>, String> {
    words.map(|word| word.split_once('=').ok_or_else(|| format!("{word:?} is not name=value"))).collect()
}

/// What a call may be bridged to: a SIP URI, or the host's trunks.
fn address(text: &str) -> Result<&str, String> {
    match text.strip_prefix("trunk:") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text),
        Some(_) => Err(format!("{text:?} names no trunk, such as trunk:carrier/+4930")),
        None => uri(text),
    }
}

fn uri(text: &str) -> Result<&str, String> {
    let rest = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:"));
    match rest {
        Some(rest) if !rest.is_empty() => Ok(text),
        _ => Err(format!("{text:?} is not a SIP URI such as sip:1000@192.0.2.7")),
    }
}

fn number(name: &str, value: &str, least: u16, most: u16) -> Result<u16, String> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{name}: {value:?} is not a number from {least} to {most}")),
    }
}

/// The Q.850 cause that goes with a status when the rule names none (RFC 3398, section 8.2.6.1).
fn cause_of(status: u16) -> u8 {
    match status {
        404 | 604 => 1,
        410 => 22,
        480 => 18,
        486 | 600 => 17,
        403 | 603 => 21,
        503 => 41,
        _ => 31,
    }
}
