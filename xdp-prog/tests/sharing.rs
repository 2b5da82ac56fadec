//! Several processes on one interface: joining, dying in any order, and other people's programs.

mod common;

use common::attached::program_id;
use common::frame;
use common::network::{ADDRESS_V4, INTERFACE, Network, PEER, index_of, ip, pipe};
use common::receiver::Receiver;
use libbpf_sys as sys;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use xdp_prog::{AttachedMode, ClaimKey, Mode, Opens, Steering};

/// A forked child. It is killed with SIGKILL when it is dropped, or when the test's thread ends.
struct Child {
    pid: libc::pid_t,
}

impl Child {
    /// Forks a child that runs `body` and exits with 0, or with the number of its error. It must not panic: another
    /// thread may have held a lock of the panic machinery when the child was forked.
    fn fork(body: impl FnOnce() -> io::Result<()>) -> Child {
        // SAFETY: the child runs only `body`, on a copy of this thread, and leaves by _exit.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            // SAFETY: takes numbers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let status = body().map_or_else(|error| error.raw_os_error().unwrap_or(255), |()| 0);
            // SAFETY: takes a number and does not return.
            unsafe { libc::_exit(status) };
        }
        Child { pid }
    }

    /// Forks a child that attaches and then holds on; returns when it has attached.
    fn holder(network: &Network) -> Child {
        let (mut read, mut write) = pipe();
        let child = Child::fork(|| {
            let _steering = Steering::attach(network.index, Mode::Auto)?;
            write.write_all(&[1])?;
            pause_for_ever()
        });
        drop(write);
        read.read_exact(&mut [0]).expect("the child attaches");
        child
    }

    /// Waits for the end that the child comes to by itself.
    fn exit_status(self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is live for the kernel to fill in.
        assert_eq!(unsafe { libc::waitpid(self.pid, &mut status, 0) }, self.pid);
        std::mem::forget(self);
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: a child of ours that nobody has waited for, so the pid is still its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        // SAFETY: the status is not asked for.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}

#[test]
fn second_joins_and_the_last_to_be_killed_leaves_a_clean_interface() {
    for first_to_die in [0, 1] {
        let network = Network::new();
        let mut holders = vec![Child::holder(&network)];
        let shared = program_id(network.index);
        assert_ne!(shared, 0);
        holders.push(Child::holder(&network));
        assert_eq!(program_id(network.index), shared);
        drop(holders.remove(first_to_die));
        assert_eq!(program_id(network.index), shared);
        drop(holders);
        assert_eq!(program_id(network.index), 0);
    }
}

#[test]
fn steering_that_is_dropped_leaves_a_clean_interface() {
    let network = Network::new();
    let steering = Steering::attach(network.index, Mode::Native).unwrap();
    assert_ne!(program_id(network.index), 0);
    drop(steering);
    assert_eq!(program_id(network.index), 0);
}

#[test]
fn those_who_attach_at_once_share_one_program() {
    let network = Network::new();
    let (mut ids, mut id_write) = pipe();
    // Loading the program takes longer than forking the next child.
    let attachers: Vec<_> = (0..8)
        .map(|_| {
            Child::fork(|| {
                let _steering = Steering::attach(network.index, Mode::Auto)?;
                id_write.write_all(&program_id(network.index).to_ne_bytes())?;
                pause_for_ever()
            })
        })
        .collect();
    drop(id_write);
    let shared: Vec<u32> = attachers
        .iter()
        .map(|_| {
            let mut id = [0; 4];
            ids.read_exact(&mut id).expect("the child attaches");
            u32::from_ne_bytes(id)
        })
        .collect();
    assert_eq!(shared, vec![program_id(network.index); attachers.len()]);
    drop(attachers);
    assert_eq!(program_id(network.index), 0);
}

#[test]
fn attaching_while_others_come_and_go_succeeds() {
    for mode in [Mode::Native, Mode::Generic] {
        let network = Network::new();
        let attachers = [(); 4].map(|()| {
            Child::fork(|| {
                for _ in 0..50 {
                    Steering::attach(network.index, mode)?;
                }
                Ok(())
            })
        });
        assert_eq!(attachers.map(Child::exit_status), [0; 4]);
        assert_eq!(program_id(network.index), 0);
    }
}

#[test]
fn joining_keeps_the_mode_that_is_attached() {
    let network = Network::new();
    let _first = Steering::attach(network.index, Mode::Generic).unwrap();
    let second = Steering::attach(network.index, Mode::Native).unwrap();
    assert_eq!(second.attached_mode(), AttachedMode::Generic);
}

#[test]
fn auto_falls_back_to_generic_where_the_driver_has_no_xdp() {
    let _network = Network::new();
    let steering = Steering::attach(index_of("lo"), Mode::Auto).unwrap();
    assert_eq!(steering.attached_mode(), AttachedMode::Generic);
    drop(steering);
    let error = Steering::attach(index_of("lo"), Mode::Native).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
}

#[test]
fn process_that_gave_up_its_privileges_owns_queues_and_claims() {
    let network = Network::new();
    let child = Child::fork(|| {
        let steering = Steering::attach(network.index, Mode::Auto)?;
        let receiver = Receiver::bind(0);
        let nobody = 65_534;
        // SAFETY: takes numbers.
        if unsafe { libc::setresuid(nobody, nobody, nobody) } != 0 {
            return Err(io::Error::last_os_error());
        }
        steering.own_queue(0, receiver.fd())?;
        let key = ClaimKey::new(frame::TCP, ADDRESS_V4.parse().expect("an address"), 80);
        steering.claim(&key, Opens::All)?;
        steering.release(&key)
    });
    assert_eq!(child.exit_status(), 0);
}

#[test]
fn each_interface_has_a_program_of_its_own() {
    // In another namespace an interface may well have the same index.
    let network = Network::new();
    let _first = Steering::attach(network.index, Mode::Auto).unwrap();
    let first_program = program_id(network.index);
    let other_network = network.another();
    assert_eq!(program_id(other_network.index), 0);
    let _second = Steering::attach(other_network.index, Mode::Auto).unwrap();
    assert_ne!(program_id(other_network.index), first_program);
}

#[test]
fn child_that_closes_its_copies_does_not_keep_the_program() {
    let network = Network::new();
    let steering = Steering::attach(network.index, Mode::Auto).unwrap();
    let (mut read, mut write) = pipe();
    let _child = Child::fork(|| {
        for fd in steering.fds() {
            // SAFETY: the child's own copies, which nothing uses after this.
            unsafe { libc::close(fd) };
        }
        write.write_all(&[1])?;
        pause_for_ever()
    });
    read.read_exact(&mut [0]).unwrap();
    drop(steering);
    assert_eq!(program_id(network.index), 0);
}

#[test]
fn fds_are_high_and_close_on_exec() {
    let network = Network::new();
    let steering = Steering::attach(network.index, Mode::Auto).unwrap();
    let fds: Vec<_> = steering.fds().collect();
    assert_eq!(fds.len(), 4);
    for fd in fds {
        assert!(fd >= 128, "fd {fd}");
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, libc::FD_CLOEXEC);
    }
}

