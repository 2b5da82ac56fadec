//! The Internet checksum (RFC 1071), without the final complement.

/// The ones' complement sum of `bytes` as 16-bit big-endian words; an odd last byte is padded with zero.
pub fn sum(bytes: &[u8]) -> u16 {
    // The sum does not depend on the byte order (RFC 1071, 2.B), so whole native words are added, carries and all.
    let (words, rest) = bytes.as_chunks::<8>();
    let mut total: u64 = 0;
    let mut carries: u64 = 0;
    for word in words {
        let (next, carry) = total.overflowing_add(u64::from_ne_bytes(*word));
        total = next;
        carries += u64::from(carry);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let wide = u128::from(total) + u128::from(carries) + u128::from(u64::from_ne_bytes(last));
    u16::from_be(fold(fold_wide(wide)))
}

/// The sum of two sums.
pub fn add(a: u16, b: u16) -> u16 {
    fold(u64::from(a) + u64::from(b))
}

/// The sum of the pseudo-header (RFC 9293, 3.1; RFC 768; RFC 8200, 8.1) of `len` bytes of a protocol, between addresses
/// of this sum.
pub fn pseudo_header(protocol: u8, addresses: u16, len: usize) -> u16 {
    fold(u64::from(addresses) + u64::from(protocol) + len as u64)
}

fn fold_wide(sum: u128) -> u64 {
    let once = (sum >> 64) as u64;
    let (total, carry) = (sum as u64).overflowing_add(once);
    total + u64::from(carry)
}

fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, 1, word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        words.fold(0u32, |sum, word| (sum + word) % 0xffff) as u16
    }

    #[test]
    fn rfc1071_3_numerical_example() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(add(0xffff, 0x0002), 0x0002);
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_sum(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(sum(&bytes) % 0xffff, plain(&bytes));
        }
    }
}
