#!/bin/bash
# Compares a server on userstack with the same server on the kernel, and with the null responder, over one veth pair.
#
#   bench/compare.sh [--quick] [--save]
#
#   --quick  one short round instead of three: to see that all runs, not to quote
#   --save   write the figures to bench/figures.md as well
#
# The variants take turns within each round, so that the machine's drift falls on all of them alike; a ratio is the median
# of the rounds' ratios. bench/README.md says what each figure means.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"

port=7000
rounds=3 seconds=2 bulk_seconds=4 save=0
for option; do
    case $option in
    --quick) rounds=1 seconds=0.5 bulk_seconds=1 ;;
    --save) save=1 ;;
    *) die "compare.sh [--quick] [--save]" ;;
    esac
done

variants=(kernel userstack-native userstack-generic null-native null-generic)

# Name, and the arguments of the load client.
workloads=(
    "crr-64|--mode crr --clients 64"
    "rr-64|--mode rr --clients 64"
    "rr-1|--mode rr --clients 1"
    "idle-8000|--mode idle --clients 64 --idle 8000"
)
declare -A titles=(
    [crr-64]="Connect, 64 B request, 64 B reply, close: 64 clients"
    [rr-64]="Ping-pong of 64 B: 64 clients"
    [rr-1]="Ping-pong of 64 B: 1 client, so that the server sleeps between requests unless it spins"
    [idle-8000]="Ping-pong of 64 B: 64 clients, beside 8,000 open and silent connections"
)

# start_server VARIANT: sets server_pid; ready to serve on return.
start_server() {
    local mode=${1#*-} load_server=("$target_dir/release/load-server" --listen "$server_ip:$port")
    case $1 in
    kernel) "${in_server[@]}" "${load_server[@]}" >/dev/null & ;;
    userstack-*) "${in_server[@]}" "${preload_server[@]}" USERSTACK_XDP="$mode" "${load_server[@]}" >/dev/null & ;;
    null-*) "${in_server[@]}" "$target_dir/release/null-responder" --interface "$server_if" --listen "$server_ip:$port" \
        --mode "$mode" & ;;
    esac
    server_pid=$!
    case $1 in
    null-*) wait_attached "$server_pid" ;;
    *) wait_listening "$server_pid" "$port" ;;
    esac
}

# wait_attached PID: until an XDP program is on the server's interface; ends when PID does before.
wait_attached() {
    until xdp_attached; do
        kill -0 "$1" 2>/dev/null || die "The server ended before its XDP program was attached."
        sleep 0.05
    done
}

