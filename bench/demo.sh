#!/bin/bash
# The demonstration: nginx and redis from Debian's packages, served by the kernel's TCP and then, preloaded, by userstack.
#
#   run-preloaded.sh      with no program runs this
#
# Installs what is missing from apt, builds, and works in two network namespaces joined by a veth pair, which it removes.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"

seconds=4
clients=64
stacks=(kernel userstack)
workloads=(ab-close ab-keepalive redis-set redis-get)
declare -A titles=(
    [ab-close]="nginx, 64 B file, a connection each"
    [ab-keepalive]="nginx, 64 B file, keep-alive"
    [redis-set]="redis, SET of 64 B"
    [redis-get]="redis, GET of 64 B"
)

work=$(mktemp -d)
clean_up() {
    remove_pair
    allow_services
    rm -rf "$work"
}

# The files that nginx serves, and its configuration: a master and one worker, as Debian runs it.
write_site() {
    local size
    mkdir "$work/site"
    for size in 0 1 64 1460 100000 20000000; do
        head -c "$size" /dev/urandom >"$work/site/$size"
    done
    cat >"$work/nginx.conf" <<-END
		user www-data;
		worker_processes 1;
		daemon off;
		pid $work/nginx.pid;
		error_log $work/nginx.log;
		events { worker_connections 4096; }
		http {
		    access_log off;
		    keepalive_requests 1000000000;
		    sendfile on;
		    server { listen 80 backlog=4096; root $work/site; }
		}
	END
    chmod 755 "$work"
}

# start_server STACK PROGRAM: nginx or redis; sets server_pid, and is ready to serve on return.
start_server() {
    local launch=("${in_server[@]}")
    [[ $1 == kernel ]] || launch+=("${preload_server[@]}")
    case $2 in
    nginx)
        "${launch[@]}" nginx -c "$work/nginx.conf" &
        wait_listening $! 80
        ;;
    redis)
        "${launch[@]}" redis-server --bind 0.0.0.0 --protected-mode no --save "" --dir "$work" >"$work/redis.log" &
        wait_listening $! 6379
        ;;
    esac
    server_pid=$!
}

# fetch_all TITLE PREFIX...: every file by wget, run under PREFIX; the bytes have to be equal.
fetch_all() {
    local title=$1 file count=0
    shift
    for file in "$work"/site/*; do
        "${in_client[@]}" "$@" wget -q -T 20 -t 1 -O "$work/fetched" "http://$server_ip/${file##*/}" ||
            die "$title: wget could not fetch the file of ${file##*/} bytes."
        cmp "$file" "$work/fetched" || die "$title: the file of ${file##*/} bytes arrived changed."
        count=$((count + 1))
    done
    printf '  %-48s %d files of 0 B to 20 MB, all bytes equal\n' "$title" "$count"
}

# drive WORKLOAD: runs the client and prints requests, requests a second, p50 and p99 in ms.
drive() {
    local url=http://$server_ip/64
    case $1 in
    ab-close) drive_ab 500000 "$url" ;;
    ab-keepalive) drive_ab 2000000 -k "$url" ;;
    redis-*) drive_redis "${1#*-}" ;;
    esac
}

# ab prints whole milliseconds; the file of percentiles is finer.
drive_ab() {
    local requests_max=$1
    shift
    timeout 60 "${in_client[@]}" ab -q -c "$clients" -t "$seconds" -n "$requests_max" -e "$work/percentiles" "$@" \
        >"$work/ab" 2>&1 || die "ab gave up: $(tail -n 1 "$work/ab")"
    awk -F '[:,]' '
        FILENAME ~ /percentiles/ { percentile[$1] = $2; next }
        /^Complete requests/ { requests = $2 }
        /^Failed requests/ && $2 > 0 { print "ab: " $2 " requests failed" > "/dev/stderr" }
        /^Requests per second/ { split($2, words, " "); rate = words[1] }
        END { print requests, rate, percentile[50], percentile[99] }' "$work/percentiles" "$work/ab"
}

# redis-benchmark counts requests, not seconds: first a few, to see how many fit.
drive_redis() {
    local few=20000 requests
    requests=$(redis_benchmark "$1" "$few" | awk -v seconds="$seconds" '{ printf "%d", $1 * seconds }')
    echo "$((few + requests)) $(redis_benchmark "$1" "$requests")"
}

# redis_benchmark COMMAND REQUESTS: prints requests a second, p50 and p99 in ms.
redis_benchmark() {
    timeout 60 "${in_client[@]}" redis-benchmark -h "$server_ip" -c "$clients" -n "$2" -d 64 -t "$1" --csv 2>/dev/null |
        awk -F '","' 'NR == 2 { print $2, $5, $7 }'
}