#[test]
fn foreign_program_is_refused_and_left_alone() {
    let network = Network::new();
    let foreign = pass_everything(c"somebody_else");
    for (mode, flag) in [("xdpdrv", sys::XDP_FLAGS_DRV_MODE), ("xdpgeneric", sys::XDP_FLAGS_SKB_MODE)] {
        attach_by_netlink(&network, &foreign, flag);
        let id = program_id(network.index);
        let error = Steering::attach(network.index, Mode::Auto).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("somebody_else"), "{error}");
        assert_eq!(program_id(network.index), id);
        ip(&format!("link set {INTERFACE} {mode} off"));
    }
}

#[test]
fn program_of_our_name_with_other_maps_is_foreign() {
    let network = Network::new();
    attach_by_netlink(&network, &pass_everything(c"userstack_7"), sys::XDP_FLAGS_DRV_MODE);
    let error = Steering::attach(network.index, Mode::Auto).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
}

#[test]
fn interface_that_is_not_there_is_an_error() {
    let _network = Network::new();
    let error = Steering::attach(9_999, Mode::Auto).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
}

fn pause_for_ever() -> ! {
    loop {
        // SAFETY: no arguments.
        unsafe { libc::pause() };
    }
}

/// A program that passes every frame.
fn pass_everything(name: &std::ffi::CStr) -> OwnedFd {
    let load_r0 = sys::bpf_insn { code: 0xb7, imm: sys::XDP_PASS as i32, ..Default::default() };
    let exit = sys::bpf_insn { code: 0x95, ..Default::default() };
    let instructions = [load_r0, exit];
    let (licence, count) = (c"GPL".as_ptr(), instructions.len() as u64);
    // SAFETY: the strings and the instructions are live; no options means the defaults.
    let fd = unsafe {
        sys::bpf_prog_load(
            sys::BPF_PROG_TYPE_XDP,
            name.as_ptr(),
            licence,
            instructions.as_ptr(),
            count,
            std::ptr::null_mut(),
        )
    };
    assert!(fd >= 0);
    // SAFETY: just made, and ours alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Attaches a program by netlink, as `ip link` does, so that it stays without anybody's fd.
fn attach_by_netlink(network: &Network, program: &OwnedFd, flags: u32) {
    // A driver refuses larger ones to a program that was not written for frames of several buffers.
    ip(&format!("link set {PEER} mtu 1500"));
    // SAFETY: no options means the defaults.
    let attached = unsafe { sys::bpf_xdp_attach(network.index as i32, program.as_raw_fd(), flags, std::ptr::null()) };
    assert_eq!(attached, 0);
}
