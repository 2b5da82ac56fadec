//! Programs whose connections go to another process or another program: each on the kernel and preloaded, with the same
//! answers, and not a segment through the kernel's TCP.

use std::fs::File;
use std::path::Path;
use userstack_tests::{Family, Finished, Hosts, Program, Running, Scratch, Stack, library, run_command};

/// The hosts of one run: the program under test runs on `ours`, the other side on `peer`, on the kernel.
struct Stage {
    hosts: Hosts,
    files: Scratch,
    stack: Stack,
}

/// The port of every server here.
const PORT: u16 = 7001;

/// Some segments' worth, in which a lost, doubled or moved byte shows.
fn text() -> String {
    (0..200_000).map(|number| format!("{number}\n")).collect()
}

impl Stage {
    /// Starts a server under test, and waits until it serves.
    fn serve(&self, program: Program) -> Running {
        let running = program.on(self.stack).start(&self.hosts.ours).listens(&self.hosts.ours, PORT);
        if self.stack == Stack::Preloaded { running.claims(PORT) } else { running }
    }

    /// Runs a client on the peer, with a file as its standard input.
    fn client<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>, input: &str) -> Finished {
        Program::new(argv).stdin(File::open(input).expect("a file of ours")).run(&self.hosts.peer).succeeded()
    }

    /// Sends a text to the server under test, and returns what comes back until the server closes.
    fn ask(&self, text: impl AsRef<[u8]>) -> String {
        let input = self.files.write("input", text);
        self.client(["socat", "-t10", "-", &format!("TCP:{}:{PORT}", self.address())], &input).text()
    }

    /// Sends much to a server that sends it back.
    fn ask_echo(&self) {
        let (sent, got) = (text(), self.ask(text()));
        let same = sent.bytes().zip(got.bytes()).take_while(|(a, b)| a == b).count();
        assert!(got == sent, "{:?}: the same {same} bytes of {}, {} came", self.stack, sent.len(), got.len());
    }

    fn address(&self) -> String {
        self.hosts.ours.address(Family::V4).to_string()
    }

    /// Runs a client under test to its end, against a server on the peer that sends back what it gets.
    fn talk<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> String {
        let echo = ["socat", "-t30", &format!("TCP-LISTEN:{PORT},fork,reuseaddr"), "PIPE"].map(String::from);
        let _echo = Program::new(echo).start(&self.hosts.peer).listens(&self.hosts.peer, PORT);
        Program::new(argv).on(self.stack).run(&self.hosts.ours).succeeded().text()
    }

    fn peer(&self) -> String {
        self.hosts.peer.address(Family::V4).to_string()
    }
}

/// Runs the same on the kernel and preloaded.
fn compare(run: impl Fn(&Stage) -> String) {
    let [expected, got] = [Stack::Kernel, Stack::Preloaded].map(|stack| {
        let stage = Stage { hosts: Hosts::new(), files: Scratch::new(), stack };
        let answers = run(&stage);
        let of_ours = stage.hosts.ours.kernel_tcp();
        assert_eq!(of_ours.served_nothing(), stack == Stack::Preloaded, "{of_ours:?}");
        answers
    });
    assert_eq!(got, expected);
}

/// A process for each connection, which copies between it and a program.
#[test]
fn socat_with_a_process_a_connection() {
    compare(|stage| {
        let listen = format!("TCP-LISTEN:{PORT},fork,reuseaddr");
        let shouting = stage.serve(Program::new(["socat", "-t10", &listen, "EXEC:tr a-z A-Z"]));
        let answers = [stage.ask("one\n"), stage.ask("two\n")].concat();
        drop(shouting);
        let _echo = stage.serve(Program::new(["socat", "-t10", &listen, "EXEC:cat"]));
        stage.ask_echo();
        answers
    });
}

/// The connection is the standard input and output of another program, in a child and in the process itself.
#[test]
fn inetd_and_netcat() {
    compare(|stage| {
        let conf = stage.files.write("inetd.conf", format!("{PORT} stream tcp nowait root /bin/cat cat\n"));
        let inetd = stage.serve(Program::new(["inetutils-inetd", "-d", &conf]));
        stage.ask_echo();
        drop(inetd);
        let _netcat =
            stage.serve(Program::new(["nc.traditional", "-l", "-p", &PORT.to_string(), "-e", "/usr/bin/rev"]));
        stage.ask("abc\ndef\n")
    });
}

