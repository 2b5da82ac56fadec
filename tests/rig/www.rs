//! Files of several sizes for servers to serve, with contents in which a lost, doubled or moved byte shows.

use crate::scratch::Scratch;

/// The files' names and lengths in bytes: nothing, less than a segment, several windows, bulk.
pub const FILES: [(&str, usize); 4] = [("empty", 0), ("small", 64), ("medium", 100_000), ("large", 20_000_000)];

/// Writes the files into a directory.
pub fn write_files(directory: &Scratch) {
    for (name, len) in FILES {
        directory.write(name, contents(len));
    }
}

/// The contents of a file of that length: consecutive numbers, so that every position differs.
pub fn contents(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    for number in 0..len.div_ceil(8) as u64 {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Compares the files that a client has fetched with what was served.
///
/// # Panics
/// If one is missing or differs; the message says where.
pub fn check_files(fetched: &Scratch) {
    for (name, len) in FILES {
        let bytes = std::fs::read(fetched.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        check_contents(name, &bytes, len);
    }
}

/// Compares bytes with [`contents`] without printing megabytes when they differ.
///
/// # Panics
/// If they differ; the message says where.
pub fn check_contents(name: &str, bytes: &[u8], len: usize) {
    let expected = contents(len);
    if bytes != expected {
        let difference = bytes.iter().zip(&expected).position(|(got, wanted)| got != wanted);
        panic!("{name}: {} bytes of {len}, the first that differs at {difference:?}", bytes.len());
    }
}
