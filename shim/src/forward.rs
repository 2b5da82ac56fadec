//! Exporting a variadic C function that is only seen on its way to the next definition: whatever its arguments are, they
//! arrive there as they came.
//!
//! Rust cannot define such functions. What is exported is a few instructions: they put the registers that may hold
//! arguments aside, call a function with the first one, put them back, and jump to where that function says.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The next definition of a function, once it is known.
pub struct Next(AtomicUsize);

impl Next {
    /// Not known yet.
    pub const fn new() -> Self {
        Next(AtomicUsize::new(0))
    }

    /// Its address; `symbol` is its name, ended by a zero.
    pub fn address(&self, symbol: &'static str) -> usize {
        match self.0.load(Ordering::Relaxed) {
            0 => {
                // SAFETY: the name is a C string, as dlsym(3) wants it.
                let address = unsafe { redhook::ld_preload::dlsym_next(symbol) }.addr();
                self.0.store(address, Ordering::Relaxed);
                address
            }
            address => address,
        }
    }
}

/// Exports functions whose body runs before the next definition; it sees the first argument as a word.
macro_rules! forward {
    ($($(#[$doc:meta])* fn $name:ident($first:ident) = $body:block;)*) => {
        mod forwards {
            $(
                $(#[$doc])*
                pub mod $name {
                    use super::super::*;

                    static NEXT: crate::forward::Next = crate::forward::Next::new();

                    extern "C" fn before($first: usize) -> usize {
                        $body;
                        NEXT.address(concat!(stringify!($name), "\0"))
                    }

                    crate::forward::export_jump!($name, before);

                    /// Looks the next definition up now, so that no dlsym(3) runs in a signal handler later.
                    pub fn resolve() {
                        NEXT.address(concat!(stringify!($name), "\0"));
                    }
                }
            )*
        }

        /// Looks up the next definitions of this file's variadic functions.
        pub fn resolve_forwards() {
            $(forwards::$name::resolve();)*
        }
    };
}

/// The instructions. System V ABI for x86-64: arguments are in rdi to r9 and xmm0 to xmm7, al says how many of the
/// latter; the rest is on the stack, which is left as it was.
#[cfg(target_arch = "x86_64")]
macro_rules! export_jump {
    ($name:ident, $before:ident) => {
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $name() {
            std::arch::naked_asm!(
                "push rbp",
                "mov rbp, rsp",
                "sub rsp, 192",
                "mov [rsp], rdi",
                "mov [rsp + 8], rsi",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], rcx",
                "mov [rsp + 32], r8",
                "mov [rsp + 40], r9",
                "mov [rsp + 48], rax",
                "movaps [rsp + 64], xmm0",
                "movaps [rsp + 80], xmm1",
                "movaps [rsp + 96], xmm2",
                "movaps [rsp + 112], xmm3",
                "movaps [rsp + 128], xmm4",
                "movaps [rsp + 144], xmm5",
                "movaps [rsp + 160], xmm6",
                "movaps [rsp + 176], xmm7",
                "call {before}",
                "mov r11, rax",
                "mov rdi, [rsp]",
                "mov rsi, [rsp + 8]",
                "mov rdx, [rsp + 16]",
                "mov rcx, [rsp + 24]",
                "mov r8, [rsp + 32]",
                "mov r9, [rsp + 40]",
                "mov rax, [rsp + 48]",
                "movaps xmm0, [rsp + 64]",
                "movaps xmm1, [rsp + 80]",
                "movaps xmm2, [rsp + 96]",
                "movaps xmm3, [rsp + 112]",
                "movaps xmm4, [rsp + 128]",
                "movaps xmm5, [rsp + 144]",
                "movaps xmm6, [rsp + 160]",
                "movaps xmm7, [rsp + 176]",
                "leave",
                "jmp r11",
                before = sym $before,
            )
        }
    };
}

/// The same for AArch64's procedure call standard: x0 to x8 and q0 to q7.
#[cfg(target_arch = "aarch64")]
macro_rules! export_jump {
    ($name:ident, $before:ident) => {
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $name() {
            std::arch::naked_asm!(
                "stp x29, x30, [sp, #-224]!",
                "stp x0, x1, [sp, #16]",
                "stp x2, x3, [sp, #32]",
                "stp x4, x5, [sp, #48]",
                "stp x6, x7, [sp, #64]",
                "str x8, [sp, #80]",
                "stp q0, q1, [sp, #96]",
                "stp q2, q3, [sp, #128]",
                "stp q4, q5, [sp, #160]",
                "stp q6, q7, [sp, #192]",
                "bl {before}",
                "mov x16, x0",
                "ldp x0, x1, [sp, #16]",
                "ldp x2, x3, [sp, #32]",
                "ldp x4, x5, [sp, #48]",
                "ldp x6, x7, [sp, #64]",
                "ldr x8, [sp, #80]",
                "ldp q0, q1, [sp, #96]",
                "ldp q2, q3, [sp, #128]",
                "ldp q4, q5, [sp, #160]",
                "ldp q6, q7, [sp, #192]",
                "ldp x29, x30, [sp], #224",
                "br x16",
                before = sym $before,
            )
        }
    };
}
pub(crate) use export_jump;
