//! What the tests need of the machine: root, and the library that they preload.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The root of the work tree.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// The release build of libuserstack.so, in the target directory that this test was built in.
///
/// # Panics
/// If it has not been built.
pub fn library() -> PathBuf {
    let test = std::env::current_exe().expect("/proc is mounted");
    // TARGET/PROFILE/deps/TEST
    let target = test.ancestors().nth(3).expect("a test lies in a target directory");
    let library = target.join("release/libuserstack.so");
    assert!(library.exists(), "{} is missing: run `cargo build --release` first", library.display());
    library
}

/// Fails on a machine that cannot run the tests; it never skips them.
pub(crate) fn require_root() {
    let owner = std::fs::metadata("/proc/self").expect("/proc is mounted").uid();
    assert_eq!(owner, 0, "the system tests make network namespaces: run them as root");
}
