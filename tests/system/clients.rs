//! Unmodified clients, preloaded: they get from a server what they get on the kernel.

use userstack_tests::servers::{IPERF3, NGINX, REDIS, Server};
use userstack_tests::{Exchange, Family, Scratch, Stack, www};

/// Runs the exchange with the client on the kernel, then preloaded against the server on either stack.
fn check(server: &Server, clients: fn(&Exchange) -> String) {
    let files = Scratch::new();
    www::write_files(&files);
    for family in Family::ALL {
        let run = |on, client| Exchange::run((server, on), client, family, &files, clients);
        let expected = run(Stack::Kernel, Stack::Kernel);
        for on in [Stack::Kernel, Stack::Preloaded] {
            assert_eq!(run(on, Stack::Preloaded), expected, "{family:?}, server on {on:?}");
        }
    }
}

/// The lines that begin with one of `names`, with runs of blanks made one: what does not depend on time.
fn lines_of(text: &str, names: &[&str]) -> String {
    let wanted = text.lines().filter(|line| names.iter().any(|name| line.trim_start().starts_with(name)));
    wanted.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

#[test]
fn wget() {
    check(&NGINX, |exchange| {
        let target = Scratch::new();
        for (name, _) in www::FILES {
            exchange.client(["wget", "-q", "-O", &target.join(name), &exchange.url(name)]);
        }
        www::check_files(&target);
        "every file".to_string()
    });
}

#[test]
fn curl() {
    check(&NGINX, |exchange| {
        let target = Scratch::new();
        let mut argv =
            ["curl", "-sSfg", "-w", "%{http_code} %{size_download} %{num_connects}\n"].map(String::from).to_vec();
        for (name, _) in www::FILES {
            argv.extend(["-o".to_string(), target.join(name), exchange.url(name)]);
        }
        let answers = exchange.client(argv).text();
        www::check_files(&target);
        answers
    });
}

#[test]
fn ab() {
    check(&NGINX, |exchange| {
        let mut answers = String::new();
        for (options, file) in [("-qn2000", "small"), ("-qkn2000", "small"), ("-qkn200", "medium")] {
            let text = exchange.client(["ab", options, "-c16", &exchange.url(file)]).text();
            answers += &lines_of(&text, &["Document", "Complete", "Failed", "Keep-Alive", "Non-2xx", "HTML"]);
        }
        answers
    });
}

#[test]
fn wrk() {
    check(&NGINX, |exchange| {
        let text = exchange.client(["wrk", "-t1", "-c16", "-d1s", &exchange.url("small")]).text();
        assert!(text.contains("Requests/sec:") && !text.contains("Requests/sec:      0.00"), "{text}");
        lines_of(&text, &["Socket errors", "Non-2xx"])
    });
}

#[test]
fn urllib() {
    check(&NGINX, |exchange| {
        let script = "
import hashlib, sys, urllib.request
for url in sys.argv[1:]:
    body = urllib.request.urlopen(url, timeout=60).read()
    print(len(body), hashlib.sha256(body).hexdigest())
";
        let urls = www::FILES.map(|(name, _)| exchange.url(name));
        exchange.client(["/usr/bin/python3".to_string(), "-c".into(), script.into()].into_iter().chain(urls)).text()
    });
}

#[test]
fn redis_cli() {
    check(&REDIS, |exchange| {
        let script = "for i = 1, 1000 do redis.call('SET', 'key' .. i, i) end; return redis.call('DBSIZE')";
        let (ip, port) = (exchange.ip(), exchange.port());
        let cli = ["redis-cli", "-h", &ip, "-p", &port];
        let filled = exchange.client(cli.iter().chain(&["EVAL", script, "0"]).copied()).text();
        let scanned = exchange.client(cli.iter().chain(&["--scan", "--pattern", "key*"]).copied()).text();
        let mut keys: Vec<_> = scanned.lines().collect();
        keys.sort_unstable();
        filled + &keys.join(" ")
    });
}

#[test]
fn redis_benchmark() {
    check(&REDIS, |exchange| {
        let (ip, port) = (exchange.ip(), exchange.port());
        let options = ["--csv", "-n", "2000", "-c", "16", "-P", "4", "-t", "set,get,lpush,lrange_100,mset"];
        let argv = ["redis-benchmark", "-h", &ip, "-p", &port].into_iter().chain(options);
        let text = exchange.client(argv).text();
        text.lines().map(|line| line.split(',').next().unwrap_or_default().to_string() + "\n").collect()
    });
}

#[test]
fn iperf3() {
    check(&IPERF3, |exchange| {
        let (ip, port) = (exchange.ip(), exchange.port());
        for direction in [&["-P", "4"][..], &["-P", "4", "-R"]] {
            exchange.client([&["iperf3", "-c", &ip, "-p", &port, "-n", "20M"], direction].concat());
        }
        "both directions, four connections".to_string()
    });
}