# measure STACK WORKLOAD: sets results[STACK,WORKLOAD] to the rate, p50, p99, and CPU us a request of the server and of both
# sides; adds to the stack's count of TCP segments in the server's kernel.
measure() {
    local ticks machine in out report requests rate p50 p99
    in=$(tcp_segments InSegs) out=$(tcp_segments OutSegs)
    ticks=$(process_ticks "$server_pid") machine=$(machine_ticks)
    report=$(drive "$2") || exit 1
    read -r requests rate p50 p99 <<<"$report"
    ticks=$(($(process_ticks "$server_pid") - ticks)) machine=$(($(machine_ticks) - machine))
    count_segments "$1" "$in" "$out"
    results[$1,$2]=$(awk -v requests="$requests" -v us="$((1000000 / ticks_per_second))" -v ticks="$ticks" \
        -v machine="$machine" -v rest="$rate $p50 $p99" \
        'BEGIN { if (!requests) exit 1; print rest, ticks * us / requests, machine * us / requests }') ||
        die "$1, ${titles[$2]}: no request was answered."
}
declare -A results segments_in=([kernel]=0 [userstack]=0) segments_out=([kernel]=0 [userstack]=0)

# count_segments STACK IN OUT: adds what the server's kernel counted since its counters stood at IN and OUT.
count_segments() {
    segments_in[$1]=$((segments_in[$1] + $(tcp_segments InSegs) - $2))
    segments_out[$1]=$((segments_out[$1] + $(tcp_segments OutSegs) - $3))
}

# fetch STACK: the files, from nginx on that stack.
fetch() {
    local in out
    start_server "$1" nginx
    in=$(tcp_segments InSegs) out=$(tcp_segments OutSegs)
    fetch_all "wget from nginx on $1" env
    [[ $1 == kernel ]] || fetch_all "wget on userstack from nginx on userstack" "${preload_client[@]}"
    count_segments "$1" "$in" "$out"
    stop "$server_pid"
}

print_table() {
    local workload
    cat <<-END

		$clients clients, $seconds s each; kernel clients throughout; server and client on a processor each.

		                                       requests/s             p50 / p99, ms          CPU, us/request:  server       both sides
		                                     kernel userstack        kernel   userstack          kernel userstack   kernel userstack
	END
    for workload in "${workloads[@]}"; do
        echo "${results[kernel,$workload]} ${results[userstack,$workload]}" | awk -v title="${titles[$workload]}" '{
            printf "%-36s %6d %9d %5.2fx  %5.2f /%6.2f  %5.2f /%6.2f  %8.1f %9.1f %8.1f %9.1f %5.2fx\n", title,
                $1, $6, $6 / $1, $2, $3, $7, $8, $4, $9, $5, $10, $10 / $5 }'
    done
    cat <<-END

		Both sides: all processors together, since over veth each side's receive work runs inside the other side's send.
	END
}

# The kernel's TCP in the server's namespace counts each segment that it sees; the demonstration fails if it saw any.
print_proof() {
    cat <<-END

		TCP segments that went through the kernel's stack in the server's namespace (/proc/net/snmp, InSegs and OutSegs):
		  kernel     ${segments_in[kernel]} in, ${segments_out[kernel]} out
		  userstack  ${segments_in[userstack]} in, ${segments_out[userstack]} out
	END
    ((segments_in[userstack] == 0 && segments_out[userstack] == 0)) ||
        die "Segments of the preloaded run went through the kernel's stack."
}

require_root
clean_up_with clean_up
install_packages "${build_packages[@]}" nginx redis-server redis-tools apache2-utils wget iproute2 procps
require_commands clang=clang nginx=nginx redis-server=redis-server redis-benchmark=redis-tools ab=apache2-utils wget=wget \
    ip=iproute2 ss=iproute2 sysctl=procps
grep -q '^XDP ' /proc/net/protocols || die "This kernel has no AF_XDP sockets: it was built without CONFIG_XDP_SOCKETS."
build_library
make_pair
write_site

echo "Files:"
for stack in "${stacks[@]}"; do
    fetch "$stack"
done
for workload in "${workloads[@]}"; do
    for stack in "${stacks[@]}"; do
        note "Running: ${titles[$workload]}, on $stack ..."
        program=redis
        [[ $workload == redis-* ]] || program=nginx
        start_server "$stack" "$program"
        measure "$stack" "$workload"
        stop "$server_pid"
    done
done
print_table
print_proof
