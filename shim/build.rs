//! The library is a program, too: the guardian.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-e,userstack_guardian");
    println!("cargo::rerun-if-changed=build.rs");
}
