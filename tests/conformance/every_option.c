// Every option of socket(7), tcp(7), ip(7) and ipv6(7): what it is on a flow, which values it takes, and what it is then.
#include "case.h"

#include <linux/filter.h>


// Of linux/in6.h, which cannot be included beside netinet/in.h.
#ifndef IPV6_MIN_HOPCOUNT
#define IPV6_MIN_HOPCOUNT 73
#endif

enum manner {
	WHOLE,   // The value is compared.
	LENGTH,  // Its length is: it differs from run to run.
	KERNELS, // The same; set, it keeps the socket with the kernel, and cannot be set on a flow.
};

struct option {
	int level, name;
	const char *label;
	enum manner manner;
};

#define OPTION(level, name, manner) {level, name, #name, manner}
#define SOCKET(name) {SOL_SOCKET, name, #name, WHOLE}
#define TCP(name) {IPPROTO_TCP, name, #name, WHOLE}
#define IP(name) {IPPROTO_IP, name, #name, WHOLE}
#define IP6(name) {IPPROTO_IPV6, name, #name, WHOLE}

static const struct option options[] = {
	SOCKET(SO_ACCEPTCONN), SOCKET(SO_BINDTODEVICE), SOCKET(SO_BROADCAST), SOCKET(SO_BUSY_POLL), SOCKET(SO_DEBUG),
	SOCKET(SO_DOMAIN), OPTION(SOL_SOCKET, SO_DONTROUTE, KERNELS), SOCKET(SO_ERROR), SOCKET(SO_KEEPALIVE), SOCKET(SO_LINGER),
	SOCKET(SO_LOCK_FILTER), OPTION(SOL_SOCKET, SO_MARK, KERNELS), SOCKET(SO_MAX_PACING_RATE), SOCKET(SO_NOFCS), SOCKET(SO_NO_CHECK),
	SOCKET(SO_OOBINLINE), SOCKET(SO_PASSCRED), OPTION(SOL_SOCKET, SO_PEEK_OFF, KERNELS), SOCKET(SO_PEERCRED), SOCKET(SO_PEERNAME),
	SOCKET(SO_PREFER_BUSY_POLL), SOCKET(SO_PRIORITY), SOCKET(SO_PROTOCOL), SOCKET(SO_RCVLOWAT), SOCKET(SO_RCVTIMEO),
	SOCKET(SO_RESERVE_MEM), SOCKET(SO_REUSEADDR), SOCKET(SO_REUSEPORT), SOCKET(SO_RXQ_OVFL), SOCKET(SO_SELECT_ERR_QUEUE),
	SOCKET(SO_SNDLOWAT), SOCKET(SO_SNDTIMEO), OPTION(SOL_SOCKET, SO_TIMESTAMP, KERNELS), OPTION(SOL_SOCKET, SO_TIMESTAMPING, KERNELS), OPTION(SOL_SOCKET, SO_TIMESTAMPNS, KERNELS),
	OPTION(SOL_SOCKET, SO_TXTIME, KERNELS), SOCKET(SO_TYPE), SOCKET(SO_WIFI_STATUS), SOCKET(SO_ZEROCOPY),
	OPTION(SOL_SOCKET, SO_COOKIE, LENGTH), OPTION(SOL_SOCKET, SO_INCOMING_CPU, LENGTH),
	OPTION(SOL_SOCKET, SO_INCOMING_NAPI_ID, LENGTH), OPTION(SOL_SOCKET, SO_MEMINFO, LENGTH),
	OPTION(SOL_SOCKET, SO_RCVBUF, LENGTH), OPTION(SOL_SOCKET, SO_SNDBUF, LENGTH),
	TCP(TCP_CORK), TCP(TCP_DEFER_ACCEPT), TCP(TCP_FASTOPEN), TCP(TCP_FASTOPEN_CONNECT),
	TCP(TCP_FASTOPEN_NO_COOKIE), TCP(TCP_INQ), TCP(TCP_KEEPCNT), TCP(TCP_KEEPIDLE),
	TCP(TCP_KEEPINTVL), TCP(TCP_LINGER2),
	TCP(TCP_NODELAY), TCP(TCP_NOTSENT_LOWAT), OPTION(IPPROTO_TCP, TCP_QUICKACK, LENGTH), TCP(TCP_REPAIR), TCP(TCP_SAVE_SYN), TCP(TCP_SYNCNT),
	TCP(TCP_THIN_DUPACK), TCP(TCP_THIN_LINEAR_TIMEOUTS), TCP(TCP_TX_DELAY), TCP(TCP_USER_TIMEOUT),
	OPTION(IPPROTO_TCP, TCP_SAVED_SYN, LENGTH), OPTION(IPPROTO_TCP, TCP_WINDOW_CLAMP, LENGTH),
	IP(IP_BIND_ADDRESS_NO_PORT), IP(IP_FREEBIND), IP(IP_HDRINCL), OPTION(IPPROTO_IP, IP_MINTTL, KERNELS), IP(IP_MTU_DISCOVER), OPTION(IPPROTO_IP, IP_MULTICAST_ALL, LENGTH),
	OPTION(IPPROTO_IP, IP_MULTICAST_IF, LENGTH), OPTION(IPPROTO_IP, IP_MULTICAST_LOOP, LENGTH), OPTION(IPPROTO_IP, IP_MULTICAST_TTL, LENGTH), IP(IP_NODEFRAG), OPTION(IPPROTO_IP, IP_OPTIONS, KERNELS), IP(IP_PASSSEC),
	IP(IP_PKTINFO), IP(IP_RECVERR), IP(IP_RECVOPTS), IP(IP_RECVORIGDSTADDR), IP(IP_RECVTOS), IP(IP_RECVTTL), IP(IP_RETOPTS),
	IP(IP_TOS), OPTION(IPPROTO_IP, IP_TRANSPARENT, KERNELS), IP(IP_TTL),
	IP6(IPV6_ADDRFORM), IP6(IPV6_ADDR_PREFERENCES), IP6(IPV6_AUTOFLOWLABEL), IP6(IPV6_DONTFRAG), IP6(IPV6_FREEBIND),
	OPTION(IPPROTO_IPV6, IPV6_MINHOPCOUNT, KERNELS), IP6(IPV6_MTU_DISCOVER), OPTION(IPPROTO_IPV6, IPV6_MULTICAST_ALL, LENGTH), OPTION(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, LENGTH), OPTION(IPPROTO_IPV6, IPV6_MULTICAST_IF, LENGTH),
	OPTION(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, LENGTH), IP6(IPV6_RECVERR), IP6(IPV6_RECVHOPLIMIT), IP6(IPV6_RECVPKTINFO), IP6(IPV6_RECVTCLASS),
	IP6(IPV6_TCLASS), OPTION(IPPROTO_IPV6, IPV6_TRANSPARENT, KERNELS), IP6(IPV6_UNICAST_HOPS), IP6(IPV6_V6ONLY),
};

