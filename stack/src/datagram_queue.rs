//! A UDP socket's receive queue: datagrams in the order of their arrival, bounded by SO_RCVBUF.

use crate::limits::DATAGRAM_COST;
use crate::outside::InterfaceId;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// What is known of a datagram that was received, beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it.
    pub source: SocketAddr,
    /// The address that it was sent to.
    pub destination: IpAddr,
    /// The interface that it arrived at.
    pub interface: InterfaceId,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// Its length in bytes.
    pub len: usize,
}

/// The queue. Its memory grows as it is needed, and then stays.
#[derive(Debug, Default)]
pub struct DatagramQueue {
    arrivals: VecDeque<Arrival>,
    bytes: VecDeque<u8>,
}

impl DatagramQueue {
    /// Adds a datagram, whose bytes are `payload`. False, and dropped, when more than `limit` bytes are queued already,
    /// each datagram's bookkeeping included.
    pub fn push(&mut self, arrival: Arrival, payload: &[u8], limit: usize) -> bool {
        debug_assert_eq!(arrival.len, payload.len());
        if self.bytes.len() + self.arrivals.len() * DATAGRAM_COST > limit {
            return false;
        }
        self.arrivals.push_back(arrival);
        self.bytes.extend(payload);
        true
    }

    /// The next datagram.
    pub fn front(&self) -> Option<&Arrival> {
        self.arrivals.front()
    }

    /// Copies as much of the next datagram as fits into `pieces`, one after the other.
    pub fn copy_front<'a>(&self, pieces: impl Iterator<Item = &'a mut [u8]>) {
        let Some(len) = self.front().map(|arrival| arrival.len) else { return };
        let (first, second) = self.bytes.as_slices();
        let first = &first[..first.len().min(len)];
        let mut rest = [first, &second[..len - first.len()]];
        for mut piece in pieces {
            for source in &mut rest {
                let (now, later) = source.split_at(source.len().min(piece.len()));
                piece[..now.len()].copy_from_slice(now);
                piece = &mut piece[now.len()..];
                *source = later;
            }
        }
    }

    /// Takes the next datagram away.
    pub fn pop(&mut self) {
        let Some(arrival) = self.arrivals.pop_front() else { return };
        if self.arrivals.is_empty() {
            // From the beginning again, so that a queue that is read in time stays in the cache.
            self.arrivals.clear();
            self.bytes.clear();
        } else {
            self.bytes.drain(..arrival.len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arrival(len: usize) -> Arrival {
        let source = ([10, 0, 0, 1], len as u16).into();
        let destination = [10, 0, 0, 2].into();
        Arrival { source, destination, interface: InterfaceId(0), hop_limit: 64, traffic_class: 0, len }
    }

    fn received(queue: &mut DatagramQueue, room: usize) -> Option<(Arrival, Vec<u8>)> {
        let mut bytes = vec![0; room];
        queue.copy_front(bytes.chunks_mut(3));
        let arrival = *queue.front()?;
        queue.pop();
        bytes.truncate(arrival.len);
        Some((arrival, bytes))
    }

    #[test]
    fn one_more_than_the_limit_is_taken() {
        let mut queue = DatagramQueue::default();
        assert!(queue.push(arrival(100), &[7; 100], 100));
        assert!(!queue.push(arrival(0), &[], 100));
        assert_eq!(received(&mut queue, 10), Some((arrival(100), vec![7; 10])));
        assert!(queue.push(arrival(0), &[], 100));
        assert_eq!(received(&mut queue, 10), Some((arrival(0), vec![])));
        assert_eq!(received(&mut queue, 10), None);
    }

    proptest! {
        /// Random pushes and pops against a queue of vectors.
        #[test]
        fn agrees_with_a_queue_of_vectors(
            operations in proptest::collection::vec((any::<bool>(), 0usize..70, 0usize..80), 0..300),
        ) {
            let mut queue = DatagramQueue::default();
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for (number, (push, len, room)) in operations.into_iter().enumerate() {
                if push {
                    let payload: Vec<u8> = (0..len).map(|at| (at * 31 + number) as u8).collect();
                    prop_assert!(queue.push(arrival(len), &payload, usize::MAX));
                    model.push_back(payload);
                } else {
                    let expected = model.pop_front().map(|mut payload| {
                        let arrival = arrival(payload.len());
                        payload.truncate(room);
                        (arrival, payload)
                    });
                    prop_assert_eq!(received(&mut queue, room), expected);
                }
            }
        }
    }
}
