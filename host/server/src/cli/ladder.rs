//! A call's SIP for a person: a ladder with one column a party, and the messages below it.

use std::fmt::Write;

use serde_json::Value;

/// Columns of one party.
const WIDTH: usize = 26;

fn text<'a>(item: &'a Value, key: &str) -> &'a str {
    item[key].as_str().unwrap_or_default()
}

/// Our side of a message, and the other's.
fn parties(item: &Value) -> (String, String) {
    (format!("{} {}", text(item, "role"), text(item, "local")), text(item, "remote").to_owned())
}

/// The columns, in the order in which they first speak or are spoken to.
fn columns(items: &[Value]) -> Vec<String> {
    let mut columns = Vec::new();
    for item in items {
        let (ours, theirs) = parties(item);
        let both = if text(item, "direction") == "sent" { [ours, theirs] } else { [theirs, ours] };
        for party in both {
            if !columns.contains(&party) {
                columns.push(party);
            }
        }
    }
    columns
}

/// A line with an arrow from one column to another, the label on it.
fn rung(count: usize, from: usize, to: usize, label: &str) -> String {
    let centre = |column: usize| column * WIDTH + WIDTH / 2;
    let mut row: Vec<char> = vec![' '; count * WIDTH];
    (0..count).for_each(|column| row[centre(column)] = '│');
    let (left, right) = (centre(from.min(to)), centre(from.max(to)));
    if left == right {
        return row.into_iter().collect::<String>().trim_end().to_owned() + label;
    }
    row[left + 1..right].fill('─');
    if to > from {
        row[right - 1] = '▶'
    } else {
        row[left + 1] = '◀'
    }
    let room = right - left - 5;
    let label: Vec<char> = label.chars().take(room).collect();
    let at = left + 3 + (room - label.len()) / 2;
    row[at..at + label.len()].copy_from_slice(&label);
    row.into_iter().collect::<String>().trim_end().to_owned()
}

/// The ladder and the messages.
pub(super) fn ladder(answer: &Value) -> String {
    let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
    let columns = columns(items);
    let mut out = format!("{:>4} {:>11}  ", "", "ms");
    for column in &columns {
        let _ = write!(out, "{column:^WIDTH$}");
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    for (item, number) in items.iter().zip(1..) {
        let (ours, theirs) = parties(item);
        let place = |party: &str| columns.iter().position(|c| c == party).unwrap_or(0);
        let sent = text(item, "direction") == "sent";
        let (from, to) = if sent { (place(&ours), place(&theirs)) } else { (place(&theirs), place(&ours)) };
        let again = if item["retransmission"] == true { "* " } else { "" };
        let cseq = text(item, "cseq");
        let what = text(item, "what");
        let label = match cseq.split_once(' ') {
            Some((n, method)) if method == what => format!(" {again}{what} ({n}) "),
            _ if cseq.is_empty() => format!(" {again}{what} "),
            _ => format!(" {again}{what} ({cseq}) "),
        };
        let after = item["after_ms"].as_f64().unwrap_or(0.0);
        let _ = writeln!(out, "{number:>4} {after:>11.1}  {}", rung(columns.len(), from, to, &label));
    }
    if items.iter().any(|item| item["retransmission"] == true) {
        out.push_str("* a retransmission\n");
    }
    if let Some(left_out @ 1..) = answer["left_out"].as_u64() {
        let _ = writeln!(out, "{left_out} messages between were too many to keep");
    }
    for (item, number) in items.iter().zip(1..) {
        let (ours, theirs) = parties(item);
        let (from, to) = if text(item, "direction") == "sent" { (ours, theirs) } else { (theirs, ours) };
        let _ = writeln!(
            out,
            "\n---- {number}: {from} -> {to}, {}, {} bytes",
            text(item, "transport"),
            item["bytes"].as_u64().unwrap_or(0)
        );
        for line in text(item, "text").trim_end().lines() {
            // What comes from outside may not command the terminal.
            out.extend(line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }));
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(direction: &str, role: &str, remote: &str, what: &str, cseq: &str, again: bool) -> Value {
        json!({
            "after_ms": 1.3, "role": role, "direction": direction, "transport": "UDP",
            "local": if role == "redirect" { "10.0.0.1:5060" } else { "10.0.0.1:5062" }, "remote": remote,
            "what": what, "cseq": cseq, "retransmission": again, "bytes": 8, "text": "A\r\n\u{1b}[2JB\r\n\r\n",
        })
    }

    #[test]
    fn a_ladder_has_a_column_a_party_and_marks_retransmissions() {
        let (carrier, phone) = ("10.0.0.2:5060", "10.0.0.3:5060");
        let items = [
            item("received", "redirect", carrier, "INVITE", "1 INVITE", false),
            item("sent", "redirect", carrier, "302 Moved Temporarily", "1 INVITE", false),
            item("received", "centre", carrier, "INVITE", "2 INVITE", false),
            item("received", "centre", carrier, "INVITE", "2 INVITE", true),
            item("sent", "centre", phone, "INVITE", "1 INVITE", false),
        ];
        let printed = ladder(&json!({ "items": items, "left_out": 0 }));
        let lines: Vec<&str> = printed.lines().collect();
        let expected = [
            "              ms        10.0.0.2:5060       redirect 10.0.0.1:5060     centre 10.0.0.1:5062         10.0.0.3:5060",
            "   1         1.3               │────── INVITE (1) ──────▶│                         │                         │",
        ];
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            expected[0].split_whitespace().collect::<Vec<_>>()
        );
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            expected[1].split_whitespace().collect::<Vec<_>>()
        );
        assert!(lines[2].contains("│◀") && lines[2].contains("302 Moved"), "{printed}");
        assert!(lines[4].contains("* INVITE (2)"), "{printed}");
        // From the caller over the redirect role's column to the centre.
        let bars = |line: &str| line.chars().filter(|c| *c == '│').count();
        assert_eq!([1, 2, 3, 5].map(|n| bars(lines[n])), [4, 4, 3, 4], "{printed}");
        assert!(printed.contains("* a retransmission"));
        assert!(
            printed
                .contains("---- 5: centre 10.0.0.1:5062 -> 10.0.0.3:5060, UDP, 8 bytes\nA\n\u{fffd}[2JB\n")
        );
    }
}
