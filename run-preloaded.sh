#!/bin/bash
# Runs an unmodified program with its TCP sockets on an interface served by userstack.
#
#   run-preloaded.sh [-i IFACE[,IFACE]] [-v] PROGRAM [ARGS...]
#   run-preloaded.sh                            the demonstration: nginx and redis, on the kernel and preloaded
#
#   -i  the interfaces to serve; otherwise those that USERSTACK_IFACE names
#   -v  say what is served and what is left to the kernel (USERSTACK_LOG=info)
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=bench/lib.sh
. "$(dirname "$(readlink -f "$0")")/bench/lib.sh"

problems=0

problem() {
    note "$*"
    problems=$((problems + 1))
}

usage() {
    sed -n '2,/^set/s/^#[ ]\{0,1\}//p' "$root/run-preloaded.sh" >&2
    exit 2
}

# has_capability NUMBER: whether it is in this process's effective set. capabilities(7).
has_capability() {
    local effective
    effective=$(awk '/^CapEff:/ { print $2 }' /proc/self/status)
    (((16#$effective >> $1) & 1))
}

check_capabilities() {
    has_capability 13 || problem "CAP_NET_RAW is missing: it is needed to open an AF_XDP socket. Run this as root."
    has_capability 12 || problem "CAP_NET_ADMIN is missing: it is needed to attach an XDP program. Run this as root."
    has_capability 39 || has_capability 21 ||
        problem "CAP_BPF is missing: it is needed to load an XDP program. Run this as root."
}

check_kernel() {
    grep -q '^XDP ' /proc/net/protocols ||
        problem "This kernel has no AF_XDP sockets: it was built without CONFIG_XDP_SOCKETS."
}

# check_memlock QUEUES: packet memory is locked, some for each receive queue; whoever has CAP_IPC_LOCK may lock what they like.
# getrlimit(2), RLIMIT_MEMLOCK.
check_memlock() {
    local needed_kib=$(($1 * memlock_kib_per_queue))
    has_capability 14 || ulimit -l unlimited 2>/dev/null || [[ $(ulimit -l) == unlimited ]] ||
        (($(ulimit -l) >= needed_kib)) ||
        problem "Only $(ulimit -l) KiB may be locked in memory and $needed_kib are needed: raise the limit" \
            "(ulimit -l, or LimitMEMLOCK= in a systemd unit)."
}
# The smallest UMEM that is made; where the limit allows, it is larger.
memlock_kib_per_queue=2048

# check_interface NAME: adds its receive queues to the count.
check_interface() {
    local link count
    if ! link=$(ip -o link show dev "$1" 2>/dev/null); then
        problem "There is no interface $1 here. There are: $(ip -o link show | awk -F': ' '{ print $2 }' | xargs)."
        return
    fi
    [[ $link =~ [\<,]UP[,\>] ]] || problem "The interface $1 is down: ip link set $1 up."
    count=$(find "/sys/class/net/$1/queues" -name 'rx-*' 2>/dev/null | wc -l)
    ((count <= queues_max)) || problem "The interface $1 has $count receive queues and $queues_max can be served:" \
        "ethtool -L $1 combined $queues_max."
    queues=$((queues + count))
}
queues=0
# As many as the steering program has room for.
queues_max=64

# check_program NAME: what the dynamic linker would silently refuse to preload into. ld.so(8), secure-execution mode.
check_program() {
    local path
    path=$(type -P "$1") || die "There is no program $1."
    [[ ! -u $path && ! -g $path ]] || ((EUID == 0)) ||
        problem "$path is set-user-ID or set-group-ID: the dynamic linker preloads nothing into it."
    if [[ $(head -c 4 "$path") == $'\x7fELF' ]] && ! ldd "$path" >/dev/null 2>&1; then
        problem "$path is linked statically: nothing can be preloaded into it."
    fi
}

interfaces=${USERSTACK_IFACE:-} verbose=0
while getopts :i:v option; do
    case $option in
    i) interfaces=$OPTARG ;;
    v) verbose=1 ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))

if (($# == 0)); then
    [[ $OPTIND == 1 ]] || usage
    exec "$root/bench/demo.sh"
fi

require_commands ip=iproute2
[[ -n $interfaces ]] || die "No interface is chosen: give -i IFACE or set USERSTACK_IFACE."
check_program "$1"
check_capabilities
check_kernel
IFS=, read -ra names <<<"$interfaces"
for name in "${names[@]}"; do
    check_interface "$name"
done
check_memlock "$queues"
((problems == 0)) || exit 1

build_library
((verbose == 0)) || export USERSTACK_LOG=info
export USERSTACK_IFACE=$interfaces
exec env LD_PRELOAD="$library${LD_PRELOAD:+:$LD_PRELOAD}" "$@"
