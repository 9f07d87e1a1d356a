//! How values lie in the file: one version byte, a checksum, then postcard.
//!
//! Postcard and not JSON, for room and time: `tests/measure.rs` compares them on a fact of each
//! kind. The version byte names the set of types; a changed type gets a new version, and the old
//! decoder stays.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of the types that this program writes.
pub const VERSION: u8 = 1;

/// Appends values to a blob: `VERSION`, CRC-32 (IEEE 802.3; 4 bytes, little endian, over the rest), values.
#[derive(Debug, Default)]
pub struct Blob {
    bytes: Vec<u8>,
    values: usize,
}

impl Blob {
    /// Appends a value.
    ///
    /// # Panics
    /// Never for the types of this crate: postcard fails only on sequences of unknown length.
    pub fn push<T: Serialize>(&mut self, value: &T) {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes =
            postcard::to_extend(value, bytes).expect("facts and events have sequences of known length");
        self.values += 1;
    }

    /// How many values it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values
    }

    /// Whether it holds no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// The bytes so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The finished blob.
    pub fn finish(&mut self) -> &[u8] {
        if self.bytes.len() >= 5 {
            let sum = crc32fast::hash(&self.bytes[5..]);
            self.bytes[1..5].copy_from_slice(&sum.to_le_bytes());
        }
        &self.bytes
    }

    /// Starts anew, and keeps its room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.values = 0;
    }
}

/// One value as a blob.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut blob = Blob::default();
    blob.push(value);
    blob.finish();
    blob.bytes
}

/// The values of a blob, in order.
///
/// # Errors
/// What is wrong with it, in words.
pub fn decode<T: DeserializeOwned>(blob: &[u8]) -> Result<Vec<T>, String> {
    let [version, a, b, c, d, rest @ ..] = blob else {
        return Err(format!("{} bytes, too short", blob.len()));
    };
    if *version != VERSION {
        return Err(format!("format version {version}, this program knows {VERSION}"));
    }
    if crc32fast::hash(rest) != u32::from_le_bytes([*a, *b, *c, *d]) {
        return Err("its checksum is wrong".into());
    }
    let mut values = Vec::new();
    let mut rest = rest;
    while !rest.is_empty() {
        let (value, after) = postcard::take_from_bytes(rest).map_err(|e| e.to_string())?;
        values.push(value);
        rest = after;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32() {
        let blob = encode(&7_u8);
        assert_eq!(blob[1..5], crc32fast::hash(&blob[5..]).to_le_bytes());
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn values_come_back_in_order() {
        let mut blob = Blob::default();
        for i in 0..10_u32 {
            blob.push(&(i, format!("value {i}")));
        }
        assert_eq!(blob.len(), 10);
        let values: Vec<(u32, String)> = decode(blob.finish()).unwrap();
        assert_eq!(values.len(), 10);
        assert_eq!(values[9], (9, "value 9".to_owned()));
        blob.clear();
        assert!(blob.is_empty());
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let bytes = encode(&("a fact".to_owned(), 7_u64));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(decode::<(String, u64)>(&bad).is_err(), "byte {at} bit {bit}");
            }
        }
        assert!(decode::<u8>(&[]).is_err());
    }
}
