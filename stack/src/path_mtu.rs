//! Path MTU discovery (RFC 1191, RFC 8201): what routers said of paths, and paths that swallow what is too big without
//! a word (black holes, RFC 4821).
//!
//! What is learned of a destination holds for ten minutes; then its flows, open ones and new ones, try again with what
//! their route allows. An open flow gets another smoltcp interface, whose MTU is smaller, and what was under way is
//! sent again at once.

use crate::icmp::IcmpError;
use crate::limits::{
    BLACK_HOLE_MSS, MTU_MIN, MTU_MIN_V6, PATH_MTU_LEN, PATH_MTU_STEP, PATH_MTU_STEP_FROM, PATH_MTUS_MAX,
};
use crate::link::Link;
use crate::slab::Key;
use crate::stack::Stack;
use crate::{Instant, limits};
use ahash::RandomState;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// What a path lets through, in bytes of IP packet, and until when that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathMtu {
    /// The largest packet.
    pub mtu: u16,
    /// Routers may cut packets up: no path is as narrow as this one claims to be, and Linux then lets them, too.
    pub may_fragment: bool,
    /// When to try larger ones again.
    pub until: Instant,
}

/// The paths to destinations that are narrower than their routes.
pub struct PathMtus {
    known: HashMap<IpAddr, PathMtu, RandomState>,
    /// In the order of `until`. Entries that were renewed are recognised when their time comes.
    oldest: VecDeque<(Instant, IpAddr)>,
}

impl PathMtus {
    /// Nothing known; `seed` keys the hash.
    pub fn new(seed: u64) -> Self {
        PathMtus { known: HashMap::with_hasher(RandomState::with_seed(seed as usize)), oldest: VecDeque::new() }
    }

    /// What is known of the path to `remote`.
    pub fn get(&self, remote: IpAddr, now: Instant) -> Option<PathMtu> {
        if self.known.is_empty() {
            return None;
        }
        self.known.get(&remote).copied().filter(|path| now < path.until)
    }

    /// The path to `remote` is this narrow. The oldest entry makes room.
    pub fn learn(&mut self, remote: IpAddr, path: PathMtu, now: Instant) {
        while self.oldest.len() >= PATH_MTUS_MAX || self.oldest.front().is_some_and(|&(until, _)| until <= now) {
            let Some((until, oldest)) = self.oldest.pop_front() else { break };
            if self.known.get(&oldest).is_some_and(|path| path.until == until) {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(remote, path);
        self.oldest.push_back((path.until, remote));
    }
}

/// The next MTU below the length of a packet that an old router found too big: the plateaus of RFC 1191, 7.1.
fn plateau_below(packet_len: usize) -> usize {
    const PLATEAUS: [usize; 8] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508];
    PLATEAUS.into_iter().find(|&plateau| plateau < packet_len).unwrap_or(0)
}

impl Stack {
    /// Gives a flow the MTU of its link, its route and its path; what was learned too long ago is forgotten.
    pub(crate) fn fit_mtu(&mut self, key: Key, route_mtu: usize, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let remote = flow.key.remote().ip();
        let known = [flow.path_mtu, self.path_mtus.get(remote, now)].into_iter().flatten();
        flow.path_mtu = known.filter(|path| now < path.until).min_by_key(|path| path.mtu);
        let path_mtu = flow.path_mtu.map_or(usize::MAX, |path| path.mtu.into());
        let link_mtu = self.ports[usize::from(flow.link.0)].link.mtu();
        let mtu = link_mtu.min(route_mtu).min(path_mtu).max(MTU_MIN);
        let interface = self.interface_for(mtu);
        if let Some(flow) = self.flows.get_mut(key) {
            flow.interface = interface;
            flow.loss.set_mss(flow.send_mss(mtu));
        }
    }

    /// What a new flow to `remote` may send by a link, as far as is known before a route is asked for.
    pub(crate) fn mtu_towards(&self, remote: IpAddr, link_mtu: usize, now: Instant) -> usize {
        self.path_mtus.get(remote, now).map_or(link_mtu, |path| link_mtu.min(path.mtu.into()))
    }

    /// A router had to drop a packet of a flow's: tcp_v4_mtu_reduced() and tcp_v6_mtu_reduced() of Linux.
    ///
    /// RFC 5927, 7.2: only what is larger than the MTU that is claimed can have been dropped for that.
    pub(crate) fn shrink_path(&mut self, key: Key, error: &IcmpError, mtu: u32, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let remote = flow.key.remote().ip();
        let claimed = match mtu {
            0 if remote.is_ipv4() => plateau_below(error.packet_len).max(MTU_MIN),
            mtu => mtu as usize,
        };
        let mtu = claimed.max(MTU_MIN);
        // RFC 8201, 4: no path of IPv6 is narrower than its smallest link.
        let is_believed = remote.is_ipv4() || claimed >= MTU_MIN_V6;
        let current = self.interfaces[flow.interface].mtu;
        if !flow.follows_path() || !is_believed || error.packet_len <= claimed || current <= mtu {
            self.counters.drop_icmp += 1;
            return;
        }
        let path = PathMtu { mtu: coarse(mtu), may_fragment: claimed < MTU_MIN, until: now + PATH_MTU_LEN };
        self.path_mtus.learn(remote, path, now);
        self.narrow(key, path, now);
    }

