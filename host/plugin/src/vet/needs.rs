//! How many places of the pool an instance of a component takes, read from its bytes.

use wasmparser::{Instance, Parser, Payload};

/// What one instance takes at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) core_instances: u32,
    pub(crate) memories: u32,
    pub(crate) tables: u32,
    pub(crate) table_elements: u64,
    pub(crate) memory_bytes: u64,
}

/// The most that an instance of the light engine may take: a component of Rust, C or Zig.
pub(crate) const LIGHT: Needs =
    Needs { core_instances: 8, memories: 1, tables: 4, table_elements: 4_000, memory_bytes: 64 << 20 };

/// The most that an instance of the heavy engine may take: Go, JavaScript, Python.
pub(crate) const HEAVY: Needs =
    Needs { core_instances: 60, memories: 4, tables: 12, table_elements: 20_000, memory_bytes: 128 << 20 };

impl Needs {
    /// Counts over all modules of the component. A module that is instantiated twice is counted by
    /// its instances, but its memories once: wasmtime has the last word when it instantiates.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, String> {
        let mut needs = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            let failed = |e: wasmparser::BinaryReaderError| format!("it is not a valid component: {e}");
            match payload.map_err(failed)? {
                Payload::InstanceSection(section) => {
                    for instance in section {
                        if matches!(instance.map_err(failed)?, Instance::Instantiate { .. }) {
                            needs.core_instances += 1;
                        }
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        needs.memories += 1;
                        let bytes = memory.map_err(failed)?.initial.saturating_mul(65_536);
                        needs.memory_bytes = needs.memory_bytes.max(bytes);
                    }
                }
                Payload::TableSection(section) => {
                    for table in section {
                        needs.tables += 1;
                        needs.table_elements = needs.table_elements.max(table.map_err(failed)?.ty.initial);
                    }
                }
                _ => {}
            }
        }
        Ok(needs)
    }

    pub(crate) fn fits(&self, most: &Self) -> bool {
        self.core_instances <= most.core_instances
            && self.memories <= most.memories
            && self.tables <= most.tables
            && self.table_elements <= most.table_elements
            && self.memory_bytes <= most.memory_bytes
    }
}
