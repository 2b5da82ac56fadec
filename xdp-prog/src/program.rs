//! The steering program in the kernel: loaded from the object that the build embeds, or opened by its id.

use crate::fd::duplicate_high;
use crate::map::{Kind, Map};
use crate::{QUEUES_MAX, bpf};
use libbpf_sys as sys;
use std::ffi::{CStr, c_void};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::ptr::NonNull;

/// Receive queue to AF_XDP socket.
pub(crate) type Xsks = Map<u32, RawFd>;
/// Receive queue to its owner's table of claims, a map in the map.
pub(crate) type ClaimsByQueue = Map<u32, RawFd>;

/// The program's name, and with it the version of its maps.
const NAME: &CStr = c"userstack_7";
/// How many maps it has: those below, and one that only it knows.
const MAPS: usize = 3;
const XSKS: Kind = Kind { name: c"xsks", map_type: sys::BPF_MAP_TYPE_XSKMAP, entries_max: QUEUES_MAX };
const CLAIMS_BY_QUEUE: Kind =
    Kind { name: c"claims_by_queue", map_type: sys::BPF_MAP_TYPE_ARRAY_OF_MAPS, entries_max: QUEUES_MAX };

/// The object file, aligned as its 64-bit ELF structures are.
#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);
static OBJECT_FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/steer.bpf.o")));

/// The program and its maps.
pub(crate) struct Program {
    pub fd: OwnedFd,
    pub xsks: Xsks,
    pub claims_by_queue: ClaimsByQueue,
}

/// What a program turned out to be.
pub(crate) enum Opened {
    Ours(Program),
    /// Somebody else's, or another version of ours: its name.
    Foreign(String),
}

impl Program {
    /// Loads the program with fresh maps.
    ///
    /// # Errors
    /// Those of BPF_MAP_CREATE and BPF_PROG_LOAD, bpf(2): `EPERM` without CAP_BPF and CAP_NET_ADMIN among them.
    pub fn load() -> io::Result<Program> {
        let object = Object::load()?;
        Ok(Program {
            fd: object.program()?,
            xsks: Map::open(object.map(XSKS.name)?, XSKS)?.expect("steer.bpf.c defines it so"),
            claims_by_queue: Map::open(object.map(CLAIMS_BY_QUEUE.name)?, CLAIMS_BY_QUEUE)?
                .expect("steer.bpf.c defines it so"),
        })
    }

    /// Opens the program with this id, and its maps.
    ///
    /// # Errors
    /// `ENOENT`: it is gone. `EPERM`: without CAP_SYS_ADMIN.
    pub fn open(id: u32) -> io::Result<Opened> {
        let fd = bpf::program_by_id(id)?;
        let (info, map_ids) = bpf::program_info::<MAPS>(&fd)?;
        let name = bpf::name(&info.name);
        let foreign = Opened::Foreign(name.to_string_lossy().into_owned());
        if name != NAME || info.nr_map_ids as usize != MAPS {
            return Ok(foreign);
        }
        let (mut xsks, mut claims_by_queue) = (None, None);
        for map_id in map_ids {
            xsks = xsks.or(Map::open(bpf::map_by_id(map_id)?, XSKS)?);
            claims_by_queue = claims_by_queue.or(Map::open(bpf::map_by_id(map_id)?, CLAIMS_BY_QUEUE)?);
        }
        let (Some(xsks), Some(claims_by_queue)) = (xsks, claims_by_queue) else { return Ok(foreign) };
        Ok(Opened::Ours(Program { fd, xsks, claims_by_queue }))
    }
}

/// libbpf's form of the object file; it closes the fds that it holds when it is dropped.
struct Object(NonNull<sys::bpf_object>);

impl Object {
    /// Has the kernel verify and load what is in the object file.
    fn load() -> io::Result<Object> {
        // SAFETY: no callback: libbpf is silent, where it would otherwise write to the application's stderr.
        unsafe { sys::libbpf_set_print(None) };
        let file = &OBJECT_FILE.0;
        // SAFETY: the file is static, and libbpf takes no options as its defaults.
        let object =
            unsafe { sys::bpf_object__open_mem(file.as_ptr().cast::<c_void>(), file.len() as u64, std::ptr::null()) };
        let object = Object(NonNull::new(object).ok_or_else(io::Error::last_os_error)?);
        // SAFETY: an object that was opened and not yet loaded.
        bpf::check(unsafe { sys::bpf_object__load(object.0.as_ptr()) })?;
        Ok(object)
    }

    fn program(&self) -> io::Result<OwnedFd> {
        // SAFETY: the object is open; the name is a C string.
        let program = unsafe { sys::bpf_object__find_program_by_name(self.0.as_ptr(), NAME.as_ptr()) };
        assert!(!program.is_null(), "steer.bpf.c defines it");
        // SAFETY: a program of an object that is open.
        duplicate_high(bpf::check(unsafe { sys::bpf_program__fd(program) })?)
    }

    fn map(&self, name: &CStr) -> io::Result<OwnedFd> {
        // SAFETY: the object is open; the name is a C string.
        duplicate_high(bpf::check(unsafe { sys::bpf_object__find_map_fd_by_name(self.0.as_ptr(), name.as_ptr()) })?)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: opened by `load`, closed only here; the fds that we keep are duplicates.
        unsafe { sys::bpf_object__close(self.0.as_ptr()) };
    }
}
