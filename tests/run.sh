#!/bin/bash
# Runs every test: format, lints, unit tests and simulations, then the whole-system tests. Installs from apt what is
# missing; needs root, a Rust toolchain by rustup, and a kernel with AF_XDP.
#
# Exits with 0 only if everything passed; goes on after a failure, so that one run shows all of them.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=../bench/lib.sh
. "$(dirname "$(readlink -f "$0")")/../bench/lib.sh"
# shellcheck disable=SC2154 # lib.sh sets it
cd "$root"

# The programs under test, and what the rig looks at the kernel with.
programs=(nginx lighttpd redis-server memcached iperf3 python3 libpython3.11-testsuite wget curl apache2-utils wrk redis-tools apache2 haproxy
    nodejs openssl default-jdk-headless golang-go
    socat rsync openssh-server openssh-client inetutils-inetd netcat-traditional netcat-openbsd postgresql perl dnsmasq-base unbound bind9-dnsutils
    dnsperf tcl)
tools=(iproute2 iputils-ping ethtool bpftool tcpdump procps)

# Says what the machine lacks, as far as it cannot be installed.
check_machine() {
    command -v cargo >/dev/null || die "There is no cargo: install a Rust toolchain with rustup (https://rustup.rs)."
    namespaces_work || die "This kernel or container does not allow network namespaces and veth pairs."
    af_xdp_works || die "This kernel or container has no AF_XDP sockets (CONFIG_XDP_SOCKETS, CAP_NET_RAW)."
}

namespaces_work() {
    local name="us-$$-check" result=0
    ip netns add "$name" && ip -n "$name" link add us0 type veth peer name us1 || result=1
    ip netns del "$name" || result=1
    return $result
}

af_xdp_works() {
    python3 -c 'import socket; socket.socket(44, socket.SOCK_RAW)' # 44: AF_XDP
}

# The tests of redis, for redis_suite.rs: no package holds them but that of its source.
fetch_redis_suite() {
    # shellcheck disable=SC2154 # lib.sh sets it
    local suite=$target_dir/redis-suite work
    [[ ! -e $suite/runtest ]] || return 0
    work=$(mktemp -d)
    # shellcheck disable=SC1091 # of this machine
    echo "deb-src http://deb.debian.org/debian $(. /etc/os-release && echo "$VERSION_CODENAME") main" >"$work/sources.list"
    mkdir -p "$work/lists/partial" "$suite"
    (
        cd "$work"
        options=(-qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$work/lists"
            -o APT::Sandbox::User=root)
        apt-get "${options[@]}" update
        apt-get "${options[@]}" --download-only --tar-only source redis
        tar -C "$suite" --strip-components=1 -xf redis_*.orig.tar.*
    )
    rm -r "$work"
    [[ -e $suite/runtest ]]
}

failed=()

# step TITLE COMMAND...: a failure is remembered and reported at the end.
step() {
    local title=$1
    shift
    note "== $title: $*"
    "$@" || failed+=("$title")
}

require_root
trap allow_services EXIT
# shellcheck disable=SC2154 # lib.sh sets it
install_packages "${build_packages[@]}" "${programs[@]}" "${tools[@]}"
check_machine
step "format" cargo fmt --all --check
step "lints" cargo clippy --quiet --workspace --all-targets -- -D warnings
step "redis's tests" fetch_redis_suite
step "library" cargo build --release
step "tests" cargo test --workspace --no-fail-fast

((${#failed[@]} == 0)) || die "Failed: ${failed[*]}."
note "All tests passed."
