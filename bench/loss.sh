#!/bin/bash
# Throughput over a line that loses or reorders, and how flows share a bottleneck: userstack beside the kernel, in one run.
#
#   bench/loss.sh [--quick] [--save]
#
#   --quick  one short round instead of three: to see that all runs, not to quote
#   --save   write the figures to bench/figures-loss.md as well
#
# The variants take turns within each round. bench/README.md says what each figure means.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"

rounds=3 seconds=4 share_seconds=20 warm_up=5 save=0
for option; do
    case $option in
    --quick) rounds=1 seconds=1 share_seconds=4 warm_up=1 ;;
    --save) save=1 ;;
    *) die "loss.sh [--quick] [--save]" ;;
    esac
done

# The line of the throughput table, and of the bottleneck: a millisecond and ten there and back.
line=(--rate-mbps 1000 --delay-us 500 --queue 256)
bottleneck=(--rate-mbps 50 --delay-us 5000 --queue 40)

# Name, and the arguments of fault-link beside those of the line.
conditions=(
    "no loss|"
    "0.1 % lost|--loss-permille 1"
    "1 % lost|--loss-permille 10"
    "5 % lost|--loss-permille 50"
    "1 % reordered by up to 0.2 ms|--reorder-permille 10 --reorder-us 200"
)

# start_iperf STACK PORT: appends to the servers that stop_iperf ends; ready to serve on return.
servers=()
start_iperf() {
    local launch=("${in_server[@]}")
    [[ $1 == kernel ]] || launch+=("${preload_server[@]}")
    "${launch[@]}" iperf3 -s -p "$2" >/dev/null 2>&1 &
    servers+=($!)
    wait_listening $! "$2"
}

stop_iperf() {
    local pid
    for pid in "${servers[@]}"; do stop "$pid"; done
    servers=()
}

# receive PORT ARGUMENT...: runs a client of the kernel's; a line for each flow with what was received, in Mb/s. CUBIC on both
# sides, whatever the kernel's default is.
receive() {
    timeout 90 "${in_client[@]}" iperf3 -c "$server_ip" -C cubic -f m -p "$@" |
        awk '/receiver/ && !/SUM/ { print $(NF - 2) }'
}

# measure_throughput CONDITION STACK SEED: appends condition, direction, stack and rate to the samples.
measure_throughput() {
    local direction
    # shellcheck disable=SC2086 # the arguments are words
    set_line "${line[@]}" --seed "$3" ${1#*|}
    start_iperf "$2" 5201
    for direction in -R ""; do
        # shellcheck disable=SC2086 # no argument at all in one direction
        echo "${1%|*}|${direction:-sends}|$2|$(receive 5201 -t "$seconds" $direction)" >>"$samples"
    done
    stop_iperf
}

# rate_of CONDITION DIRECTION STACK: the median, in Mb/s.
rate_of() {
    awk -F'|' -v key="$1|$2|$3" '$1 "|" $2 "|" $3 == key { print $4 }' "$samples" | median
}

print_throughput() {
    local condition name row direction
    echo "### Throughput of one flow, Mb/s: ${line[*]}"
    echo
    echo "| line                           | kernel sends | userstack sends | to kernel | kernel receives | userstack receives | to kernel |"
    echo "|--------------------------------|-------------:|----------------:|----------:|----------------:|-------------------:|----------:|"
    for condition in "${conditions[@]}"; do
        name=${condition%|*} row=()
        for direction in -R sends; do
            row+=("$(rate_of "$name" "$direction" kernel)" "$(rate_of "$name" "$direction" userstack)")
        done
        printf '| %-30s | %12.1f | %15.1f | %8.2fx | %15.1f | %18.1f | %8.2fx |\n' "$name" "${row[0]}" "${row[1]}" \
            "$(ratio "${row[1]}" "${row[0]}")" "${row[2]}" "${row[3]}" "$(ratio "${row[3]}" "${row[2]}")"
    done
    echo
}

ratio() {
    awk -v one="$1" -v other="$2" 'BEGIN { print other ? one / other : 0 }'
}

# share TITLE STACK STACK SEED: two flows into the bottleneck at once; a line of its samples: what each received after the
# warm-up. Two of the same stack are served by one process, since a queue of the interface has one owner.
share() {
    local rates=() times=(-R -t "$share_seconds" -O "$warm_up")
    set_line "${bottleneck[@]}" --seed "$4"
    start_iperf "$2" 5201
    if [[ $2 == "$3" ]]; then
        mapfile -t rates < <(receive 5201 "${times[@]}" -P 2)
    else
        start_iperf "$3" 5202
        mapfile -t rates < <(receive 5201 "${times[@]}" & receive 5202 "${times[@]}" >"$second"; wait; cat "$second")
    fi
    stop_iperf
    echo "$1|${rates[0]:-0}|${rates[1]:-0}" >>"$shares"
}

print_shares() {
    echo "### Two flows in a bottleneck, Mb/s: ${bottleneck[*]}"
    echo
    echo "| flows                            | first | second | the first's share, each round |"
    echo "|----------------------------------|------:|-------:|:------------------------------|"
    local title
    for title in "${pairs[@]%%|*}"; do
        awk -F'|' -v title="$title" '
            $1 == title && $2 + $3 { first += $2; second += $3; rounds++; each = each sprintf("%.0f %% ", 100 * $2 / ($2 + $3)) }
            END { if (rounds) printf "| %-32s | %5.1f | %6.1f | %-29s |\n", title, first / rounds, second / rounds, each }' "$shares"
    done
    echo
}

pairs=(
    "userstack beside the kernel|userstack kernel"
    "userstack beside userstack|userstack userstack"
    "the kernel beside the kernel|kernel kernel"
)

print_figures() {
    echo "# Figures of loss and fairness"
    echo
    echo "$(date +%F), Linux $(uname -r), $(nproc) processors, $rounds rounds. A forwarder between two veth pairs loses, delays and" \
        "queues; no offloads; the client is the kernel's; CUBIC everywhere."
    echo
    print_throughput
    print_shares
}

require_root
require_commands ip=iproute2 ss=iproute2 ethtool=ethtool iperf3=iperf3 taskset=util-linux
build_library
(cd "$root" && cargo build --release --quiet --package userstack-bench)

samples=$(mktemp) shares=$(mktemp) second=$(mktemp)
clean_up() {
    [[ -z $line_pid ]] || stop "$line_pid"
    remove_pair
    rm -f "$samples" "$shares" "$second"
}
clean_up_with clean_up
make_line

for ((round = 1; round <= rounds; round++)); do
    for condition in "${conditions[@]}"; do
        for stack in kernel userstack; do
            note "Round $round of $rounds: ${condition%|*}, $stack"
            measure_throughput "$condition" "$stack" "$round"
        done
    done
    for pair in "${pairs[@]}"; do
        note "Round $round of $rounds: ${pair%|*}"
        # shellcheck disable=SC2086 # two words
        share "${pair%|*}" ${pair#*|} "$round"
    done
done

if ((save)); then
    print_figures | tee "$root/bench/figures-loss.md"
else
    print_figures
fi
