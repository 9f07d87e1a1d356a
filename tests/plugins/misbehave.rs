//! The ways to misbehave that are the same in every world. Included by each of the five packages
//! beside it; no package of its own, since the SDK has one world a component.

use std::hint::black_box;

/// What a component was told to do instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Common {
    /// Panics, which is a trap with a line in the trace.
    Trap,
    /// Goes on computing for ever and calls nobody.
    Loop,
    /// Allocates and touches memory without end.
    Memory,
    /// Calls itself without end.
    Stack,
    /// Writes log lines without end.
    Flood,
}

/// Does what a mode says; returns when the mode is none of these.
pub(crate) fn commit(mode: &str) {
    let what = match mode {
        "trap" => Common::Trap,
        "loop" => Common::Loop,
        "memory" => Common::Memory,
        "stack" => Common::Stack,
        "flood" => Common::Flood,
        _ => return,
    };
    run(what);
}

fn run(what: Common) -> ! {
    match what {
        Common::Trap => panic!("told to trap"),
        Common::Loop => {
            let mut count = 0_u64;
            loop {
                count = black_box(count.wrapping_add(1));
            }
        }
        Common::Memory => {
            let mut blocks: Vec<Vec<u8>> = Vec::new();
            loop {
                blocks.push(vec![blocks.len() as u8 | 1; 1 << 20]);
                black_box(&blocks);
            }
        }
        Common::Stack => {
            deeper(0);
            panic!("the stack has no end");
        }
        Common::Flood => {
            let mut count = 0_u64;
            loop {
                cordboard_sdk::log::info!("line {count} {}", "x".repeat(4_096));
                count = black_box(count + 1);
            }
        }
    }
}

#[allow(unconditional_recursion)]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    black_box(deeper(depth + 1)) + frame[63]
}
