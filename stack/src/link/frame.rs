//! The owned frame: exclusive access to one piece of a link's memory.

use std::ops::{Deref, DerefMut};

/// One frame of a link's memory. It is not `Clone`: who holds it is the only one to touch its bytes, and it goes
/// round in one circle (fill ring, RX ring, stack, TX ring, completion ring) by being moved.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its link"]
pub struct Frame {
    memory: &'static mut [u8],
    len: u32,
    /// The packet goes on in the next frame (XDP_PKT_CONTD of the kernel's af_xdp.rst).
    pub more: bool,
}

impl Frame {
    /// Owns `memory`, which holds a frame of `len` bytes from its start on.
    pub fn new(memory: &'static mut [u8], len: usize, more: bool) -> Self {
        debug_assert!(len <= memory.len());
        Frame { memory, len: len as u32, more }
    }

    /// How many bytes fit.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Sets the frame's length; the bytes are what the memory happens to hold.
    pub fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.memory.len());
        self.len = len as u32;
    }

    /// The memory, to whom it came from.
    pub fn into_memory(self) -> &'static mut [u8] {
        self.memory
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len as usize]
    }
}

impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len as usize]
    }
}
