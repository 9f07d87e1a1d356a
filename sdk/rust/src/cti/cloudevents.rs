//! Events as CloudEvents 1.0 in JSON: the structured mode for one, the batched mode for many.
//!
//! Written out by hand: an adapter needs no JSON library to post what the host already gives as
//! JSON. It never reads JSON.

use super::Event;

/// The content type of one event (CloudEvents HTTP binding, structured mode).
pub const SINGLE_TYPE: &str = "application/cloudevents+json";

/// The content type of a batch (CloudEvents HTTP binding, batched mode).
pub const BATCH_TYPE: &str = "application/cloudevents-batch+json";

/// Events as one JSON array.
pub fn batch_json<'a>(events: impl IntoIterator<Item = &'a Event>) -> String {
    let mut json = String::from("[");
    for (index, event) in events.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        event.write_json(&mut json);
    }
    json.push(']');
    json
}

impl Event {
    /// The event as one JSON object. The cursor goes along as the extension attribute
    /// `sequence`, padded so that it sorts as text.
    pub fn to_json(&self) -> String {
        let mut json = String::new();
        self.write_json(&mut json);
        json
    }

    fn write_json(&self, json: &mut String) {
        json.push_str("{\"specversion\":\"1.0\"");
        let sequence = format!("{:020}", self.sequence);
        let fields = [
            ("id", &self.id),
            ("source", &self.source),
            ("type", &self.type_),
            ("subject", &self.subject),
            ("time", &self.time),
            ("sequence", &sequence),
        ];
        for (name, value) in fields {
            // An empty attribute is not allowed by CloudEvents; an absent one is.
            if !value.is_empty() {
                json.push_str(",\"");
                json.push_str(name);
                json.push_str("\":");
                write_text(json, value);
            }
        }
        if !self.data.is_empty() {
            json.push_str(",\"datacontenttype\":\"application/json\",\"data\":");
            json.push_str(&self.data);
        }
        json.push('}');
    }
}

/// A JSON string (RFC 8259, section 7).
fn write_text(json: &mut String, text: &str) {
    json.push('"');
    for letter in text.chars() {
        match letter {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            control if control < ' ' => json.push_str(&format!("\\u{:04x}", control as u32)),
            other => json.push(other),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cti::testing::event;

    #[test]
    fn an_event_is_written_as_a_cloudevent() {
        let json = event(7, "call.new", "01AB", "{\"caller\":\"+49\"}").to_json();
        assert_eq!(
            json,
            "{\"specversion\":\"1.0\",\"id\":\"test-7\",\"source\":\"/test\",\"type\":\"call.new\",\
             \"subject\":\"01AB\",\"time\":\"2026-03-02T10:00:00Z\",\
             \"sequence\":\"00000000000000000007\",\"datacontenttype\":\"application/json\",\
             \"data\":{\"caller\":\"+49\"}}"
        );
    }

    #[test]
    fn what_would_break_a_json_string_is_escaped() {
        let mut strange = event(1, "a\"b\\c\nd\u{1}é", "", "");
        strange.id.clear();
        let json = strange.to_json();
        assert!(json.contains("\"type\":\"a\\\"b\\\\c\\nd\\u0001é\""), "{json}");
        assert!(!json.contains("\"id\"") && !json.contains("\"data\"") && !json.contains("\"subject\""));
    }

    #[test]
    fn a_batch_is_an_array_and_an_empty_one_too() {
        let events = [event(1, "a", "s", "1"), event(2, "b", "s", "2")];
        let json = batch_json(&events);
        assert_eq!(json, format!("[{},{}]", events[0].to_json(), events[1].to_json()));
        assert_eq!(batch_json([]), "[]");
    }
}
