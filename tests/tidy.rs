//! What no compiler checks of the source: exported symbols, import directions, lengths, where unsafe may stand, and
//! that the documents name files that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use userstack_tests::{library, run_command, workspace};

/// Lines of a file: one idea each.
const FILE_LINES_MAX: usize = 500;

/// The parts of the shim that touch the application's memory, the C ABI or the process: only they may be unsafe.
const UNSAFE_IN_SHIM: &[&str] = &[
    "args.rs",
    "attach.rs",
    "cancel.rs",
    "clock.rs",
    "config.rs",
    "export.rs",
    "fork.rs",
    "heap.rs",
    "held_signals.rs",
    "forward.rs",
    "hooks/",
    "interruption.rs",
    "lib.rs",
    "log.rs",
    "message.rs",
    "pieces.rs",
    "ret.rs",
    "signals.rs",
    "sys.rs",
    "sys/",
    "world.rs",
];

/// The source files below a directory of the work tree that end in one of `extensions`, and their text.
fn sources(directory: &str, extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut directories = vec![workspace().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory of the work tree").flatten() {
            let path = entry.path();
            let is_source = path.extension().is_some_and(|is| extensions.iter().any(|extension| is == *extension));
            if path.is_dir() && !path.ends_with("target") {
                directories.push(path);
            } else if is_source {
                let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
                found.push((path.strip_prefix(workspace()).expect("below the work tree").to_path_buf(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {directory}");
    found
}

/// The code of a file without its unit tests, line by line, and without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| !line.contains("#[cfg(test)]"));
    lines.map(|line| line.split("//").next().unwrap_or_default()).enumerate().map(|(index, line)| (index + 1, line))
}

/// Fails with every place that was complained of.
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn the_library_exports_its_hooks_and_nothing_else() {
    let library = library();
    let symbols = run_command(&["nm", "-D", "--defined-only", "--format=just-symbols", &library.to_string_lossy()]);
    let exported: BTreeSet<&str> = symbols.lines().collect();
    let golden: BTreeSet<&str> = include_str!("exports.txt").lines().collect();
    let (added, missing): (Vec<_>, Vec<_>) =
        (exported.difference(&golden).collect(), golden.difference(&exported).collect());
    assert!(added.is_empty() && missing.is_empty(), "not in exports.txt: {added:?}; not exported: {missing:?}");
}

#[test]
fn imports_run_from_the_shim_to_the_stack_to_the_steering_program() {
    let mut complaints = Vec::new();
    for (member, forbidden) in [
        ("xdp-prog", &["userstack-stack", "userstack-shim"][..]),
        ("stack", &["userstack-shim"]),
        ("shim", &["userstack-xdp-prog"]),
    ] {
        let manifest = std::fs::read_to_string(workspace().join(member).join("Cargo.toml")).expect("a member");
        for name in forbidden {
            if manifest.lines().any(|line| line.starts_with(name)) {
                complaints.push(format!("{member} depends on {name}"));
            }
        }
    }
    // Of the stack, only what touches the kernel knows the steering program.
    for (path, text) in sources("stack/src", &["rs"]) {
        let at_the_kernel = path.starts_with("stack/src/kernel");
        if !at_the_kernel && code(&text).any(|(_, line)| line.contains("xdp_prog")) {
            complaints.push(format!("{} names xdp_prog", path.display()));
        }
    }
    none(complaints);
}

#[test]
fn files_are_short() {
    let mut complaints = Vec::new();
    for directory in ["shim", "stack", "xdp-prog", "tests", "bench"] {
        for (path, text) in sources(directory, &["rs", "c", "h", "sh"]) {
            let lines = text.lines().count();
            if lines > FILE_LINES_MAX {
                complaints.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    none(complaints);
}

#[test]
fn unsafe_stands_where_it_may_and_says_why() {
    let mut complaints = Vec::new();
    for directory in ["shim/src", "stack/src", "xdp-prog/src"] {
        for (path, text) in sources(directory, &["rs"]) {
            let may_be_unsafe = match directory {
                "shim/src" => {
                    let below = path.strip_prefix(directory).expect("found below it");
                    UNSAFE_IN_SHIM.iter().any(|allowed| below.starts_with(allowed))
                }
                "stack/src" => path.starts_with("stack/src/kernel"),
                _ => true,
            };
            let lines: Vec<&str> = text.lines().collect();
            for (number, _) in code(&text).filter(|(_, line)| opens_unsafe(line)) {
                let place = format!("{}:{number}", path.display());
                if !may_be_unsafe {
                    complaints.push(format!("{place}: unsafe has no place here"));
                }
                if !says_why(&lines[..number]) {
                    complaints.push(format!("{place}: no SAFETY comment"));
                }
            }
        }
    }
    none(complaints);
}

/// Whether the line begins something unsafe that needs a reason: a block or an implementation.
fn opens_unsafe(line: &str) -> bool {
    line.contains("unsafe {") || line.trim_start().starts_with("unsafe impl")
}

/// Whether a SAFETY comment stands in the statement that ends with the last of `lines`, or right above it.
fn says_why(lines: &[&str]) -> bool {
    lines.iter().rev().take(10).any(|line| line.contains("SAFETY:"))
}

/// std's files, sockets and streams come back in through the hooks.
#[test]
fn the_library_uses_no_calls_that_re_enter_its_hooks() {
    const FORBIDDEN: [&str; 9] = [
        "println!",
        "eprintln!",
        "print!(",
        "dbg!",
        "std::fs",
        "net::TcpStream",
        "net::UdpSocket",
        "io::stdout",
        "io::stderr",
    ];
    let mut complaints = Vec::new();
    for directory in ["shim/src", "stack/src", "xdp-prog/src"] {
        for (path, text) in sources(directory, &["rs"]) {
            for (number, line) in code(&text) {
                for name in FORBIDDEN.iter().filter(|name| line.contains(**name)) {
                    complaints.push(format!("{}:{number}: {name}", path.display()));
                }
            }
        }
    }
    none(complaints);
}

#[test]
fn the_documents_name_files_that_exist() {
    let mut complaints = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md"] {
        let text = std::fs::read_to_string(workspace().join(document)).expect("a document at the root");
        // Every other piece between backticks is inside them.
        for name in text.split('`').skip(1).step_by(2).filter(|name| is_path(name)) {
            if !workspace().join(name.trim_start_matches("./")).exists() {
                complaints.push(format!("{document}: {name}"));
            }
        }
    }
    none(complaints);
}

/// Whether a piece of code in a document is a path of the work tree.
fn is_path(text: &str) -> bool {
    let first = Path::new(text.trim_start_matches("./")).components().next();
    let below_a_member = first.is_some_and(|first| {
        ["shim", "stack", "xdp-prog", "tests", "bench", ".ci"].iter().any(|member| first.as_os_str() == *member)
    });
    let is_one_word = !text.contains(char::is_whitespace) && !text.contains('*');
    is_one_word && text.contains('/') && below_a_member
}
