//! Metrics as data: families of samples, to be written as Prometheus text or sent as OTLP.
//!
//! Filled by [`super::collect`], which reads views and counters and waits for nobody.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// A value; what counts stays whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    /// A count.
    Whole(u64),
    /// Seconds and the like.
    Broken(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Whole(u64::from(value))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(u64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Broken(value)
    }
}

impl From<&AtomicU64> for Value {
    fn from(value: &AtomicU64) -> Self {
        Self::Whole(value.load(Relaxed))
    }
}

impl From<&AtomicUsize> for Value {
    fn from(value: &AtomicUsize) -> Self {
        Self::Whole(value.load(Relaxed) as u64)
    }
}

/// Whether it may fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows, from 0 at the start.
    Counter,
    /// Any value.
    Gauge,
}

/// One sample: labels and a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Labels with their values.
    pub(crate) labels: Vec<(&'static str, String)>,
    /// The value.
    pub(crate) value: Value,
}

/// All samples of one name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Family {
    /// Without the prefix `cordboard_`.
    pub(crate) name: &'static str,
    /// Whether it may fall.
    pub(crate) kind: Kind,
    /// In words.
    pub(crate) help: &'static str,
    /// The samples.
    pub(crate) samples: Vec<Sample>,
}

/// All families.
#[derive(Debug, Default)]
pub(crate) struct Families(pub(crate) Vec<Family>);

impl Families {
    /// A family of samples with labels. A name that is there already gets more samples.
    pub(crate) fn family<V: Into<Value>, const N: usize>(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = ([(&'static str, String); N], V)>,
    ) {
        let samples =
            samples.into_iter().map(|(labels, value)| Sample { labels: labels.into(), value: value.into() });
        match self.0.iter_mut().find(|family| family.name == name) {
            Some(family) => family.samples.extend(samples),
            None => self.0.push(Family { name, kind, help, samples: samples.collect() }),
        }
    }

    /// A gauge without labels.
    pub(crate) fn gauge(&mut self, name: &'static str, help: &'static str, value: impl Into<Value>) {
        self.family(Kind::Gauge, name, help, [([], value)]);
    }

    /// A counter without labels.
    pub(crate) fn counter(&mut self, name: &'static str, help: &'static str, value: impl Into<Value>) {
        self.family(Kind::Counter, name, help, [([], value)]);
    }

    /// Counters that one label tells apart.
    pub(crate) fn counters<V: Into<Value> + Copy>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &[(&str, V)],
    ) {
        let samples = values.iter().map(|(what, value)| ([(label, (*what).to_owned())], *value));
        self.family(Kind::Counter, name, help, samples);
    }

    /// In the Prometheus text format 0.0.4.
    pub(crate) fn text(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        for Family { name, kind, help, samples } in &self.0 {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let _ = write!(text, "# HELP cordboard_{name} {help}\n# TYPE cordboard_{name} {kind}\n");
            for Sample { labels, value } in samples {
                let _ = write!(text, "cordboard_{name}");
                for (i, (label, value)) in labels.iter().enumerate() {
                    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                    let _ = write!(text, "{}{label}=\"{escaped}\"", if i == 0 { '{' } else { ',' });
                }
                let close = if labels.is_empty() { "" } else { "}" };
                let _ = match value {
                    Value::Whole(value) => writeln!(text, "{close} {value}"),
                    Value::Broken(value) => writeln!(text, "{close} {value}"),
                };
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_written_once_with_all_its_samples_and_labels_are_escaped() {
        let mut all = Families::default();
        all.gauge("up", "1 while calls can be served", true);
        all.counters("faults_total", "faults", "kind", &[("a\"b", 1_u64)]);
        all.counters("faults_total", "faults", "kind", &[("c", 2_u64)]);
        all.counter("busy_seconds_total", "time", 1.5);
        assert_eq!(
            all.text(),
            "# HELP cordboard_up 1 while calls can be served\n# TYPE cordboard_up gauge\ncordboard_up 1\n\
             # HELP cordboard_faults_total faults\n# TYPE cordboard_faults_total counter\n\
             cordboard_faults_total{kind=\"a\\\"b\"} 1\ncordboard_faults_total{kind=\"c\"} 2\n\
             # HELP cordboard_busy_seconds_total time\n# TYPE cordboard_busy_seconds_total counter\n\
             cordboard_busy_seconds_total 1.5\n"
        );
    }
}
