//! The settings of /proc/sys/net/ipv4 and ipv6 (ip-sysctl.rst) that hold in this process's network namespace.

use crate::sys;
use stack::settings::Settings;
use stack::socket::tcp::CongestionControl;
use std::ffi::{CStr, CString};
use std::str::FromStr;

/// The longest content of one: an algorithm's name.
const LEN_MAX: usize = 32;

/// Reads them, IPv6's hop limit as it is of this interface; one that cannot be read has Linux's default.
pub fn read(interface: &CStr) -> Settings {
    let mut settings = Settings::default();
    take(c"/proc/sys/net/ipv4/tcp_syn_retries", &mut settings.syn_retries);
    take(c"/proc/sys/net/ipv4/tcp_synack_retries", &mut settings.syn_ack_retries);
    take(c"/proc/sys/net/ipv4/tcp_retries2", &mut settings.retries);
    take(c"/proc/sys/net/ipv4/tcp_orphan_retries", &mut settings.orphan_retries);
    take(c"/proc/sys/net/ipv4/tcp_fin_timeout", &mut settings.fin_timeout_s);
    take(c"/proc/sys/net/ipv4/tcp_keepalive_time", &mut settings.keepalive_idle_s);
    take(c"/proc/sys/net/ipv4/tcp_keepalive_intvl", &mut settings.keepalive_interval_s);
    take(c"/proc/sys/net/ipv4/tcp_keepalive_probes", &mut settings.keepalive_probes);
    take(c"/proc/sys/net/ipv4/tcp_notsent_lowat", &mut settings.notsent_lowat);
    take(c"/proc/sys/net/ipv4/ip_default_ttl", &mut settings.ttl);
    let name = interface.to_bytes();
    if let Ok(path) = CString::new([b"/proc/sys/net/ipv6/conf/", name, b"/hop_limit"].concat()) {
        take(&path, &mut settings.hop_limit);
    }
    let mut timestamps = u8::from(settings.timestamps);
    take(c"/proc/sys/net/ipv4/tcp_timestamps", &mut timestamps);
    settings.timestamps = timestamps != 0;
    let mut algorithm = [0; LEN_MAX];
    if let Some(control) = content(c"/proc/sys/net/ipv4/tcp_congestion_control", &mut algorithm)
        .and_then(|name| CongestionControl::named(name.as_bytes()))
    {
        settings.congestion_control = control;
    }
    settings
}

/// Takes the number in a file.
fn take<T: FromStr>(path: &CStr, into: &mut T) {
    let mut bytes = [0; LEN_MAX];
    if let Some(number) = content(path, &mut bytes).and_then(|text| text.parse().ok()) {
        *into = number;
    }
}

/// The text of a file, without the newline behind it.
fn content<'a>(path: &CStr, bytes: &'a mut [u8]) -> Option<&'a str> {
    let fd = sys::open(path).ok()?;
    let len = sys::read(fd, bytes);
    sys::close(fd);
    str::from_utf8(bytes.get(..len.ok()?)?).ok().map(str::trim_ascii_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_changes_nothing() {
        let mut number = 7;
        take::<u8>(c"/proc/sys/kernel/ostype", &mut number);
        take::<u8>(c"/proc/sys/net/ipv4/no_such_thing", &mut number);
        assert_eq!(number, 7);
        take::<u8>(c"/proc/sys/net/ipv4/tcp_retries1", &mut number);
        assert_ne!(number, 7);
    }
}
