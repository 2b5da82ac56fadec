//! The library's own heap. A handler may interrupt the application in malloc(3), or for good (a signal that ends the
//! process): what we do then must not wait for that.

use crate::interruption::Deferral;
use crate::sys;
use dlmalloc::Dlmalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The heap, and its lock: free, taken, or taken while others wait for it.
struct Heap {
    lock: AtomicU32,
    chunks: UnsafeCell<Dlmalloc>,
}

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const AWAITED: u32 = 2;

// SAFETY: the chunks are touched only by who has the lock.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap { lock: AtomicU32::new(FREE), chunks: UnsafeCell::new(Dlmalloc::new()) };

thread_local! {
    /// This thread has the lock for the time of a fork(2).
    static FORKS: Cell<bool> = const { Cell::new(false) };
}

impl Heap {
    fn lock(&self) {
        if self.lock.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.wait();
        }
    }

    #[cold]
    fn wait(&self) {
        while self.lock.swap(AWAITED, Ordering::Acquire) != FREE {
            sys::wait_for_change(&self.lock, AWAITED, Duration::MAX);
        }
    }

    fn unlock(&self) {
        if self.lock.swap(FREE, Ordering::Release) == AWAITED {
            sys::wake_for_change(&self.lock);
        }
    }

    /// Has the chunks for the time of a call.
    #[inline]
    fn with<T>(&self, call: impl FnOnce(&mut Dlmalloc) -> T) -> T {
        let _deferral = Deferral::begin();
        let is_mine = FORKS.get();
        if !is_mine {
            self.lock();
        }
        // SAFETY: this thread has the lock, and is not in here already: no handler runs in it.
        let answer = call(unsafe { &mut *self.chunks.get() });
        if !is_mine {
            self.unlock();
        }
        answer
    }
}

/// Before a fork(2): a child is to find the heap whole.
pub fn hold() {
    HEAP.lock();
    FORKS.set(true);
}

/// After it, in either process.
pub fn release() {
    FORKS.set(false);
    HEAP.unlock();
}

// SAFETY: dlmalloc keeps the promises, and the lock has one thread in it at a time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        self.with(|chunks| unsafe { chunks.malloc(layout.size(), layout.align()) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        self.with(|chunks| unsafe { chunks.calloc(layout.size(), layout.align()) })
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        self.with(|chunks| unsafe { chunks.free(at, layout.size(), layout.align()) });
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        self.with(|chunks| unsafe { chunks.realloc(at, layout.size(), layout.align(), len) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn threads_that_allocate_at_once_have_chunks_of_their_own() {
        static BYTES: AtomicUsize = AtomicUsize::new(0);
        let threads: Vec<_> = (0..4u8)
            .map(|thread| {
                std::thread::spawn(move || {
                    let mut held: Vec<Vec<u8>> = Vec::new();
                    for step in 0..20_000usize {
                        held.push(vec![thread; step * 7919 % 3000]);
                        if held.len() > 50 {
                            let chunk = held.swap_remove(step * 31 % 50);
                            assert!(chunk.iter().all(|&byte| byte == thread));
                            BYTES.fetch_add(chunk.len(), Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("it finds its own bytes"));
        assert!(BYTES.load(Ordering::Relaxed) > 0);
    }
}
