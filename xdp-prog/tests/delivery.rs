//! Where frames that are really sent arrive: at the AF_XDP socket or at a socket of the kernel.

mod common;

use common::frame::{self, UDP};
use common::network::{ADDRESS_V4, Network};
use common::receiver::Receiver;
use std::net::UdpSocket;
use std::time::Duration;
use xdp_prog::{AttachedMode, ClaimKey, Mode, Opens, Steering};

const CLAIMED: u16 = 7_000;
const UNCLAIMED: u16 = 7_001;

/// A kernel socket that gives up after ten seconds, which only a failing test takes.
fn kernel_socket(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((ADDRESS_V4, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut payload = [0; 64];
    let len = socket.recv(&mut payload).unwrap();
    payload[..len].to_vec()
}

fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    frame::udp(&format!("{ADDRESS_V4}:{port}"), payload)
}

fn claim(steering: &Steering) {
    steering.claim(&ClaimKey::new(UDP, ADDRESS_V4.parse().unwrap(), CLAIMED), Opens::All).unwrap();
}

fn claimed_arrives_and_unclaimed_goes_to_the_kernel(mode: Mode, expected: AttachedMode) {
    let network = Network::new();
    let steering = Steering::attach(network.index, mode).unwrap();
    assert_eq!(steering.attached_mode(), expected);
    let mut receiver = Receiver::bind(0);
    let kernel = kernel_socket(UNCLAIMED);
    claim(&steering);

    // Claimed, but nobody owns the queue yet: as if the owner had just died.
    let claimed_at_the_kernel = kernel_socket(CLAIMED);
    network.send(&datagram(CLAIMED, b"early"));
    assert_eq!(receive(&claimed_at_the_kernel), b"early");

    steering.own_queue(0, receiver.fd()).unwrap();
    network.send(&datagram(CLAIMED, b"ours"));
    network.send(&datagram(UNCLAIMED, b"theirs"));
    assert_eq!(receiver.receive(), datagram(CLAIMED, b"ours"));
    assert_eq!(receive(&kernel), b"theirs");
    assert!(!receiver.has_frame());

    drop(receiver);
    network.send(&datagram(CLAIMED, b"late"));
    assert_eq!(receive(&claimed_at_the_kernel), b"late");
}

#[test]
fn native() {
    claimed_arrives_and_unclaimed_goes_to_the_kernel(Mode::Native, AttachedMode::Native);
}

#[test]
fn generic() {
    claimed_arrives_and_unclaimed_goes_to_the_kernel(Mode::Generic, AttachedMode::Generic);
}

#[test]
fn auto_is_native_on_veth() {
    claimed_arrives_and_unclaimed_goes_to_the_kernel(Mode::Auto, AttachedMode::Native);
}

#[test]
fn jumbo_frame_arrives_in_several_buffers() {
    for mode in [Mode::Native, Mode::Generic] {
        let network = Network::new();
        let steering = Steering::attach(network.index, mode).unwrap();
        let mut receiver = Receiver::bind(0);
        steering.own_queue(0, receiver.fd()).unwrap();
        claim(&steering);
        let payload: Vec<u8> = (0..8_900u32).map(|at| at as u8).collect();
        network.send(&datagram(CLAIMED, &payload));
        assert_eq!(receiver.receive(), datagram(CLAIMED, &payload));
    }
}
