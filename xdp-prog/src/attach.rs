//! Attaching the steering program to an interface, or joining those who already have.
//!
//! The program is attached by a bpf_link, which lives as long as an fd of it is open anywhere: each process that steers
//! on the interface holds one, and the last to go, however it goes, takes the program along. Processes find it by asking
//! the interface for its program and then the kernel's links for the one that attached it; nothing is pinned, so that
//! nothing is left behind. Between those questions others may attach or die, therefore some answers mean "ask again".

use crate::program::{Opened, Program};
use crate::{AttachedMode, Mode, bpf};
use libbpf_sys as sys;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

/// Attempts to join or attach before giving up: each takes as long as another process of ours needs to attach or die.
const ATTEMPTS_MAX: u32 = 200;
/// Pause between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(1);

/// A program on an interface, kept there by this link.
pub(crate) struct Attachment {
    pub link: OwnedFd,
    pub program: Program,
    pub mode: AttachedMode,
}

/// Joins the program of ours that is attached to the interface, or attaches it. One that is there is joined in
/// whatever mode it has.
pub(crate) fn join_or_attach(interface_index: u32, mode: Mode) -> io::Result<Attachment> {
    let mut attempt = 1;
    loop {
        let outcome = match attached(interface_index)? {
            Some((program_id, mode)) => join(interface_index, program_id, mode),
            None => attach(interface_index, mode),
        };
        match outcome {
            Err(error) if is_race(&error) && attempt < ATTEMPTS_MAX => thread::sleep(ATTEMPT_PAUSE),
            outcome => return outcome,
        }
        attempt += 1;
    }
}

/// Whether an error may come from another process that attached (EBUSY, in generic mode EEXIST), is about to (EAGAIN)
/// or has just let go (ENOENT).
fn is_race(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST | libc::EAGAIN | libc::ENOENT))
}

/// The id and mode of the interface's XDP program. One that was offloaded to the hardware does not count: ours can be
/// attached beside it.
fn attached(interface_index: u32) -> io::Result<Option<(u32, AttachedMode)>> {
    let mut options =
        sys::bpf_xdp_query_opts { sz: size_of::<sys::bpf_xdp_query_opts>() as sys::size_t, ..Default::default() };
    // SAFETY: `options` is live for libbpf to fill in.
    bpf::check(unsafe { sys::bpf_xdp_query(interface_index as i32, 0, &mut options) })?;
    Ok(match (options.drv_prog_id, options.skb_prog_id) {
        (0, 0) => None,
        (0, id) => Some((id, AttachedMode::Generic)),
        (id, _) => Some((id, AttachedMode::Native)),
    })
}

fn join(interface_index: u32, program_id: u32, mode: AttachedMode) -> io::Result<Attachment> {
    match Program::open(program_id)? {
        Opened::Ours(program) => Ok(Attachment { link: link_of(interface_index, program_id)?, program, mode }),
        Opened::Foreign(name) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("another XDP program ({name}, id {program_id}) is attached to the interface"),
        )),
    }
}

/// The link that attached a program to an interface; `ENOENT` if there is none (any more).
fn link_of(interface_index: u32, program_id: u32) -> io::Result<OwnedFd> {
    let mut id = 0;
    loop {
        id = bpf::link_id_after(id)?;
        let link = match bpf::link_by_id(id) {
            // Another process's link, which came or went meanwhile.
            Err(error) if is_race(&error) => continue,
            link => link?,
        };
        let info = bpf::link_info(&link)?;
        if info.type_ != sys::BPF_LINK_TYPE_XDP || info.prog_id != program_id {
            continue;
        }
        // SAFETY: of a link of this type the kernel fills in this member.
        let xdp = unsafe { info.__bindgen_anon_1.xdp };
        if xdp.ifindex == interface_index {
            return Ok(link);
        }
    }
}

fn attach(interface_index: u32, mode: Mode) -> io::Result<Attachment> {
    let program = Program::load()?;
    let (link, mode) = match mode {
        Mode::Native => (link(&program, interface_index, AttachedMode::Native)?, AttachedMode::Native),
        Mode::Generic => (link(&program, interface_index, AttachedMode::Generic)?, AttachedMode::Generic),
        Mode::Auto => match link(&program, interface_index, AttachedMode::Native) {
            Ok(link) => (link, AttachedMode::Native),
            Err(error) if is_race(&error) => return Err(error),
            Err(_) => (link(&program, interface_index, AttachedMode::Generic)?, AttachedMode::Generic),
        },
    };
    Ok(Attachment { link, program, mode })
}

/// BPF_LINK_CREATE of bpf(2). It never replaces a program that is there.
fn link(program: &Program, interface_index: u32, mode: AttachedMode) -> io::Result<OwnedFd> {
    let flags = match mode {
        AttachedMode::Native => sys::XDP_FLAGS_DRV_MODE,
        AttachedMode::Generic => sys::XDP_FLAGS_SKB_MODE,
    };
    let options = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as sys::size_t,
        flags,
        ..Default::default()
    };
    let (program, interface_index) = (program.fd.as_raw_fd(), interface_index as i32);
    // SAFETY: the program is open, and `options` outlives the call.
    let fd = bpf::check(unsafe { sys::bpf_link_create(program, interface_index, sys::BPF_XDP, &options) })?;
    // SAFETY: the kernel has just made this fd, and nobody else knows its number.
    crate::high_fd(unsafe { OwnedFd::from_raw_fd(fd) })
}
