//! unix(7), SCM_RIGHTS: the fds in a control message.

use std::os::fd::RawFd;

/// What a control message begins with: its length with this, its level, its type.
const HEADER_LEN: usize = size_of::<libc::cmsghdr>();
const _: () = assert!(HEADER_LEN == 16);

/// The fds in the control messages of a msghdr.
pub fn fds(mut control: &[u8]) -> Vec<RawFd> {
    let int = |bytes: &[u8], at: usize| Some(i32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let mut fds = Vec::new();
    while let Some(len) = control.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes) as usize) {
        let Some(message) = control.get(..len).filter(|message| message.len() >= HEADER_LEN) else { break };
        if (int(message, 8), int(message, 12)) == (Some(libc::SOL_SOCKET), Some(libc::SCM_RIGHTS)) {
            fds.extend(message[HEADER_LEN..].chunks_exact(4).filter_map(|bytes| int(bytes, 0)));
        }
        control = control.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    fds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let len = (HEADER_LEN + data.len()).to_ne_bytes();
        let mut bytes = [&len[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), data].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn fds_are_found_among_other_messages() {
        let rights = |fds: &[i32]| {
            let data: Vec<u8> = fds.iter().flat_map(|fd| fd.to_ne_bytes()).collect();
            message(libc::SOL_SOCKET, libc::SCM_RIGHTS, &data)
        };
        let other = message(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[9; 12]);
        assert_eq!(fds(&[rights(&[3]), other, rights(&[4, 5])].concat()), [3, 4, 5]);
        assert_eq!(fds(&rights(&[7])[..20]), [7]);
    }

    #[test]
    fn what_is_cut_off_or_nonsense_ends_it() {
        for control in [&[][..], &[0; 64], &[255; 64], &message(1, 1, &[0; 8])[..20]] {
            assert_eq!(fds(control), []);
        }
    }
}