enum { OPTIONS = sizeof options / sizeof *options };

static void say_value(const struct option *option, int fd)
{
	unsigned char value[256];
	socklen_t len = sizeof value;
	int result = getsockopt(fd, option->level, option->name, value, &len);
	if (result) {
		printf(" %s", strerrorname_np(errno));
		return;
	}
	printf(" %u:", len);
	for (unsigned i = 0; option->manner != LENGTH && i < len; i++)
		printf("%02x", value[i]);
}

static void say_all(const char *label, int fd)
{
	printf("%s\n", label);
	for (int i = 0; i < OPTIONS; i++) {
		printf("%s", options[i].label);
		say_value(&options[i], fd);
		printf("\n");
	}
}

static void set_all(int fd, bool is_flow)
{
	static const int values[] = {1, 2, 7, 100, 70000, -1, 0};
	for (int i = 0; i < OPTIONS; i++) {
		bool repairs = options[i].name == TCP_REPAIR && options[i].level == IPPROTO_TCP;
		if (repairs || (is_flow && options[i].manner == KERNELS))
			continue;
		printf("%s", options[i].label);
		for (unsigned v = 0; v < sizeof values / sizeof *values; v++) {
			int result = setsockopt(fd, options[i].level, options[i].name, &values[v], sizeof values[v]);
			printf(" [%d: %s", values[v], result ? strerrorname_np(errno) : "");
			say_value(&options[i], fd);
			printf("]");
		}
		printf("\n");
	}
}

static void of_a_fresh_socket(void)
{
	int fd = stream();
	say_all("fresh", fd);
	set_all(fd, false);
}

