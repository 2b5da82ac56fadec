# shellcheck shell=bash
# shellcheck disable=SC2034 # the variables are for the sourcing scripts
# What run-preloaded.sh, demo.sh and compare.sh share: the build, a pair of namespaces, servers in them, and counters.
# Sourced; the sourcing script sets -euo pipefail.

root=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/..")
target_dir=${CARGO_TARGET_DIR:-$root/target}
library=$target_dir/release/libuserstack.so

# What the kernel's clock ticks in /proc/stat and /proc/PID/stat are counted by, a second.
ticks_per_second=$(getconf CLK_TCK)

# A pair of namespaces joined by a veth pair; the names hold our pid, so that several pairs can stand side by side.
server_ns=us-$$-server client_ns=us-$$-client line_ns=us-$$-line
server_if=us$$s client_if=us$$c
server_ip=10.77.0.1 client_ip=10.77.0.2

# Prefixes of command lines: in a namespace, pinned to a core of its own where the machine has two.
if (($(nproc) > 1)); then
    in_server=(ip netns exec "$server_ns" taskset -c 0) in_client=(ip netns exec "$client_ns" taskset -c 1)
else
    in_server=(ip netns exec "$server_ns") in_client=(ip netns exec "$client_ns")
fi
preload_server=(env LD_PRELOAD="$library" USERSTACK_IFACE="$server_if")
preload_client=(env LD_PRELOAD="$library" USERSTACK_IFACE="$client_if")

note() { echo "$*" >&2; }

die() {
    note "$*"
    exit 1
}

require_root() {
    ((EUID == 0)) || die "This needs root, to make network namespaces and to attach XDP programs."
}

# require_commands COMMAND=PACKAGE...: ends with a sentence for each command that is missing.
require_commands() {
    local pair missing=0
    for pair; do
        command -v "${pair%=*}" >/dev/null && continue
        note "The command ${pair%=*} is missing (Debian package ${pair#*=})."
        missing=1
    done
    ((missing == 0)) || exit 1
}

# To build: the steering program (clang), and libxdp with its libbpf.
build_packages=(clang llvm gcc make m4 pkg-config libelf-dev zlib1g-dev libbpf-dev linux-libc-dev libc6-dev)

# install_packages PACKAGE...: those that are not there yet; none of their services is started. Without apt it does nothing,
# and what is missing shows by itself.
install_packages() {
    local package missing=()
    command -v apt-get >/dev/null || return 0
    for package; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    note "Installing ${missing[*]} ..."
    forbid_services
    { DEBIAN_FRONTEND=noninteractive apt-get -qq update &&
        DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}"; } >/dev/null ||
        die "apt-get could not install: ${missing[*]}."
    allow_services
}

# Package installation asks this policy whether it may start a service: 101 is no. invoke-rc.d(8).
policy=/usr/sbin/policy-rc.d
our_policy=0
forbid_services() {
    [[ ! -e $policy ]] || return 0
    our_policy=1
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
}

allow_services() {
    ((our_policy == 0)) || rm -f "$policy"
    our_policy=0
}

# Builds libuserstack.so when it is missing or older than its sources.
build_library() {
    local newer
    if [[ -e $library ]]; then
        newer=$(find "$root"/Cargo.{toml,lock} "$root"/{shim,stack,xdp-prog} -type f -newer "$library" -print -quit)
        [[ -n $newer ]] || return 0
    fi
    command -v cargo >/dev/null || die "cargo is missing: install a Rust toolchain by rustup (https://rustup.rs)."
    note "Building $library ..."
    (cd "$root" && cargo build --release --quiet) ||
        die "The build failed. On Debian it needs the packages ${build_packages[*]}."
}

# make_pair: the two namespaces, their veth pair with one queue each, and settings that let the kernel's own TCP do its best.
make_pair() {
    local ns
    ip netns add "$server_ns"
    ip netns add "$client_ns"
    ip link add "$server_if" netns "$server_ns" numrxqueues 1 numtxqueues 1 type veth \
        peer name "$client_if" netns "$client_ns" numrxqueues 1 numtxqueues 1
    ip -n "$server_ns" address add "$server_ip/24" dev "$server_if"
    ip -n "$client_ns" address add "$client_ip/24" dev "$client_if"
    for ns in "$server_ns" "$client_ns"; do
        ip -n "$ns" link set lo up
        ip netns exec "$ns" sysctl -qw "${kernel_tuning[@]}"
    done
    ip -n "$server_ns" link set "$server_if" up
    ip -n "$client_ns" link set "$client_if" up
}