# measure VARIANT: runs every workload against the server and appends to the samples: workload, variant, rate, p50 and p99 in
# us, CPU us a transaction of both processes and of the whole machine.
measure() {
    local workload report
    for workload in "${workloads[@]}"; do
        # shellcheck disable=SC2086 # the arguments are words
        report=$(timeout 60 "${in_client[@]}" "$target_dir/release/load-client" ${workload#*|} --target "$server_ip:$port" \
            --seconds "$seconds" --server-pid "$server_pid") || {
            note "$1, ${workload%|*}: the load client gave up."
            continue
        }
        [[ $(json_field failures "$report") == 0 ]] ||
            note "$1, ${workload%|*}: $(json_field failures "$report") connections failed."
        echo "${workload%|*} $1 $(json_field rate "$report") $(json_field p50_us "$report") $(json_field p99_us "$report")" \
            "$(json_field count "$report") $(json_field cpu_s "$report") $(json_field server_cpu_s "$report")" \
            "$(json_field machine_busy_s "$report")" |
            awk '$6 { print $1, $2, $3, $4, $5, ($7 + $8) / $6 * 1e6, $9 / $6 * 1e6 }' >>"$samples"
    done
}

# column_of WORKLOAD VARIANT FIELD: one sample a line, in the order of the rounds.
column_of() {
    awk -v workload="$1" -v variant="$2" -v field="$3" '$1 == workload && $2 == variant { print $field }' "$samples"
}

# ratio_of_rates WORKLOAD VARIANT WORKLOAD VARIANT: the first's rate to the second's, the median of the rounds.
ratio_of_rates() {
    paste <(column_of "$1" "$2" 3) <(column_of "$3" "$4" 3) | awk '$2 { print $1 / $2 }' | median
}

# print_workload NAME: its table, a row a variant.
print_workload() {
    local variant ratio
    echo "### ${titles[$1]}"
    echo
    echo "| server            | transactions/s | to kernel | p50 us | p99 us | CPU us, both processes | CPU us, machine |"
    echo "|-------------------|---------------:|----------:|-------:|-------:|-----------------------:|----------------:|"
    for variant in "${variants[@]}"; do
        [[ -n $(column_of "$1" "$variant" 3) ]] || continue
        ratio=$(ratio_of_rates "$1" "$variant" "$1" kernel)
        printf '| %-17s | %14.0f | %8.2fx | %6.0f | %6.0f | %22.1f | %15.1f |\n' "$variant" \
            "$(column_of "$1" "$variant" 3 | median)" "${ratio:-0}" "$(column_of "$1" "$variant" 4 | median)" \
            "$(column_of "$1" "$variant" 5 | median)" "$(column_of "$1" "$variant" 6 | median)" \
            "$(column_of "$1" "$variant" 7 | median)"
    done
    echo
}

# print_idle_cost: what the open connections cost, a line a variant.
print_idle_cost() {
    local variant
    echo "Rate beside 8,000 open connections, to the rate without them:"
    for variant in "${variants[@]}"; do
        printf -- '- %s %.2fx\n' "$variant" "$(ratio_of_rates idle-8000 "$variant" rr-64 "$variant")"
    done
    echo
}

# print_bulk TITLE: what iperf3 carries to and from a server that is running, in Gb/s.
print_bulk() {
    local arguments rates=()
    for arguments in "" -R; do
        # shellcheck disable=SC2086 # no argument at all in one direction
        rates+=("$(timeout 30 "${in_client[@]}" iperf3 -c "$server_ip" -f m -t "$bulk_seconds" $arguments |
            awk '/receiver/ { print $(NF - 2) / 1000 }')") || note "$1: iperf3 gave up."
    done
    printf '| %-41s | %12.2f | %12.2f |\n' "$1" "${rates[0]:-0}" "${rates[1]:-0}"
}

# bulk TITLE COMMAND...: print_bulk with COMMAND as the server.
bulk() {
    local title=$1 pid
    shift
    "${in_server[@]}" "$@" >/dev/null 2>&1 &
    pid=$!
    wait_listening "$pid" 5201
    print_bulk "$title"
    stop "$pid"
}

print_bulk_table() {
    local mode
    echo "### Bulk by iperf3, Gb/s, for information"
    echo
    echo "| server                                    | client sends | server sends |"
    echo "|-------------------------------------------|-------------:|-------------:|"
    bulk "kernel, plain veth" iperf3 -s
    for mode in native generic; do
        start_server "null-$mode"
        bulk "kernel, XDP attached to its veth, $mode" iperf3 -s
        stop "$server_pid"
        bulk "userstack, $mode" "${preload_server[@]}" USERSTACK_XDP="$mode" iperf3 -s
    done
    echo
}

print_figures() {
    local workload
    echo "# Figures"
    echo
    echo "$(date +%F), Linux $(uname -r), $(nproc) processors ($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo))," \
        "medians of $rounds rounds of $seconds s. Kernel client throughout; server and client on a processor each."
    echo "Kernel on both sides: ${kernel_tuning[*]}, SO_REUSEADDR; MTU 1500; veth with one queue."
    echo
    for workload in "${workloads[@]}"; do
        print_workload "${workload%|*}"
    done
    print_idle_cost
    print_bulk_table
}

require_root
require_commands ip=iproute2 ss=iproute2 iperf3=iperf3 taskset=util-linux
build_library
(cd "$root" && cargo build --release --quiet --package userstack-bench)

samples=$(mktemp)
clean_up() {
    remove_pair
    rm -f "$samples"
}
clean_up_with clean_up
make_pair

for ((round = 1; round <= rounds; round++)); do
    for variant in "${variants[@]}"; do
        note "Round $round of $rounds: $variant"
        start_server "$variant"
        measure "$variant"
        stop "$server_pid"
    done
done

if ((save)); then
    print_figures | tee "$root/bench/figures.md"
else
    print_figures
fi
