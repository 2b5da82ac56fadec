//! What the socket calls do, once a hook has found the socket in the fd table.

pub mod accept;
pub mod bind;
pub mod connect;
pub mod datagram;
pub mod duplicate;
pub mod flags;
pub mod listen;
pub mod name;
pub mod open;
pub mod option;
pub mod passed;
pub mod receive;
pub mod send;
pub mod sendfile;
pub mod shutdown;
pub mod value;
pub mod zerocopy;
