//! BPF maps whose keys and values have a Rust type.

use crate::bpf;
use crate::fd::high_fd;
use libbpf_sys as sys;
use std::ffi::{CStr, c_void};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What must be true of a map for the types of its keys and values to fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub name: &'static CStr,
    pub map_type: sys::bpf_map_type,
    pub entries_max: u32,
}

/// An open BPF map. The kernel copies keys and values out of our memory by the sizes that the map was made with, so
/// there is no `Map` whose types have other sizes.
#[derive(Debug)]
pub(crate) struct Map<K, V> {
    fd: OwnedFd,
    layout: PhantomData<fn(K, V)>,
}

impl<K: Copy, V: Copy> Map<K, V> {
    /// Takes a map over; `None` if it is not of this kind or its keys and values are not of these sizes.
    pub fn open(fd: OwnedFd, kind: Kind) -> io::Result<Option<Self>> {
        let info = bpf::map_info(&fd)?;
        let fits = bpf::name(&info.name) == kind.name
            && info.type_ == kind.map_type
            && info.max_entries == kind.entries_max
            && info.key_size as usize == size_of::<K>()
            && info.value_size as usize == size_of::<V>();
        Ok(fits.then_some(Map { fd, layout: PhantomData }))
    }

    /// Makes an empty hash table that takes memory as it fills, but for 16 bytes an entry in advance.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF, `ENOMEM`, `EMFILE`.
    pub fn create_hash(name: &CStr, entries_max: u32) -> io::Result<Self> {
        let options = sys::bpf_map_create_opts {
            sz: size_of::<sys::bpf_map_create_opts>() as sys::size_t,
            map_flags: sys::BPF_F_NO_PREALLOC,
            ..Default::default()
        };
        let (key_len, value_len) = (size_of::<K>() as u32, size_of::<V>() as u32);
        // SAFETY: the name and the options outlive the call.
        let fd = bpf::check(unsafe {
            sys::bpf_map_create(sys::BPF_MAP_TYPE_HASH, name.as_ptr(), key_len, value_len, entries_max, &options)
        })?;
        // SAFETY: the kernel has just made this fd, and nobody else knows its number.
        let fd = high_fd(unsafe { OwnedFd::from_raw_fd(fd) })?;
        Ok(Map { fd, layout: PhantomData })
    }

    /// Writes one entry, replacing what is there. One system call: BPF_MAP_UPDATE_ELEM of bpf(2).
    pub fn insert(&self, key: &K, value: &V) -> io::Result<()> {
        let (key, value) = (key as *const K as *const c_void, value as *const V as *const c_void);
        // SAFETY: `key` and `value` are live and of the map's sizes.
        bpf::check(unsafe { sys::bpf_map_update_elem(self.as_raw_fd(), key, value, sys::BPF_ANY.into()) })?;
        Ok(())
    }

    /// Deletes one entry; `ENOENT` if there is none. One system call: BPF_MAP_DELETE_ELEM of bpf(2).
    pub fn remove(&self, key: &K) -> io::Result<()> {
        // SAFETY: `key` is live and of the map's key size.
        bpf::check(unsafe { sys::bpf_map_delete_elem(self.as_raw_fd(), key as *const K as *const c_void) })?;
        Ok(())
    }
}

impl<K, V> AsRawFd for Map<K, V> {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
