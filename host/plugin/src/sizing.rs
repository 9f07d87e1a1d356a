//! How many places the pool gets, and why not more.
//!
//! Read once at start. A stack costs two maps of the kernel when the pool is made and a live memory
//! four, so `vm.max_map_count` is what usually decides: 65,530 allow about 9,500 scripts.

use std::fmt;

use serde::Serialize;

/// Maps that the rest of the process may need: threads, media, the journal.
const MAPS_FOR_OTHERS: u64 = 8_000;
const MAPS_PER_LIGHT: u64 = 6;
const MAPS_PER_HEAVY: u64 = 18;
/// Address space of a light place: 4 GiB and a guard of 32 MiB.
const BYTES_PER_LIGHT: u64 = (4 << 30) + (32 << 20);
/// Beyond this many reservations of 4 GiB the address space ends.
const MOST_LIGHT: u32 = 14_000;

/// What the kernel allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// `vm.max_map_count`
    pub max_map_count: u64,
    /// `RLIMIT_AS` in bytes, if there is one.
    pub address_space_bytes: Option<u64>,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sizing {
    /// Places that were asked for.
    pub wanted: u32,
    /// Places that there are.
    pub instances: u32,
    /// What made them fewer, and what to do.
    pub limited_by: Option<String>,
    /// Whether the kernel can tell which pages a guest has touched (6.7 or later).
    pub pagemap_scan: bool,
    /// What the kernel allows.
    pub machine: Machine,
}

impl Machine {
    /// Reads the kernel's limits; what cannot be read counts as the usual.
    #[must_use]
    pub fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease");
        let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse().ok());
        let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let max_map_count = read("/proc/sys/vm/max_map_count").trim().parse().unwrap_or(65_530);
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid rlimit for the kernel to fill in.
        let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0;
        let address_space_bytes = (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur);
        Self { max_map_count, address_space_bytes, kernel }
    }
}

impl Sizing {
    pub(crate) fn of(machine: &Machine, wanted: u32) -> Self {
        let maps = machine.max_map_count.saturating_sub(MAPS_FOR_OTHERS) / MAPS_PER_LIGHT;
        let mut instances = wanted.max(1);
        let mut limited_by = None;
        let mut cap = |most: u64, why: String| {
            if u64::from(instances) > most {
                instances = most.max(1) as u32;
                limited_by = Some(why);
            }
        };
        cap(u64::from(MOST_LIGHT), format!("{MOST_LIGHT} is the most that the address space holds"));
        cap(
            maps,
            format!(
                "vm.max_map_count is {}: for {wanted} set it to {}",
                machine.max_map_count,
                u64::from(wanted) * MAPS_PER_LIGHT + MAPS_FOR_OTHERS
            ),
        );
        if let Some(bytes) = machine.address_space_bytes {
            // Half for everything else.
            cap(
                bytes / 2 / BYTES_PER_LIGHT,
                format!("RLIMIT_AS is {bytes} bytes: a place reserves 4 GiB of addresses"),
            );
        }
        let pagemap_scan = machine.kernel >= (6, 7);
        Self { wanted, instances, limited_by, pagemap_scan, machine: machine.clone() }
    }

    /// Heavy places from the maps that the light ones leave.
    pub(crate) fn heavy(machine: &Machine, light: &Self, wanted: u32) -> u32 {
        let taken = u64::from(light.instances) * MAPS_PER_LIGHT;
        // The light ones are seldom all alive: a heavy engine gets at least 20 places.
        let left =
            machine.max_map_count.saturating_sub(MAPS_FOR_OTHERS / 2).saturating_sub(taken) / MAPS_PER_HEAVY;
        wanted.min(u32::try_from(left.max(20)).unwrap_or(u32::MAX)).max(1)
    }
}

impl fmt::Display for Sizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} places for plugin instances", self.instances)?;
        if let Some(why) = &self.limited_by {
            write!(f, " of {} wanted ({why})", self.wanted)?;
        }
        if !self.pagemap_scan {
            let (major, minor) = self.machine.kernel;
            write!(
                f,
                "; kernel {major}.{minor} cannot scan pages (6.7 can): an instance costs more to clean up"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(max_map_count: u64) -> Machine {
        Machine { max_map_count, address_space_bytes: None, kernel: (6, 18) }
    }

    #[test]
    fn the_kernels_maps_decide_and_are_named() {
        let sizing = Sizing::of(&machine(65_530), 10_000);
        assert_eq!(sizing.instances, 9_588);
        assert!(
            sizing.to_string().contains("vm.max_map_count is 65530: for 10000 set it to 68000"),
            "{sizing}"
        );
        assert_eq!(Sizing::of(&machine(262_144), 10_000).instances, 10_000);
        assert_eq!(Sizing::of(&machine(10_000_000), 100_000).instances, 14_000);
    }

    #[test]
    fn an_address_limit_and_an_old_kernel_are_named() {
        let small = Machine { address_space_bytes: Some(1 << 40), kernel: (6, 1), ..machine(65_530) };
        let sizing = Sizing::of(&small, 1_000);
        assert_eq!(sizing.instances, 127);
        let text = sizing.to_string();
        assert!(text.contains("RLIMIT_AS") && text.contains("kernel 6.1"), "{text}");
    }
}
