#!/bin/bash
# How many connections a server still serves while SYNs of spoofed sources come in: userstack beside the kernel, in one run.
#
#   bench/flood.sh [--quick] [--save]
#
#   --quick  one short round instead of three: to see that all runs, not to quote
#   --save   write the figures to bench/figures-flood.md as well
#
# The variants take turns within each round. bench/README.md says what each figure means.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"

port=7000
rounds=3 seconds=4 save=0
for option; do
    case $option in
    --quick) rounds=1 seconds=1 ;;
    --save) save=1 ;;
    *) die "flood.sh [--quick] [--save]" ;;
    esac
done

# SYNs a second. The peer's processor is the flood's, too: it takes from the clients alike, whoever the server is.
floods=(0 10000 50000)

mac_of() {
    ip netns exec "$1" cat "/sys/class/net/$2/address"
}

# start_flood RATE: sets flood_pid; empty when there is none.
start_flood() {
    flood_pid=
    (($1)) || return 0
    "${in_client[@]}" "$target_dir/release/syn-flood" --interface "$client_if" --from "$(mac_of "$client_ns" "$client_if")" \
        --to "$(mac_of "$server_ns" "$server_if")" --target "$server_ip:$port" --rate "$1" >/dev/null &
    flood_pid=$!
    # Until it fills what the server has for half-open connections.
    sleep 1
}

# measure STACK RATE: appends both, the transactions a second, their 99th percentile in us, and the failures.
measure() {
    local launch=("${in_server[@]}") report server_pid
    [[ $1 == kernel ]] || launch+=("${preload_server[@]}")
    "${launch[@]}" "$target_dir/release/load-server" --listen "$server_ip:$port" >/dev/null &
    server_pid=$!
    wait_listening "$server_pid" "$port"
    start_flood "$2"
    report=$(timeout 60 "${in_client[@]}" "$target_dir/release/load-client" --mode crr --clients 100 \
        --target "$server_ip:$port" --seconds "$seconds") || note "$1 at $2 SYNs/s: the load client gave up."
    [[ -z $flood_pid ]] || stop "$flood_pid"
    stop "$server_pid"
    echo "$1 $2 $(json_field rate "$report") $(json_field p99_us "$report") $(json_field failures "$report")" >>"$samples"
}

# field_of STACK RATE FIELD: the median.
field_of() {
    awk -v stack="$1" -v rate="$2" -v field="$3" '$1 == stack && $2 == rate { print $field }' "$samples" | median
}

print_figures() {
    local flood stack
    echo "# Figures of a SYN flood"
    echo
    echo "$(date +%F), Linux $(uname -r), $(nproc) processors, medians of $rounds rounds of $seconds s. Connect, 64 B request, 64 B" \
        "reply, close: 100 clients of the kernel's, while another process on their processor sends SYNs of spoofed sources."
    echo "SYN cookies are on (the kernel's default), the listen queue has room for 1,024."
    echo
    echo "| SYNs/s | server    | transactions/s | p99 us | failures |"
    echo "|-------:|-----------|---------------:|-------:|---------:|"
    for flood in "${floods[@]}"; do
        for stack in kernel userstack; do
            printf '| %6d | %-9s | %14.0f | %6.0f | %8.0f |\n' "$flood" "$stack" "$(field_of "$stack" "$flood" 3)" \
                "$(field_of "$stack" "$flood" 4)" "$(field_of "$stack" "$flood" 5)"
        done
    done
    echo
}

require_root
require_commands ip=iproute2 ss=iproute2 taskset=util-linux
build_library
(cd "$root" && cargo build --release --quiet --package userstack-bench)

samples=$(mktemp)
clean_up() {
    remove_pair
    rm -f "$samples"
}
clean_up_with clean_up
make_pair
# What a listen queue holds, and a route that the kernel's answers to the spoofed sources take.
ip netns exec "$server_ns" sysctl -qw net.core.somaxconn=1024
ip -n "$server_ns" route add 198.18.0.0/15 via "$client_ip"

for ((round = 1; round <= rounds; round++)); do
    for flood in "${floods[@]}"; do
        for stack in kernel userstack; do
            note "Round $round of $rounds: $stack at $flood SYNs/s"
            measure "$stack" "$flood"
        done
    done
done

if ((save)); then
    print_figures | tee "$root/bench/figures-flood.md"
else
    print_figures
fi
