#!/bin/bash
# Runs every test: format, lints, unit tests and simulations, then the whole-system tests. Installs from apt what is
# missing; needs root, a Rust toolchain by rustup, and a kernel with AF_XDP.
#
# Exits with 0 only if everything passed; goes on after a failure, so that one run shows all of them.

set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

# To build: the steering program (clang) and libxdp with its libbpf (make, m4, pkg-config, libelf, zlib).
BUILD_PACKAGES=(clang llvm gcc make m4 pkg-config libelf-dev zlib1g-dev libbpf-dev linux-libc-dev libc6-dev)
# To test: the programs under test, and what the rig looks at the kernel with.
SERVER_PACKAGES=(nginx lighttpd redis-server memcached iperf3 python3)
CLIENT_PACKAGES=(wget curl apache2-utils wrk redis-tools iputils-ping)
RIG_PACKAGES=(iproute2 ethtool bpftool ca-certificates)

fail() {
    echo "tests/run.sh: $*" >&2
    exit 1
}

# Says what the machine lacks, as far as it cannot be installed.
check_machine() {
    [ "$(id -u)" = 0 ] || fail "run me as root: the tests make network namespaces and attach XDP programs"
    command -v cargo >/dev/null || fail "there is no cargo: install a Rust toolchain with rustup (https://rustup.rs)"
    ip_can_make_namespaces || fail "this kernel or container does not allow network namespaces and veth pairs"
    af_xdp_works || fail "this kernel or container has no AF_XDP sockets (CONFIG_XDP_SOCKETS, CAP_NET_RAW)"
}

ip_can_make_namespaces() {
    local name="userstack-$$-check"
    ip netns add "$name" && ip -n "$name" link add us0 type veth peer name us1
    local result=$?
    ip netns del "$name" 2>/dev/null
    return $result
}

af_xdp_works() {
    python3 -c 'import socket; socket.socket(44, socket.SOCK_RAW)'
}

# Installs the packages that are not there yet; none of their services is started.
install_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "there is no apt-get to install: ${missing[*]}"
    echo "installing ${missing[*]}"
    forbid_services
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq update && apt-get -qq install --no-install-recommends "${missing[@]}"; } >/dev/null ||
        fail "apt-get could not install: ${missing[*]}"
}

# Package installation asks policy-rc.d(8) whether it may start a service: 101 is no.
forbid_services() {
    local policy=/usr/sbin/policy-rc.d
    [ ! -e $policy ] || return 0
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap "rm -f $policy" EXIT
}

failed=()

# Runs one step; a failure is remembered and reported at the end.
step() {
    local title=$1
    shift
    echo "== $title: $*"
    "$@" || failed+=("$title")
}

[ "$(id -u)" != 0 ] || install_packages "${BUILD_PACKAGES[@]}" "${SERVER_PACKAGES[@]}" "${CLIENT_PACKAGES[@]}" "${RIG_PACKAGES[@]}"
check_machine
step "format" cargo fmt --all --check
step "lints" cargo clippy --quiet --workspace --all-targets -- -D warnings
step "library" cargo build --release
step "tests" cargo test --workspace --no-fail-fast

if [ ${#failed[@]} -gt 0 ]; then
    fail "failed: ${failed[*]}"
fi
echo "All tests passed."
