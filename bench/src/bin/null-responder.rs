//! The limit of a machine: a server on a bare AF_XDP socket that answers TCP from the headers alone.
//!
//! `null-responder --interface NAME --listen ADDRESS:PORT --mode native|generic`, until SIGTERM or SIGINT. It takes bursts
//! off the RX ring of queue 0, spins for 30 us when there is none, and then sleeps.

use std::{
    error::Error,
    ffi::CString,
    io::{self, Write},
    net::SocketAddrV4,
    num::NonZeroU32,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    thread,
    time::{Duration, Instant},
};
use userstack_bench::{
    arguments::Arguments,
    epoll::{Epoll, READABLE},
    responder::{self, ANSWER_LEN_MAX},
    termination,
};
use xdp_prog::{ClaimKey, Mode, Opens, Steering};
use xsk_rs::{
    CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem,
    config::{BindFlags, Interface, LibxdpFlags, SocketConfig, UmemConfig},
};

const SPIN: Duration = Duration::from_micros(30);

/// As many frames as one kick sends (xsk_generic_xmit's TX_BATCH_SIZE).
const BURST_FRAMES: usize = 32;

/// As many as the fill ring has room for by default.
const UMEM_FRAMES: NonZeroU32 = NonZeroU32::new(2048).unwrap();

/// The kernel releases a queue some time after its last owner ended; at most this long we wait for it, in milliseconds.
const RELEASE_MS_MAX: u32 = 200;

const QUEUE: u32 = 0;
const TERMINATION: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::from_env()?;
    let interface = CString::new(arguments.required::<String>("interface")?)?;
    let address: SocketAddrV4 = arguments.required("listen")?;
    let mode = match arguments.required::<String>("mode")?.as_str() {
        "native" => Mode::Native,
        "generic" => Mode::Generic,
        other => return Err(format!("--mode {other}: native or generic").into()),
    };
    arguments.finish()?;

    // SAFETY: the name ends with a zero byte.
    let interface_index = unsafe { libc::if_nametoindex(interface.as_ptr()) };
    if interface_index == 0 {
        return Err(io::Error::last_os_error().into());
    }
    let mut rings = Rings::open(Interface::new(interface))?;
    let steering = Steering::attach(interface_index, mode)?;
    steering.own_queue(QUEUE, rings.descriptor())?;
    steering.claim(&ClaimKey::new(libc::IPPROTO_TCP as u8, (*address.ip()).into(), address.port()), Opens::All)?;
    respond(&mut rings)?;
    Ok(())
}

/// Answers until a signal to end arrives while there is nothing to answer.
fn respond(rings: &mut Rings) -> io::Result<()> {
    let mut epoll = Epoll::new()?;
    let termination = termination::descriptor()?;
    epoll.add(rings.descriptor(), READABLE, 0)?;
    epoll.add(termination.as_fd(), READABLE, TERMINATION)?;
    let mut idle_since = Instant::now();
    loop {
        if rings.answer_burst()? {
            idle_since = Instant::now();
        } else if idle_since.elapsed() > SPIN {
            if epoll.wait(-1)?.any(|(token, _)| token == TERMINATION) {
                return Ok(());
            }
            idle_since = Instant::now();
        }
    }
}

/// An AF_XDP socket with its UMEM and four rings.
struct Rings {
    umem: Umem,
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    burst: [FrameDesc; BURST_FRAMES],
}

impl Rings {
    /// Binds to the interface's first queue and gives all frames to the fill ring.
    fn open(interface: Interface) -> Result<Rings, Box<dyn Error>> {
        let (umem, frames) = Umem::new(UmemConfig::default(), UMEM_FRAMES, false)?;
        let config = SocketConfig::builder()
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_COPY)
            .build();
        let mut attempts_left = RELEASE_MS_MAX;
        let (tx, rx, own_rings) = loop {
            // SAFETY: libxdp loads no program, so that dropping the socket has none to free.
            match unsafe { Socket::new(config, &umem, &interface, QUEUE) } {
                Err(_) if attempts_left > 0 => attempts_left -= 1,
                outcome => break outcome?,
            }
            thread::sleep(Duration::from_millis(1));
        };
        let (mut fill, completion) = own_rings.ok_or("the UMEM's first socket has no fill and completion ring")?;
        // SAFETY: the frames are this UMEM's, and nobody uses them yet.
        unsafe { fill.produce(&frames) };
        Ok(Rings { umem, rx, tx, fill, completion, burst: [FrameDesc::default(); BURST_FRAMES] })
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket stays open as long as `rx`, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// Answers a burst in the frames that it arrived in, and kicks once; false when the RX ring was empty.
    fn answer_burst(&mut self) -> io::Result<bool> {
        self.recycle_sent();
        // SAFETY: the ring is this UMEM's; the frames that it yields are ours until they go onto another ring.
        let received = unsafe { self.rx.consume(&mut self.burst) };
        let mut answers = 0;
        for frame in &mut self.burst[..received] {
            let mut answer = [0; ANSWER_LEN_MAX];
            // SAFETY: the RX ring just gave us this frame.
            let mut data = unsafe { self.umem.data_mut(frame) };
            if let Some(len) = responder::answer(data.contents(), &mut answer) {
                let mut cursor = data.cursor();
                cursor.set_pos(0);
                cursor.write_all(&answer[..len])?;
                // SAFETY: the frame is ours and written, and it is not used again before the completion ring yields it.
                answers += unsafe { self.tx.produce_one(frame) };
            } else {
                // SAFETY: the frame is ours, and it is not used again before the RX ring yields it.
                unsafe { self.fill.produce_one(frame) };
            }
        }
        if answers > 0 {
            self.tx.wakeup()?;
        }
        Ok(received > 0)
    }

    /// Gives the frames of sent answers back to the fill ring.
    fn recycle_sent(&mut self) {
        // SAFETY: the ring is this UMEM's; the frames that it yields are ours until they go onto another ring.
        let sent = unsafe { self.completion.consume(&mut self.burst) };
        // SAFETY: the completion ring just gave us these frames; the fill ring has room for all that there are.
        unsafe { self.fill.produce(&self.burst[..sent]) };
    }
}