#[test]
fn rsync_daemon() {
    compare(|stage| {
        let Stage { files, .. } = stage;
        let (from, to) = (files.join("from"), files.join("to"));
        run_command(&["mkdir", &from, &to]);
        files.write("from/text", text());
        let module = format!("[files]\npath = {from}\nuse chroot = no\nuid = root\ngid = root\nread only = no\n");
        let conf = format!("--config={}", files.write("rsyncd.conf", module));
        let _rsync = stage.serve(Program::new(["rsync", "--daemon", "--no-detach", &conf, &format!("--port={PORT}")]));
        let url = format!("rsync://{}:{PORT}/files/", stage.address());
        stage.client(["rsync", "-a", &url, &to], "/dev/null");
        stage.client(["rsync", "-a", &format!("{to}/text"), &format!("{url}back")], "/dev/null");
        run_command(&["cmp", &files.join("from/text"), &files.join("from/back")]);
        String::new()
    });
}

/// It hands each connection to a child that starts the server anew, whose child in turn lives in a sandbox.
#[test]
fn sshd() {
    compare(|stage| {
        let files = &stage.files;
        let (host_key, key) = (files.join("host"), files.join("key"));
        for key in [&host_key, &key] {
            run_command(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]);
        }
        run_command(&["mkdir", "-p", "/run/sshd"]);
        let conf = format!(
            "Port {PORT}\nHostKey {host_key}\nAuthorizedKeysFile {key}.pub\nStrictModes no\nPermitRootLogin yes\n\
             UsePAM no\nPidFile none\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
        );
        let _sshd = stage.serve(Program::new(["/usr/sbin/sshd", "-D", "-e", "-f", &files.write("conf", conf)]));
        let options =
            ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i", &key];
        let (port, login) = (PORT.to_string(), format!("root@{}", stage.address()));
        let command = ["-p", &port, &login, "echo ${SSH_CONNECTION% *}; wc -c; id -u"];
        let ssh = [&["ssh", "-q"][..], &options, &command].concat();
        let input = files.write("input", text());
        let answer = stage.client(ssh, &input).text();
        // Files, both ways, by the programs that start ssh.
        let remote = |name: &str| format!("{login}:{}", files.join(name));
        let scp = [&["scp", "-q", "-P", &port][..], &options].concat();
        stage.client([&scp[..], &[&input, &remote("copied")]].concat(), "/dev/null");
        stage.client([&scp[..], &[&remote("copied"), &files.join("fetched")]].concat(), "/dev/null");
        let shell = [&["ssh", "-p", &port][..], &options].concat().join(" ");
        stage.client(["rsync", "-e", &shell, &remote("copied"), &files.join("synced")], "/dev/null");
        for copy in ["fetched", "synced"] {
            run_command(&["cmp", &input, &files.join(copy)]);
        }
        // The peer's port is another one each time.
        let words: Vec<&str> = answer.split_whitespace().collect();
        assert_eq!(words.len(), 5, "{answer}");
        [words[0], words[2], words[3], words[4]].join(" ")
    });
}