static void of_a_flow(void)
{
	int fd = flow();
	say_all("connected", fd);
	set_all(fd, true);
	tell();
	TRY(read_to_end(fd));
	say_all("at the end", fd);
	TRY(close(fd));
}

static void close_when_told(void)
{
	int fd = flow();
	await();
	TRY(close(fd));
}

static void set_some(int fd)
{
	static const struct { int level, name, value; } some[] = {
		{SOL_SOCKET, SO_PRIORITY, 5}, {SOL_SOCKET, SO_OOBINLINE, 1}, {SOL_SOCKET, SO_RCVLOWAT, 3},
		{SOL_SOCKET, SO_REUSEPORT, 1}, {IPPROTO_TCP, TCP_LINGER2, 9}, {IPPROTO_TCP, TCP_SYNCNT, 4},
		{IPPROTO_TCP, TCP_NOTSENT_LOWAT, 77}, {IPPROTO_IP, IP_TOS, 16}, {IPPROTO_IP, IP_TTL, 40},
		{IPPROTO_IPV6, IPV6_TCLASS, 8}, {IPPROTO_IPV6, IPV6_UNICAST_HOPS, 41},
	};
	for (unsigned i = 0; i < sizeof some / sizeof *some; i++)
		TRY(setsockopt(fd, some[i].level, some[i].name, &some[i].value, sizeof some[i].value));
}

// What a connection has from its listener, and what it keeps of what was set before it was opened.
static void handed_down(void)
{
	int waiting = listener();
	set_some(waiting);
	say_all("listening", waiting);
	tell();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	say_all("accepted", fd);
	tell();
	fd = stream();
	set_some(fd);
	union address address = peer_at(PORT);
	await();
	TRY(connect(fd, &address.any, address_len));
	say_all("opened", fd);
	tell();
}

static void open_and_accept(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	await();
	int waiting = listener();
	tell();
	TRY_FD(accept(waiting, NULL, NULL));
	await();
}

// A socket with an option that the library lacks is the kernel's from then on.
static void left_to_the_kernel(void)
{
	union address address = peer_at(PORT);
	static const struct sock_filter take_all[] = {{0x06, 0, 0, 0xffffffff}}; // ret #-1
	struct sock_fprog filter = {.len = 1, .filter = (struct sock_filter *)take_all};
	int one = 1;
	for (int kind = 0; kind < 3; kind++) {
		int fd = stream();
		switch (kind) {
		case 0: TRY(setsockopt(fd, SOL_SOCKET, SO_MARK, &one, sizeof one)); break;
		case 1: TRY(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter)); break;
		case 2: TRY(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3)), set_nonblocking(fd); break;
		}
		await();
		TRY(connect(fd, &address.any, address_len));
		tell();
		if (kind < 2)
			TRY(read_to_end(fd));
		close(fd);
	}
	int waiting = stream();
	address = wildcard_at(PORT);
	TRY(bind(waiting, &address.any, address_len));
	TRY(setsockopt(waiting, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
	TRY(listen(waiting, 1));
	tell();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	TRY(read_to_end(fd));
}

static void write_to_all(void)
{
	union address address = ours_at(PORT);
	int waiting = listener();
	for (int kind = 0; kind < 3; kind++) {
		tell();
		await();
		if (kind == 2)
			break;
		int fd = accept(waiting, NULL, NULL);
		write_pattern(fd, 10);
		close(fd);
	}
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	write_pattern(fd, 10);
}

// A socket bound to the interface is served as one that is not.
static void bound_to_the_device(void)
{
	union address address = peer_at(PORT);
	char name[16] = "";
	socklen_t len = sizeof name;
	int fd = stream();
	TRY(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "us0", 4));
	await();
	TRY(connect(fd, &address.any, address_len));
	TRY(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
	printf("%s %u\n", name, len);
	TRY(read_to_end(fd));
}

static void write_to_one(void)
{
	int waiting = listener();
	tell();
	int fd = accept(waiting, NULL, NULL);
	write_pattern(fd, 10);
}

const struct test_case cases[] = {
	{"of_a_fresh_socket", PASSED, of_a_fresh_socket, NULL},
	{"of_a_flow", FLOW, of_a_flow, close_when_told},
	{"handed_down", SERVED, handed_down, open_and_accept},
	{"left_to_the_kernel", PASSED, left_to_the_kernel, write_to_all},
	{"bound_to_the_device", SERVED, bound_to_the_device, write_to_one},
	{0},
};
