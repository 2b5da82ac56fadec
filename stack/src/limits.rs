//! Every bound of the stack, with its reason.

/// Frames taken from or given to a ring at once: enough to spread a kick's cost, few enough to stay in the L1 cache.
pub const BURST_FRAMES_MAX: usize = 64;

/// Room in front of an IP packet for the Ethernet header and one VLAN tag.
pub const LINK_HEADER_LEN_MAX: usize = 18;
