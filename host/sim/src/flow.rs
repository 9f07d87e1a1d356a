//! Whether a timeline is the flow: every step from 3 to 18, in the order that the flow gives, each
//! with its evidence. Used by the demo; knows the timeline only as the API shows it.

use serde::Deserialize;

/// A line as `/v1/calls/{id}` and `/v1/timeline` show it.
#[derive(Debug, Clone, Deserialize)]
pub struct Line {
    /// 3 to 18; 0 for what comes after.
    pub step: u8,
    /// The step in words.
    pub title: String,
    /// On one clock for all lines of a node.
    pub mono_ns: u64,
    /// Evidence: the leg.
    pub call_id: Option<String>,
    /// Evidence: the request.
    pub cseq: Option<u32>,
    /// Evidence: the message on the bus.
    pub bus_seq: Option<u64>,
    /// Evidence: the place.
    pub ticket: Option<String>,
    /// Evidence: the offer.
    pub token: Option<String>,
    /// For a person.
    pub detail: String,
}

impl Line {
    /// The evidence in one text.
    #[must_use]
    pub fn evidence(&self) -> String {
        let mut parts = Vec::new();
        match (&self.call_id, self.cseq) {
            (Some(id), Some(cseq)) => parts.push(format!("Call-ID {id} CSeq {cseq}")),
            (Some(id), None) => parts.push(format!("Call-ID {id}")),
            _ => {}
        }
        parts.extend(self.bus_seq.map(|seq| format!("bus {seq}")));
        parts.extend(self.ticket.as_ref().map(|ticket| format!("ticket {ticket}")));
        parts.extend(self.token.as_ref().map(|token| format!("token {token}")));
        parts.join(", ")
    }
}

/// Which steps come before which.
const BEFORE: &[(&[u8], &[u8])] = &[
    (&[3], &[4]),
    (&[4], &[5]),
    (&[5], &[6, 7, 8]),
    (&[6, 7], &[9]),
    (&[9], &[10, 11, 12]),
    (&[10, 11, 12], &[14]),
    (&[10], &[13]),
    (&[13], &[17]),
    (&[14], &[15]),
    (&[15], &[16]),
    (&[16], &[17]),
    (&[17], &[18]),
];

/// What is wrong with a timeline; nothing for the whole flow.
#[must_use]
pub fn problems(lines: &[Line]) -> Vec<String> {
    let first = |step: u8| lines.iter().position(|line| line.step == step);
    let mut wrong: Vec<String> = (3..=18)
        .filter(|step| first(*step).is_none())
        .map(|step| format!("step {step} did not happen"))
        .collect();
    for (earlier, later) in BEFORE {
        for (a, b) in earlier.iter().flat_map(|a| later.iter().map(move |b| (*a, *b))) {
            if let (Some(i), Some(j)) = (first(a), first(b))
                && (i > j || lines[i].mono_ns > lines[j].mono_ns)
            {
                wrong.push(format!("step {b} came before step {a}"));
            }
        }
    }
    for step in 3..=18 {
        let Some(line) = first(step).map(|i| &lines[i]) else { continue };
        let missing = [
            (
                matches!(step, 3..=5 | 16) && (line.call_id.is_none() || line.cseq.is_none()),
                "Call-ID and CSeq",
            ),
            (matches!(step, 6 | 7) && line.bus_seq.is_none(), "bus sequence"),
            (matches!(step, 10..=15) && line.ticket.is_none(), "ticket"),
            (matches!(step, 14..=18) && line.token.is_none(), "offer token"),
        ];
        wrong.extend(
            missing.iter().filter(|(bad, _)| *bad).map(|(_, what)| format!("step {step} has no {what}")),
        );
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u8) -> Line {
        Line {
            step,
            title: String::new(),
            mono_ns: u64::from(step),
            call_id: Some("c".to_owned()),
            cseq: Some(1),
            bus_seq: Some(1),
            ticket: Some("t".to_owned()),
            token: Some("o".to_owned()),
            detail: String::new(),
        }
    }

    #[test]
    fn the_whole_flow_has_no_problems() {
        assert_eq!(problems(&(3..=18).map(line).collect::<Vec<_>>()), Vec::<String>::new());
    }

    #[test]
    fn a_missing_step_a_wrong_order_and_missing_evidence_are_named() {
        let mut lines: Vec<Line> = (3..=18).filter(|s| *s != 12).map(line).collect();
        lines.swap(1, 2);
        lines.last_mut().unwrap().token = None;
        let problems = problems(&lines).join("; ");
        assert!(problems.contains("step 12 did not happen"), "{problems}");
        assert!(problems.contains("step 5 came before step 4"), "{problems}");
        assert!(problems.contains("step 18 has no offer token"), "{problems}");
    }
}
