//! sendfile(2): from a file to a socket of ours, in pieces.

use super::send::send_with;
use crate::limits::{SENDFILE_PIECE_LEN, SENDFILE_SMALL_LEN, TRANSFER_LEN_MAX};
use crate::pieces::Pieces;
use crate::sys;
use crate::wait::Patience;
use stack::Errno;
use stack::slab::Key;
use std::os::fd::RawFd;

/// Sends at most `count` bytes of `file` from `offset` on, or from the file's own offset, which then moves. Returns how
/// many were sent, and where the next ones are.
///
/// # Errors
/// `ESPIPE`, `EINVAL`: the file has no offsets. `EBADF`: it cannot be read. What pread(2) and send(2) say.
pub fn sendfile(key: Key, file: RawFd, offset: Option<i64>, count: usize) -> Result<(usize, i64), Errno> {
    let start = match offset {
        Some(offset) => offset,
        None => sys::seek(file, 0, libc::SEEK_CUR).map_err(|errno| no_file(file, errno))?,
    };
    // What is cleared for a small file should be small.
    let sent = match count {
        ..=SENDFILE_SMALL_LEN => send_pieces::<SENDFILE_SMALL_LEN>(key, file, start, count)?,
        _ => send_pieces::<SENDFILE_PIECE_LEN>(key, file, start, count.min(TRANSFER_LEN_MAX))?,
    };
    let end = start + sent as i64;
    if offset.is_none() {
        sys::seek(file, end, libc::SEEK_SET).map_err(|errno| no_file(file, errno))?;
    }
    Ok((sent, end))
}

/// Sends `count` bytes of `file` from `start` on, by pieces of `LEN` bytes; an error only if none were sent.
fn send_pieces<const LEN: usize>(key: Key, file: RawFd, start: i64, count: usize) -> Result<usize, Errno> {
    let mut piece = [0; LEN];
    let mut sent = 0;
    let finished = loop {
        let wanted = piece.len().min(count - sent);
        if wanted == 0 {
            break Ok(());
        }
        let read = match sys::read_at(file, &mut piece[..wanted], start + sent as i64) {
            Ok(0) => break Ok(()),
            Ok(read) => read,
            Err(Errno::ESPIPE) if is_write_only(file) => break Err(Errno::EBADF),
            Err(errno) => break Err(errno),
        };
        match send_with(Patience::SEND_FILE, key, Pieces::own(&mut piece[..read]), 0) {
            Ok(taken) => {
                sent += taken;
                if taken < read {
                    break Ok(());
                }
            }
            Err(errno) => break Err(errno),
        }
    };
    if sent == 0 {
        finished?;
    }
    Ok(sent)
}

/// What sendfile(2) says where lseek(2) has said `errno`.
fn no_file(file: RawFd, errno: Errno) -> Errno {
    match errno {
        Errno::ESPIPE if is_write_only(file) => Errno::EBADF,
        Errno::ESPIPE => Errno::EINVAL,
        other => other,
    }
}

/// Whether a file that has no offsets cannot be read either, which sendfile(2) finds first.
fn is_write_only(file: RawFd) -> bool {
    sys::fcntl(file, libc::F_GETFL, 0).is_ok_and(|flags| flags & libc::O_ACCMODE == libc::O_WRONLY)
}
