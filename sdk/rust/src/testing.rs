//! The host's double for native tests: settings that a test gives, log lines that it reads.
//!
//! Everything is kept by thread, so tests that run side by side do not meet. A component never
//! contains this module.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::log::Level;

thread_local! {
    static SETTINGS: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Gives the plugin these settings and no others, and forgets the log lines.
pub fn settings<const N: usize>(settings: [(&str, &str); N]) {
    SETTINGS.with_borrow_mut(|map| {
        *map = settings.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    });
    LINES.with_borrow_mut(Vec::clear);
}

/// Takes the log lines that were written on this thread.
pub fn lines() -> Vec<(Level, String)> {
    LINES.with_borrow_mut(std::mem::take)
}

pub(crate) fn push_line(level: Level, text: &str) {
    LINES.with_borrow_mut(|lines| lines.push((level, text.to_owned())));
}

pub(crate) fn get_setting(key: &str) -> Option<String> {
    SETTINGS.with_borrow(|map| map.get(key).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{setting, setting_or, setting_required};

    #[test]
    fn a_setting_that_does_not_parse_is_reported_and_the_default_holds() {
        settings([("every_s", "twenty"), ("good", " 7 ")]);
        assert_eq!(setting_or("every_s", 20_u32), 20);
        assert_eq!(setting_or("good", 1_u8), 7);
        assert_eq!(setting_or("absent", 3_i64), 3);
        let lines = lines();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].0, Level::Warn);
        assert!(lines[0].1.contains("every_s") && lines[0].1.contains("twenty"));
    }

    #[test]
    fn an_empty_required_setting_is_missing() {
        settings([("url", "  ")]);
        let error = setting_required("url").unwrap_err();
        assert!(error.to_string().contains("setting url is missing"));
        assert_eq!(setting("url").as_deref(), Some("  "));
    }
}
