//! The rig's own short commands (`ip`, `ss`, `bpftool`, `cc`): run, checked, captured.

use std::ffi::OsStr;
use std::process::Command;

/// What a command wrote to its standard output.
pub type Output = String;

/// Runs a command of the rig to its end and returns its standard output.
///
/// # Panics
/// If it cannot be started or fails; the message carries what it wrote to its standard error.
pub fn run_command<S: AsRef<OsStr>>(argv: &[S]) -> Output {
    let name = argv[0].as_ref().to_string_lossy();
    let output = Command::new(&argv[0])
        .args(&argv[1..])
        .output()
        .unwrap_or_else(|error| panic!("{name} cannot be started ({error}); tests/run.sh installs what is needed"));
    let arguments: Vec<_> = argv.iter().map(|word| word.as_ref().to_string_lossy()).collect();
    assert!(
        output.status.success(),
        "`{}` failed ({}): {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