# make_line: the same two namespaces, but with a third one in between, whose fault-link moves the packets (set_line). Nothing
# is left to offloads that it does not have.
make_line() {
    local ns interface end
    ip netns add "$line_ns"
    ip netns exec "$line_ns" sysctl -qw net.ipv6.conf.default.disable_ipv6=1
    for ns in "$server_ns" "$client_ns"; do
        [[ $ns == "$server_ns" ]] && interface=$server_if end=left || interface=$client_if end=right
        ip netns add "$ns"
        ip link add "$interface" netns "$ns" numrxqueues 1 numtxqueues 1 type veth peer name "$end" netns "$line_ns"
        ip netns exec "$ns" ethtool -K "$interface" tx off tso off gso off gro off >/dev/null
        ip netns exec "$ns" sysctl -qw "${kernel_tuning[@]}"
        ip -n "$ns" link set lo up
        ip -n "$ns" link set "$interface" up
        ip -n "$line_ns" link set "$end" up
    done
    ip -n "$server_ns" address add "$server_ip/24" dev "$server_if"
    ip -n "$client_ns" address add "$client_ip/24" dev "$client_if"
}

# set_line ARGUMENT...: what the line is like from now on, in fault-link's words.
line_pid=
set_line() {
    [[ -z $line_pid ]] || stop "$line_pid"
    ip netns exec "$line_ns" "$target_dir/release/fault-link" --left left --right right "$@" >/dev/null &
    line_pid=$!
}

# One client opens tens of thousands of connections a second here. TIME_WAIT may hold half of all its ports at most, since
# without TCP timestamps on both sides none of them can be used again for a minute.
kernel_tuning=(net.core.somaxconn=65535 net.ipv4.tcp_max_syn_backlog=65535 net.ipv4.tcp_tw_reuse=1
    net.ipv4.tcp_max_tw_buckets=32768 "net.ipv4.ip_local_port_range=1024 65535")

# Ends whatever still runs in the pair, and removes it.
remove_pair() {
    local ns pids
    for ns in "$line_ns" "$server_ns" "$client_ns"; do
        [[ -e /run/netns/$ns ]] || continue
        pids=$(ip netns pids "$ns")
        # shellcheck disable=SC2086 # one word a pid
        [[ -z $pids ]] || kill -KILL $pids 2>/dev/null || true
        ip netns delete "$ns"
    done
}

# clean_up_with FUNCTION: calls it when the script ends, however it ends.
clean_up_with() {
    # shellcheck disable=SC2064 # the name is meant to be expanded now
    trap "$1" EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# wait_listening PID PORT: until somebody in the server's namespace listens on the port; ends when PID does before.
wait_listening() {
    until [[ -n $(ip netns exec "$server_ns" ss -Hltn "sport = :$2") ]]; do
        kill -0 "$1" 2>/dev/null || die "The server ended before it listened on port $2."
        sleep 0.05
    done
    # A worker process takes the listener over a moment after its master made it.
    sleep 0.3
}

# stop PID: ends a server of ours and waits for it, so that its XDP program is gone when the next one starts.
stop() {
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# xdp_attached: whether an XDP program is on the server's interface.
xdp_attached() {
    ip -n "$server_ns" link show dev "$server_if" | grep -q 'prog/xdp'
}

# process_ticks PID: CPU time of a process and its children, in clock ticks.
process_ticks() {
    local pid sum=0 stat
    for pid in "$1" $(cat "/proc/$1/task/"*/children); do
        # The fields after the program's name, which may hold spaces: utime and stime are the 12th and 13th of them.
        stat=$(sed 's/.*) //' "/proc/$pid/stat")
        sum=$((sum + $(cut -d' ' -f12 <<<"$stat") + $(cut -d' ' -f13 <<<"$stat")))
    done
    echo "$sum"
}

# machine_ticks: time that the processors were busy, interrupts included, in clock ticks.
machine_ticks() {
    awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat
}

# tcp_segments FIELD: InSegs or OutSegs of the kernel's TCP in the server's namespace.
tcp_segments() {
    # shellcheck disable=SC2016 # the dollars are awk's
    ip netns exec "$server_ns" awk -v field="$1" '
        /^Tcp:/ && !column { for (i = 2; i <= NF; i++) if ($i == field) column = i; next }
        /^Tcp:/ { print $column }' /proc/net/snmp
}

# json_field NAME LINE: a number out of the load client's report.
json_field() {
    sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" <<<"$2"
}

# median: of the numbers on standard input, one a line.
median() {
    sort -g | awk '{ value[NR] = $1 } END { if (NR) print (value[int((NR + 1) / 2)] + value[int(NR / 2) + 1]) / 2 }'
}
