//! Answers for people: columns and one line a step. With `--json` the API's own words.

use anyhow::Result;
use serde_json::Value;

fn whole(value: &Value) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A value as a cell.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Columns as wide as their widest cell.
fn table(heads: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = heads.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
        println!("{}", padded.join("  ").trim_end());
    };
    line(&heads.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>());
    for row in rows {
        line(row);
    }
}

fn items(answer: &Value) -> &[Value] {
    answer["items"].as_array().map_or(&[], Vec::as_slice)
}

/// A line a trunk, and one below it for each destination.
pub(super) fn trunks(answer: &Value, json: bool) -> Result<()> {
    if json {
        return whole(answer);
    }
    let mut rows = Vec::new();
    for t in items(answer) {
        let registration = match &t["registration"] {
            Value::Null if t["peer"].is_string() => format!("registered from {}", cell(&t["peer"])),
            Value::Null => "-".to_owned(),
            r if r["state"] == "registered" => format!("registered, {} s", cell(&r["expires_in_s"])),
            r if r["state"] == "failed" => format!("failed: {}", cell(&r["reason"])),
            r => cell(&r["state"]),
        };
        let calls = [&t["calls_in"], &t["calls_out"], &t["max_calls"]].map(cell);
        let totals = [&t["admitted"], &t["refused"], &t["out"], &t["out_full"]].map(cell);
        rows.push([vec![cell(&t["trunk"])], calls.into(), totals.into(), vec![registration]].concat());
        for d in t["destinations"].as_array().into_iter().flatten() {
            let serves = if d["serves"] == true { "serves" } else { "does not serve" };
            let last = match &d["last_status"] {
                Value::Null => "not heard of".to_owned(),
                status if *status == 0 => "silent".to_owned(),
                status => cell(status),
            };
            let blank = || String::new();
            rows.push(vec![
                format!("  {}", cell(&d["uri"])),
                blank(),
                blank(),
                blank(),
                blank(),
                blank(),
                cell(&d["calls"]),
                cell(&d["failed"]),
                format!("{serves}, {last}, priority {}, weight {}", cell(&d["priority"]), cell(&d["weight"])),
            ]);
        }
    }
    table(&["TRUNK", "IN", "OUT", "MAX", "ADMITTED", "REFUSED", "SENT", "NOT SENT", "STATE"], &rows);
    Ok(())
}

fn list(answer: &Value, json: bool, columns: &[(&str, &str)]) -> Result<()> {
    if json {
        return whole(answer);
    }
    let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
    let rows: Vec<Vec<String>> =
        items(answer).iter().map(|item| columns.iter().map(|(_, key)| cell(&item[*key])).collect()).collect();
    table(&heads, &rows);
    Ok(())
}

pub(super) fn object(answer: &Value, json: bool) -> Result<()> {
    if json {
        return whole(answer);
    }
    for (key, value) in answer.as_object().into_iter().flatten() {
        println!("{key}: {}", cell(value));
    }
    Ok(())
}

pub(super) fn reloaded(answer: &Value, json: bool) -> Result<()> {
    if json {
        return whole(answer);
    }
    println!("the configuration is in force");
    for key in answer["needs_restart"].as_array().into_iter().flatten() {
        println!("a restart is needed for {}: the old value holds", cell(key));
    }
    Ok(())
}

pub(super) fn calls(answer: &Value, json: bool) -> Result<()> {
    list(
        answer,
        json,
        &[
            ("CALL", "interaction"),
            ("TENANT", "tenant"),
            ("CALLER", "caller"),
            ("CALLED", "called"),
            ("STATE", "state"),
            ("WORKGROUP", "workgroup"),
            ("AGENT", "agent"),
        ],
    )
}

pub(super) fn agents(answer: &Value, json: bool) -> Result<()> {
    list(
        answer,
        json,
        &[
            ("TENANT", "tenant"),
            ("AGENT", "agent"),
            ("STATE", "state"),
            ("REASON", "reason"),
            ("CALL", "interaction"),
            ("CALLS", "calls"),
            ("MISSES", "misses"),
            ("REACHABLE", "reachable"),
            ("WORKGROUPS", "workgroups"),
        ],
    )
}

pub(super) fn queues(answer: &Value, json: bool) -> Result<()> {
    list(
        answer,
        json,
        &[
            ("TENANT", "tenant"),
            ("WORKGROUP", "workgroup"),
            ("WAITING", "waiting"),
            ("OFFERED", "offered"),
            ("TALKING", "taken"),
            ("LONGEST_MS", "longest_wait_ms"),
            ("ESTIMATE_S", "estimate_s"),
            ("READY", "agents_ready"),
            ("LOGGED_IN", "agents_logged_in"),
            ("SERVED", "served"),
            ("ABANDONED", "abandoned"),
        ],
    )?;
    if json {
        return Ok(());
    }
    for queue in items(answer) {
        for entry in queue["entries"].as_array().into_iter().flatten() {
            println!(
                "  {} {:>3}  {}  {}  {} ms  {}",
                cell(&queue["workgroup"]),
                cell(&entry["position"]),
                cell(&entry["interaction"]),
                cell(&entry["caller"]),
                cell(&entry["waited_ms"]),
                cell(&entry["state"]),
            );
        }
    }
    Ok(())
}

