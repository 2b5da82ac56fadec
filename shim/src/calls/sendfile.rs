//! sendfile(2): from a file to a socket of ours, in pieces.

use super::send::send;
use crate::limits::{SENDFILE_PIECE_LEN, SENDFILE_SMALL_LEN, TRANSFER_LEN_MAX};
use crate::sys;
use stack::Errno;
use stack::slab::Key;
use std::iter;
use std::os::fd::RawFd;

/// Sends at most `count` bytes of `file` from `offset` on, or from the file's own offset, which then moves. Returns how
/// many were sent, and where the next ones are.
///
/// # Errors
/// `ESPIPE`, `EINVAL`: the file has no offsets. What pread(2) and send(2) say.
pub fn sendfile(key: Key, file: RawFd, offset: Option<i64>, count: usize) -> Result<(usize, i64), Errno> {
    let start = match offset {
        Some(offset) => offset,
        None => sys::seek(file, 0, libc::SEEK_CUR).map_err(no_file)?,
    };
    // What is cleared for a small file should be small.
    let sent = match count {
        ..=SENDFILE_SMALL_LEN => send_pieces::<SENDFILE_SMALL_LEN>(key, file, start, count)?,
        _ => send_pieces::<SENDFILE_PIECE_LEN>(key, file, start, count.min(TRANSFER_LEN_MAX))?,
    };
    let end = start + sent as i64;
    if offset.is_none() {
        sys::seek(file, end, libc::SEEK_SET).map_err(no_file)?;
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
            Err(errno) => break Err(errno),
        };
        match send(key, iter::once(Ok(&piece[..read])), 0) {
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

fn no_file(errno: Errno) -> Errno {
    if errno == Errno::ESPIPE { Errno::EINVAL } else { errno }
}