/// A backend for each connection, which the postmaster closes at once.
#[test]
fn postgresql() {
    compare(|stage| {
        let files = &stage.files;
        let data = files.join("data");
        let programs = std::fs::read_dir("/usr/lib/postgresql").expect("it is installed").flatten().next();
        let bin = programs.expect("a version of it").path().join("bin");
        let program = |name: &str| bin.join(name).to_str().expect("Debian's names are ASCII").to_string();
        let initdb = program("initdb");
        run_command(&[
            "runuser",
            "-u",
            "postgres",
            "--",
            &initdb,
            "-D",
            &data,
            "-A",
            "trust",
            "-N",
            "--no-instructions",
        ]);
        let allowed = "host all all samenet trust\n";
        std::fs::write(Path::new(&data).join("pg_hba.conf"), allowed).expect("the directory is ours");
        // It refuses to run as root, and the library needs to.
        let capabilities = "+net_raw,+net_admin,+bpf,+sys_admin";
        let user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"];
        let user = [&user[..], &["--inh-caps", capabilities, "--ambient-caps", capabilities]].concat();
        let (listen, port) = (format!("listen_addresses={}", stage.address()), format!("port={PORT}"));
        let settings = ["-c", &listen, "-c", &port, "-c", "unix_socket_directories=", "-c", "fsync=off"];
        let postgres = program("postgres");
        let argv = [&user[..], &[&postgres, "-D", &data], &settings].concat();
        let server = Program::new(argv.iter().copied()).dropping_privileges();
        let copy = files.join("libuserstack.so");
        run_command(&["install", "-m", "755", &library().to_string_lossy(), &copy]);
        let server = if stage.stack == Stack::Preloaded { server.env("LD_PRELOAD", copy) } else { server };
        let running = stage.serve(server);
        let psql = |query: &str| {
            let (host, port) = (stage.address(), PORT.to_string());
            stage.client(["psql", "-h", &host, "-p", &port, "-U", "postgres", "-Atc", query], "/dev/null").text()
        };
        let answers = [
            psql("select inet_client_addr(), inet_server_addr(), inet_server_port()"),
            psql("create table t as select g, repeat('x', 1000) from generate_series(1, 1000) g"),
            psql("select sum(g), count(*) from t"),
            psql("select * from t order by g"),
            psql("show tcp_keepalives_idle"),
        ];
        let pgbench = |options: &[&str]| {
            let (host, port) = (stage.address(), PORT.to_string());
            let common = ["pgbench", "-h", &host, "-p", &port, "-U", "postgres", "postgres"];
            stage.client([&common[..], options].concat(), "/dev/null").text()
        };
        pgbench(&["-i", "-q"]);
        // Eight sessions at once; then a session for each transaction.
        for (options, total) in
            [(&["-c", "8", "-j", "2", "-t", "50"][..], 400), (&["-C", "-c", "8", "-j", "2", "-t", "5"], 40)]
        {
            let told = pgbench(options);
            assert!(told.contains(&format!("actually processed: {total}/{total}")), "{told}");
        }
        assert!(running.stop(libc::SIGINT).status.success());
        answers.concat()
    });
}

/// Redirections, pipes, subshells and other programs, all on one connection.
#[test]
fn bash_with_a_connection_as_a_redirection() {
    compare(|stage| {
        let script = format!(
            "exec 3<>/dev/tcp/{}/{PORT}; echo one >&3; echo two | cat >&3; /bin/echo three >&3; head -c 14 <&3\n\
             (echo four >&3); read line <&3; echo $line; echo $(head -c 5 <&3 & echo five >&3; wait)\n\
             echo six >&3; exec head -c 4 <&3",
            stage.peer()
        );
        stage.talk(["bash", "-c", &script])
    });
}

/// Clients that copy between a connection and their standard streams.
#[test]
fn netcat_and_socat_as_clients() {
    compare(|stage| {
        // Less than lies in the buffers on the way: netcat reads nothing while it waits to write.
        let input = stage.files.write("input", &text()[..50_000]);
        let (peer, port) = (stage.peer(), PORT.to_string());
        let netcat = format!("nc.openbsd -N {peer} {port} < {input} | cmp - {input}");
        let traditional =
            format!("nc.traditional -q 10 {peer} {port} < {input} | head -c $(wc -c < {input}) | cmp - {input}");
        let socat = format!("socat -t 30 - TCP:{peer}:{port} < {input} | cmp - {input}");
        [netcat, traditional, socat].map(|line| stage.talk(["sh", "-c", &line])).concat()
    });
}

#[test]
fn perl_and_python_with_children() {
    compare(|stage| {
        let perl = format!(
            "use IO::Socket::INET; $| = 1; my $s = IO::Socket::INET->new('{}:{PORT}') or die;\n\
             print $s \"a line\\n\"; if (!(my $p = fork)) {{ print 'child: ', scalar(<$s>); print $s \"another\\n\"; exit 0 }}\n\
             wait; print 'parent: ', scalar(<$s>), $s->peerhost, \"\\n\"; $s->shutdown(1); print <$s>;",
            stage.peer()
        );
        let python = format!(
            "import os, socket, subprocess, sys\n\
             s = socket.create_connection(('{}', {PORT}))\n\
             print(subprocess.run(['echo', 'from a program'], stdout=s).returncode, s.recv(100), s.getpeername(), flush=True)\n\
             s.sendall(b'to a program\\n'); s.shutdown(socket.SHUT_WR)\n\
             print(subprocess.run(['cat'], stdin=s, capture_output=True).stdout)\n",
            stage.peer()
        );
        [stage.talk(["perl", "-e", &perl]), stage.talk(["/usr/bin/python3", "-c", &python])].concat()
    });
}
