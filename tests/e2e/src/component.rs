//! New versions of a component: the same code with another custom section, so with another digest.

use std::path::{Path, PathBuf};

use crate::place;

/// Writes a version of a component, and says where.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn version(folder: &Path, name: &str, number: u32) -> PathBuf {
    let mut bytes = std::fs::read(place::component(name)).expect("the component");
    let label = b"e2e-version";
    let content = number.to_le_bytes();
    // A custom section: id 0, size, name, content; both lengths fit in one byte of LEB128.
    bytes.push(0);
    bytes.push((1 + label.len() + content.len()) as u8);
    bytes.push(label.len() as u8);
    bytes.extend_from_slice(label);
    bytes.extend_from_slice(&content);
    let file = folder.join(format!("{name}-{number}.wasm"));
    std::fs::write(&file, bytes).expect("the version is written");
    file
}

/// Writes a version of a component of the `marked-` family (`tests/plugins/README.md`): its code has other
/// digits in it, which each of its calls shows.
///
/// # Panics
/// When the component has no mark, or the file cannot be written.
#[must_use]
pub fn marked(folder: &Path, name: &str, number: u32) -> PathBuf {
    let mut bytes = std::fs::read(place::component(name)).expect("the component");
    let begin = b"cordboard-test-mark-->";
    let places: Vec<usize> =
        bytes.windows(begin.len()).enumerate().filter(|(_, w)| w == begin).map(|(at, _)| at).collect();
    assert_eq!(places.len(), 1, "{name} has its mark once");
    let digits = places[0] + begin.len();
    bytes[digits..digits + 2].copy_from_slice(format!("{number:02}").as_bytes());
    let file = folder.join(format!("{name}-{number}.wasm"));
    std::fs::write(&file, bytes).expect("the version is written");
    file
}
