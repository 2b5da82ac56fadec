//! Which bytes of a stream have been seen.

/// Bytes of a stream that a model follows: more than a storm can send.
const STREAM_MAX: usize = 1 << 20;

/// Which bytes of a stream there are.
pub struct Coverage {
    there: Vec<bool>,
    /// How many there are from the first one on.
    pub contiguous: usize,
}

impl Coverage {
    pub fn new() -> Self {
        Coverage { there: Vec::new(), contiguous: 0 }
    }

    pub fn add(&mut self, at: u32, len: usize) {
        for index in (0..len as u32).map(|next| at.wrapping_add(next) as usize).filter(|&index| index < STREAM_MAX) {
            if self.there.len() <= index {
                self.there.resize(index + 1, false);
            }
            self.there[index] = true;
        }
        while self.there.get(self.contiguous) == Some(&true) {
            self.contiguous += 1;
        }
    }
}
