//! The names that peers must prove, by number: a flow carries the number, and the name stays here.
//!
//! Used by [`Connections`](super::Connections). Bounded, and no number ever means a second name: a name that nobody
//! has used for long is forgotten, and what is still to be sent under its number fails.

use std::sync::Arc;

use cordboard_base::Map;
use cordboard_sip::transport::NameId;

/// A name is forgotten when at least so many others were used since, and kept among twice as many at most.
const KEPT: usize = 4_096;

#[derive(Debug, Default)]
struct Generation {
    names: Map<NameId, Arc<str>>,
    ids: Map<Arc<str>, NameId>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Names {
    new: Generation,
    /// Those that were used before the last [`KEPT`].
    old: Generation,
    next: NameId,
}

impl Default for Names {
    fn default() -> Self {
        Self { new: Generation::default(), old: Generation::default(), next: NameId::FIRST }
    }
}

impl Names {
    /// The number of a name; names have no case.
    pub(super) fn number(&mut self, name: &str) -> NameId {
        let name = name.to_ascii_lowercase();
        if let Some(id) = self.new.ids.get(name.as_str()) {
            return *id;
        }
        let known = self.old.ids.get_key_value(name.as_str()).map(|(name, id)| (name.clone(), *id));
        let (name, id) = known.unwrap_or_else(|| {
            let id = self.next;
            self.next = id.next();
            (name.into(), id)
        });
        self.keep(id, name);
        id
    }

    /// The name of a number, unless it was forgotten.
    pub(super) fn name(&mut self, id: NameId) -> Option<Arc<str>> {
        if let Some(name) = self.new.names.get(&id) {
            return Some(name.clone());
        }
        let name = self.old.names.get(&id)?.clone();
        self.keep(id, name.clone());
        Some(name)
    }

    fn keep(&mut self, id: NameId, name: Arc<str>) {
        if self.new.ids.len() == KEPT {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.names.insert(id, name.clone());
        self.new.ids.insert(name, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_use_is_never_forgotten_and_a_forgotten_number_names_nobody_else() {
        let mut names = Names::default();
        let (used, unused) = (names.number("Carrier.example"), names.number("old.example"));
        assert_eq!(names.number("carrier.EXAMPLE"), used);
        for n in 0..4 * KEPT {
            let other = names.number(&format!("{n}.example"));
            assert!(other != used && other != unused);
            assert_eq!(names.name(used).as_deref(), Some("carrier.example"));
        }
        assert_eq!(names.name(unused), None);
        assert_ne!(names.number("old.example"), unused);
        assert!(names.new.ids.len() + names.old.ids.len() <= 2 * KEPT);
    }
}
