//! Compiles the steering program with clang, for the loader to embed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "src/steer.bpf.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");
    if let Err(sentence) = compile(&out_dir().join("steer.bpf.o")) {
        println!("cargo::error={sentence}");
    }
}

fn compile(object: &Path) -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    // The bpf target has no C library of its own: <asm/types.h> is the host's, which Debian keeps by architecture.
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    // libbpf's headers, as installed by the build of libbpf-sys.
    let libbpf_headers = env::var("DEP_BPF_INCLUDE").expect("libbpf-sys sets it");
    let status = Command::new(&clang)
        // v3: with compare-and-swap.
        .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-mcpu=v3"])
        .arg(format!("-I{libbpf_headers}"))
        .arg(format!("-I/usr/include/{architecture}-linux-gnu"))
        .args(["-c", SOURCE, "-o"])
        .arg(object)
        .status()
        .map_err(|error| {
            format!("The steering program is compiled with {clang}, which does not start ({error}); on Debian: apt-get install clang.")
        })?;
    if !status.success() {
        return Err(format!(
            "{clang} could not compile {SOURCE}; on Debian it needs the packages clang and linux-libc-dev."
        ));
    }
    Ok(())
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"))
}
