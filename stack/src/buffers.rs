//! Memory for the flows' buffers: mapped in large pieces, backed only where it is touched, never given back.
//!
//! Not the application's allocator: a flow is opened inside a hook, and a recycled heap block would have to be
//! cleared. Flows are reused with their buffers, so what was touched stays warm.

use crate::kernel::arena::map_lazily;

/// Mapped at once: 64 flows' buffers.
const PIECE_LEN: usize = 8 << 20;

/// Hands out buffers.
#[derive(Default)]
pub struct Buffers {
    rest: &'static mut [u8],
}

impl Buffers {
    /// A buffer of zeroes; `None` when the kernel has no memory left.
    pub fn take(&mut self, len: usize) -> Option<&'static mut [u8]> {
        debug_assert!(len <= PIECE_LEN);
        if self.rest.len() < len {
            self.rest = map_lazily(PIECE_LEN).ok()?;
        }
        let (buffer, rest) = std::mem::take(&mut self.rest).split_at_mut(len);
        self.rest = rest;
        Some(buffer)
    }
}
