//! The load client against the load server, over the kernel's loopback.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// A server on a loopback address of this process's own, so that no other test has the port.
struct Server {
    process: Option<Child>,
    address: SocketAddrV4,
}

impl Server {
    fn start(last_byte: u8) -> Server {
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let address = SocketAddrV4::new(Ipv4Addr::new(127, high, low, last_byte), 7000);
        let mut process = Command::new(env!("CARGO_BIN_EXE_load-server"))
            .args(["--listen", &address.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        while TcpStream::connect(address).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "the server ended before it listened");
            thread::sleep(Duration::from_millis(1));
        }
        Server { process: Some(process), address }
    }

    /// Ends the server with SIGTERM and returns its report.
    fn stop(mut self) -> String {
        let process = self.process.take().unwrap();
        // SAFETY: the child was not waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(process.id() as i32, libc::SIGTERM) }, 0);
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // What a failed test leaves behind; it may have ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A number of a one-line report.
fn field(report: &str, name: &str) -> u64 {
    let (_, rest) = report.split_once(&format!("\"{name}\":")).unwrap();
    rest.split([',', '.', '}']).next().unwrap().parse().unwrap()
}

fn run(last_byte: u8, arguments: &str) -> (String, String) {
    let server = Server::start(last_byte);
    let output = Command::new(env!("CARGO_BIN_EXE_load-client"))
        .args(["--target", &server.address.to_string(), "--seconds", "0.1"])
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), server.stop())
}

#[test]
fn connect_request_response() {
    let (client, server) = run(1, "--mode crr --clients 4");
    assert!(field(&client, "count") > 0);
    assert_eq!(field(&client, "failures"), 0);
    assert!(field(&server, "accepted") >= field(&client, "count"));
}

#[test]
fn request_response_beside_idle_connections() {
    let (client, server) = run(2, "--mode idle --clients 4 --idle 100");
    assert!(field(&client, "count") > 0);
    assert_eq!(field(&client, "failures"), 0);
    // The four, the hundred, and the one that found the server listening.
    assert_eq!(field(&server, "accepted"), 105);
    assert!(field(&server, "count") >= field(&client, "count"));
}

#[test]
fn a_mistaken_command_line_is_an_error() {
    for arguments in [vec![], vec!["--mode", "sideways"], vec!["--target"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_load-client")).args(arguments).output().unwrap();
        assert!(!output.status.success());
        assert!(!output.stderr.is_empty());
    }
}
