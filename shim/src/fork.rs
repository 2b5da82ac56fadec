//! fork(2): the child begins unattached, with its parent's listeners and without its parent's flows.
//!
//! The rings and frames are not mapped in the child (MADV_DONTFORK), so that it can neither disturb the parent's stack
//! nor keep its queues busy. What a child of vfork(2) or of a raw clone(2) calls is the kernel's: it is not the process
//! that the fds were made in, and shares the memory that describes them.

use crate::description::Role;
use crate::world::{self, Inside, World};
use crate::{admission, attach, config, exit, fd_table, keeper, sys};
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicI32, Ordering};

thread_local! {
    /// The lock, for the time of a fork. Without a destructor, as all thread-locals of ours.
    static HELD: Cell<Option<ManuallyDrop<Inside>>> = const { Cell::new(None) };
}

/// The process that is served; 0: none.
static SERVED: AtomicI32 = AtomicI32::new(0);

/// Whether the calling process is the one that is served.
pub fn is_served() -> bool {
    SERVED.load(Ordering::Relaxed) == sys::process_id()
}

/// Serves this process, and the children that it makes by fork(2).
pub fn install() {
    SERVED.store(sys::process_id(), Ordering::Relaxed);
    // SAFETY: three functions that live as long as the process: the library is never unloaded.
    let failed = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    if failed != 0 {
        tracing::error!("children of fork(2) will share their parent's sockets");
    }
}

extern "C" fn before() {
    // A signal handler that interrupted us forks with the lock taken by its own thread; the child calls exec or
    // _exit (signal-safety(7)), for which it needs no lock.
    if !crate::thread::is_inside() {
        HELD.set(Some(ManuallyDrop::new(world::enter_quietly())));
    }
}

extern "C" fn in_parent() {
    HELD.take().map(ManuallyDrop::into_inner);
}

extern "C" fn in_child() {
    SERVED.store(sys::process_id(), Ordering::Relaxed);
    exit::forget();
    if let Some(held) = HELD.take() {
        let mut world = world::move_to_child(ManuallyDrop::into_inner(held));
        begin_anew(&mut world);
    }
}

fn begin_anew(world: &mut World) {
    if let Some(event) = keeper::forget() {
        fd_table::clear(event);
        sys::close(event);
    }
    let mut is_prepared = false;
    if let Some(network) = world.network.take() {
        is_prepared = !network.is_attached();
        for fd in network.fds() {
            fd_table::clear(fd);
            sys::close(fd);
        }
        // Its rings are not there, and its flows are not ours to end.
        std::mem::forget(network);
    }
    world.drop_lingering();
    world.wakers.forget();
    let keys: Vec<_> = world.descriptions.iter().map(|(key, _)| key).collect();
    for key in keys {
        let Ok(description) = world.description(key) else { continue };
        description.sleepers.clear();
        description.watches.clear();
        match &mut description.role {
            Role::Flow(_) => description.role = Role::Inherited,
            Role::Listener(listener) => {
                listener.id = None;
                world.has_new_listeners = true;
            }
            Role::Undecided | Role::Inherited => {}
        }
    }
    admission::inherit(world);
    world.disown_sets();
    if is_prepared && config::get().is_some() {
        // While it still has its parent's privileges.
        attach::prepare(world);
    }
}