pub(super) fn records(answer: &Value, json: bool) -> Result<()> {
    list(
        answer,
        json,
        &[
            ("CALL", "interaction"),
            ("TENANT", "tenant"),
            ("CALLER", "caller"),
            ("CALLED", "called"),
            ("WORKGROUP", "workgroup"),
            ("AGENT", "agent"),
            ("WAITED_MS", "waited_ms"),
            ("TALKED_MS", "talked_ms"),
            ("CAUSE", "cause"),
            ("ENDED_BY", "ended_by"),
            ("TEXT", "text"),
        ],
    )
}

pub(super) fn plugins(answer: &Value, json: bool) -> Result<()> {
    if json {
        return whole(answer);
    }
    let rows: Vec<Vec<String>> = items(answer)
        .iter()
        .map(|p| {
            let stats = &p["stats"];
            let faults: u64 = ["traps", "timeouts", "memory", "nonsense", "errors"]
                .iter()
                .filter_map(|k| stats[*k].as_u64())
                .sum();
            vec![
                cell(&p["name"]),
                cell(&p["world"]),
                cell(&p["description"]["version"]),
                cell(&p["active"]).chars().take(19).collect(),
                cell(&stats["questions"]),
                cell(&stats["running"]),
                faults.to_string(),
                format!("{:.1}", stats["cpu_ns"].as_f64().unwrap_or(0.0) / 1e6),
                if p["quarantined"] == true { "quarantined".into() } else { String::new() },
            ]
        })
        .collect();
    table(&["PLUGIN", "WORLD", "VERSION", "DIGEST", "QUESTIONS", "RUNNING", "FAULTS", "CPU_MS", ""], &rows);
    Ok(())
}

pub(super) fn bans(answer: &Value, json: bool) -> Result<()> {
    if json {
        return whole(answer);
    }
    let now_ms = crate::library::wall_ms();
    let rows: Vec<Vec<String>> = items(answer)
        .iter()
        .map(|b| {
            let left_s = (b["until_ms"].as_i64().unwrap_or(0) - now_ms).max(0) / 1_000;
            vec![cell(&b["source"]), left_s.to_string(), cell(&b["times"])]
        })
        .collect();
    table(&["SOURCE", "LEFT_S", "TIMES"], &rows);
    Ok(())
}

pub(super) fn dead_letters(answer: &Value, json: bool) -> Result<()> {
    if json {
        return whole(answer);
    }
    let rows: Vec<Vec<String>> = items(answer)
        .iter()
        .map(|d| {
            vec![
                cell(&d["id"]),
                cell(&d["adapter"]),
                cell(&d["event"]["kind"]),
                cell(&d["event"]["subject"]),
                cell(&d["reason"]),
            ]
        })
        .collect();
    table(&["ID", "ADAPTER", "EVENT", "SUBJECT", "REASON"], &rows);
    Ok(())
}

/// One line a step, the number first.
fn line(line: &Value) {
    let mut evidence = Vec::new();
    for (key, name) in [
        ("call_id", "call-id"),
        ("cseq", "cseq"),
        ("bus_seq", "bus"),
        ("ticket", "ticket"),
        ("token", "token"),
    ] {
        if !line[key].is_null() {
            evidence.push(format!("{name}={}", cell(&line[key])));
        }
    }
    let step = match line["step"].as_u64() {
        Some(0) | None => "--".to_owned(),
        Some(step) => format!("{step:>2}"),
    };
    println!(
        "{step}  {:>9.1} ms  {}: {}  [{}]",
        line["after_ms"].as_f64().unwrap_or(0.0),
        cell(&line["title"]),
        cell(&line["detail"]),
        evidence.join(" "),
    );
}

pub(super) fn call(answer: &Value, json: bool) -> Result<()> {
    if json {
        return whole(answer);
    }
    println!(
        "{}  {} -> {}  {}",
        cell(&answer["interaction"]),
        cell(&answer["caller"]),
        cell(&answer["called"]),
        if answer["live"] == true {
            "live".into()
        } else {
            format!(
                "ended by {}, cause {}, {}",
                cell(&answer["end"]["by"]),
                cell(&answer["end"]["cause"]),
                cell(&answer["end"]["text"])
            )
        },
    );
    for l in answer["timeline"].as_array().into_iter().flatten() {
        line(l);
    }
    Ok(())
}

pub(super) fn live(event: &str, data: &Value, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::json!({ "event": event, "data": data }));
        return Ok(());
    }
    match event {
        "line" => line(&data["line"]),
        "closed" => println!(
            "ended by {}, cause {}, {}",
            cell(&data["end"]["by"]),
            cell(&data["end"]["cause"]),
            cell(&data["end"]["text"])
        ),
        "missed" => println!("... {} lines were missed", cell(&data["lines"])),
        _ => {}
    }
    Ok(())
}
