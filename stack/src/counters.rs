//! What happened, in numbers that only grow; written out as one JSON object at exit (`USERSTACK_STATS`).

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The stack's counters.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// Calls `visit` with each counter's name and value.
            pub fn for_each(&self, mut visit: impl FnMut(&'static str, u64)) {
                $(visit(stringify!($name), self.$name);)*
            }
        }
    };
}

counters! {
    /// Frames received from the links.
    rx_frames,
    /// Bytes received from the links, Ethernet headers included.
    rx_bytes,
    /// Frames handed to the links.
    tx_frames,
    /// Bytes handed to the links, Ethernet headers included.
    tx_bytes,
    /// UDP datagrams received into a socket's queue.
    datagrams_received,
    /// UDP datagrams sent.
    datagrams_sent,
    /// Flows opened by connect.
    flows_opened,
    /// Flows accepted into a listener's accept queue.
    flows_accepted,
    /// Flows that ended by a RST of the peer.
    flows_reset,
    /// Segments that were sent again.
    retransmissions,
    /// Challenge ACKs sent (RFC 5961).
    challenge_acks_sent,
    /// Segments dropped because their RST, SYN or ACK is not acceptable (RFC 5961).
    drop_unacceptable,
    /// ICMP errors received that quote a segment of ours.
    icmp_errors,
    /// Drops: ICMP errors about what was not sent (RFC 5927), or that say nothing new.
    drop_icmp,
    /// Times that a flow's path turned out to be narrower than was known.
    path_mtus_lowered,
    /// Of these, the times that no router said so (RFC 4821).
    black_holes,
    /// Probes sent to a peer that is silent: keepalive.
    probes_sent,
    /// Flows given up because the peer did not answer.
    flows_timed_out,
    /// RSTs sent for segments that belong to no flow.
    resets_sent,
    /// Drops: a header that does not parse, or a packet that is not for a socket.
    drop_malformed,
    /// Drops: a checksum that does not hold.
    drop_checksum,
    /// SYNs that found the SYN queue full.
    syn_queue_overflows,
    /// SYN cookies sent.
    syn_cookies_sent,
    /// Flows opened by a SYN cookie.
    syn_cookies_accepted,
    /// Drops: SYNs, and ACKs that would open a flow, because the listener's accept queue was full.
    drop_backlog,
    /// Drops: UDP datagrams for a socket whose receive queue was full.
    drop_receive_queue,
    /// Drops: UDP datagrams for a claimed port from somebody whom no socket there wants.
    drop_no_socket,
    /// Drops: no free frame to send from.
    drop_no_frame,
    /// Drops: no next hop, or its queue of waiting packets was full.
    drop_no_next_hop,
    /// Drops: bytes beyond the advertised window.
    drop_beyond_window,
    /// Drops: SYNs and bytes for which there was no memory.
    drop_no_memory,
    /// Flows that were given other buffers.
    buffers_changed,
    /// System calls that told the kernel of frames to send.
    kicks,
    /// Turns of the stack.
    turns,
}
