//! What is attached to an interface, and which ports a program has claimed: seen from outside, with ip, bpftool and
//! /proc.

use crate::hosts::INTERFACE;
use crate::namespace::Namespace;
use crate::process::with_children;

/// The mode of the XDP program on the namespace's interface, as ip-link(8) names it: `xdp` (native) or
/// `xdpgeneric`. `None`: no program is attached.
pub fn attached_mode(namespace: &Namespace) -> Option<&'static str> {
    let link = namespace.ip(&["link", "show", INTERFACE]);
    ["xdp", "xdpgeneric"]
        .into_iter()
        .find(|mode| link.split_whitespace().any(|word| word.split('/').next() == Some(mode)))
}

/// Whether a process or a child of it has claimed new connections to a local TCP port: from then on they come to it
/// and not to the kernel.
pub fn is_claimed(pid: u32, port: u16) -> bool {
    with_children(pid).into_iter().flat_map(hash_maps).any(|map| has_claim(&map, port))
}

/// The ids of the BPF hash maps that a process has open, from its fdinfo (proc(5)).
fn hash_maps(pid: u32) -> Vec<String> {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    let mut ids = Vec::new();
    for descriptor in descriptors.flatten() {
        // A descriptor that was closed meanwhile is none.
        let text = std::fs::read_to_string(descriptor.path()).unwrap_or_default();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("map_type:") == Some(BPF_MAP_TYPE_HASH) {
            ids.extend(field("map_id:").map(String::from));
        }
    }
    ids
}

const BPF_MAP_TYPE_HASH: &str = "1";

/// Looks for a claim in a table whose keys are an address (16 bytes), a port, a protocol and an IP version, and whose
/// values say which new connections are claimed too: 0 for none.
fn has_claim(map: &str, port: u16) -> bool {
    const TCP: u8 = 6;
    let [high, low] = port.to_be_bytes();
    // A map that was freed meanwhile has no claims.
    let Ok(dump) = std::process::Command::new("bpftool").args(["-j", "map", "dump", "id", map]).output() else {
        panic!("bpftool cannot be started; tests/run.sh installs what is needed");
    };
    let text = String::from_utf8_lossy(&dump.stdout);
    text.split("\"key\":").skip(1).any(|entry| {
        let mut arrays = entry.split('[').skip(1).map(bytes_of_array);
        let (key, value) = (arrays.next().unwrap_or_default(), arrays.next().unwrap_or_default());
        key.get(16..19) == Some(&[high, low, TCP]) && value.iter().any(|&byte| byte != 0)
    })
}

/// The bytes at the beginning of `"0x00","0x1f"]...`.
fn bytes_of_array(text: &str) -> Vec<u8> {
    let inside = text.split(']').next().unwrap_or_default();
    let numbers = inside.split(',').map(|word| word.trim_matches('"').trim_start_matches("0x"));
    numbers.filter_map(|digits| u8::from_str_radix(digits, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::bytes_of_array;

    #[test]
    fn arrays_of_bpftool_are_read() {
        assert_eq!(bytes_of_array("\"0x00\",\"0x1f\",\"0x90\"],\"value\":"), [0x00, 0x1f, 0x90]);
    }
}