    /// What is under way has been sent again and again, and nothing was heard: its segments may be too big for a path
    /// whose routers do not say so (RFC 4821, 7.7). As Linux's tcp_mtu_probing, but no smaller than what any path has
    /// to carry: a peer that is merely away for a while would otherwise be sent crumbs.
    pub(crate) fn suspect_black_hole(&mut self, key: Key, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let current = self.interfaces[flow.interface].mtu;
        let mtu = match flow.key.remote().is_ipv4() {
            true if current > BLACK_HOLE_MSS + 40 => BLACK_HOLE_MSS + 40,
            true => MTU_MIN,
            false => MTU_MIN_V6,
        };
        let under_way = flow.loss.flight() as usize;
        if !flow.follows_path() || mtu >= current || under_way <= flow.send_mss(mtu) as usize {
            return;
        }
        self.counters.black_holes += 1;
        let path = PathMtu { mtu: mtu as u16, may_fragment: false, until: now + PATH_MTU_LEN };
        self.narrow(key, path, now);
    }

    /// A flow's path is narrower than it was.
    fn narrow(&mut self, key: Key, path: PathMtu, now: Instant) {
        self.counters.path_mtus_lowered += 1;
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.path_mtu = Some(path);
        let route_mtu = flow.route_mtu();
        self.fit_mtu(key, route_mtu, now);
        if let Some(flow) = self.flows.get_mut(key)
            && flow.recovers()
        {
            flow.loss.send_again(now);
        }
        self.mark_dirty(key);
    }

    /// Tries again what a path has long been too narrow for.
    pub(crate) fn widen_path_if_due(&mut self, key: Key, now: Instant) {
        if let Some(flow) = self.flows.get(key)
            && flow.path_mtu.is_some_and(|path| path.until <= now)
        {
            self.fit_mtu(key, flow.route_mtu(), now);
        }
    }
}

/// Rounded down where there would be too many of them: each takes a smoltcp interface.
fn coarse(mtu: usize) -> u16 {
    let mtu = mtu.min(limits::PACKET_LEN_MAX);
    let step = if mtu < PATH_MTU_STEP_FROM { 1 } else { PATH_MTU_STEP };
    (mtu / step * step) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PACKET_LEN_MAX;
    use std::net::Ipv4Addr;

    fn path(until_s: i64) -> PathMtu {
        PathMtu { mtu: 1280, may_fragment: false, until: Instant::from_secs(until_s) }
    }

    fn remote(number: usize) -> IpAddr {
        Ipv4Addr::from_bits(number as u32).into()
    }

    #[test]
    fn what_is_known_of_a_path_ends_in_time_and_is_renewed() {
        let mut paths = PathMtus::new(1);
        paths.learn(remote(1), path(10), Instant::ZERO);
        paths.learn(remote(1), path(20), Instant::ZERO);
        assert_eq!(paths.get(remote(1), Instant::from_secs(19)), Some(path(20)));
        assert_eq!(paths.get(remote(1), Instant::from_secs(20)), None);
        paths.learn(remote(2), path(30), Instant::from_secs(15));
        assert!(paths.get(remote(1), Instant::from_secs(15)).is_some());
        paths.learn(remote(2), path(40), Instant::from_secs(25));
        assert_eq!((paths.known.len(), paths.oldest.len()), (1, 2));
    }

    #[test]
    fn the_oldest_path_makes_room() {
        let mut paths = PathMtus::new(1);
        for number in 0..2 * PATH_MTUS_MAX {
            paths.learn(remote(number), path(600), Instant::ZERO);
            paths.learn(remote(0), path(600 + number as i64), Instant::ZERO);
        }
        assert!(paths.known.len() <= PATH_MTUS_MAX && paths.oldest.len() <= PATH_MTUS_MAX);
        assert!(paths.get(remote(2 * PATH_MTUS_MAX - 1), Instant::ZERO).is_some());
        assert!(paths.get(remote(PATH_MTUS_MAX), Instant::ZERO).is_none());
    }

    #[test]
    fn there_are_not_too_many_mtus() {
        let mut mtus: Vec<u16> = (0..=PACKET_LEN_MAX + 1).map(coarse).collect();
        mtus.dedup();
        assert!(mtus[MTU_MIN..].len() < 1_750, "{}", mtus[MTU_MIN..].len());
        assert!((MTU_MIN..PATH_MTU_STEP_FROM).all(|mtu| usize::from(coarse(mtu)) == mtu));
        assert_eq!((coarse(8_999), coarse(1 << 20)), (8_960, 65_280));
    }

    #[test]
    fn rfc1191_7_1_plateaus() {
        for (packet_len, expected) in [(65_535, 32_000), (1_500, 1_492), (1_492, 1_006), (509, 508), (508, 0)] {
            assert_eq!(plateau_below(packet_len), expected);
        }
    }
}
