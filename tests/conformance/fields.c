// What stands in the IP headers of a connection's packets: IP_TOS and IP_TTL, IPV6_TCLASS and IPV6_UNICAST_HOPS, and the
// namespace's defaults, as a raw socket on the other host sees them.
#include "case.h"

enum { SEEN = 16 };

static int watcher;

static void watch(void)
{
	int on = 1;
	watcher = socket(family, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_TCP);
	if (watcher < 0)
		give_up("a raw socket");
	if (family == AF_INET6 && (setsockopt(watcher, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on) ||
				   setsockopt(watcher, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof on)))
		give_up("IPV6_RECVTCLASS");
}

// Whose packets are looked at.
static union address from;

static void look_at(int fd)
{
	socklen_t len = sizeof from;
	if (getpeername(fd, &from.any, &len))
		give_up("getpeername");
}

// Prints what this connection's packets had that have come since the last time, each once: the class and the limit.
static void say_seen(const char *label)
{
	char seen[SEEN][32];
	int count = 0;
	for (;;) {
		unsigned char bytes[2048], control[256];
		struct iovec piece = {bytes, sizeof bytes};
		struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
		if (recvmsg(watcher, &message, 0) < 0)
			break;
		int class = bytes[1], limit = bytes[8], *number;
		for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); family == AF_INET6 && at; at = CMSG_NXTHDR(&message, at)) {
			number = (int *)CMSG_DATA(at);
			*(at->cmsg_type == IPV6_TCLASS ? &class : &limit) = *number;
		}
		const unsigned char *tcp = family == AF_INET ? bytes + (bytes[0] & 15) * 4 : bytes;
		if (memcmp(tcp, &from.v4.sin_port, 2))
			continue;
		char line[32];
		snprintf(line, sizeof line, "%s %02x %d", tcp[13] & 2 ? "SYN" : tcp[13] & 4 ? "RST" : "rest", class, limit);
		int i = 0;
		while (i < count && strcmp(seen[i], line))
			i++;
		if (i == count && count < SEEN)
			strcpy(seen[count++], line);
	}
	printf("%s:", label);
	for (int i = 0; i < count; i++)
		printf(" [%s]", seen[i]);
	printf("\n");
}

static void set(int fd, int class, int limit)
{
	if (family == AF_INET) {
		TRY(setsockopt(fd, IPPROTO_IP, IP_TOS, &class, sizeof class));
		TRY(setsockopt(fd, IPPROTO_IP, IP_TTL, &limit, sizeof limit));
	} else {
		TRY(setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &class, sizeof class));
		TRY(setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &limit, sizeof limit));
	}
}

static void set_default(const char *path, int value)
{
	FILE *file = fopen(path, "w");
	if (!file || fprintf(file, "%d", value) < 0 || fclose(file))
		give_up(path);
}

// One byte there and one back, with what each step puts into the headers.
static void converse(int fd)
{
	char byte = 'x';
	if (read(fd, &byte, 1) != 1 || write(fd, &byte, 1) != 1)
		give_up("a byte");
	await();
}

static void listen_to(int fd, const char *label)
{
	char byte = 'y';
	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
		give_up("a byte");
	say_seen(label);
	tell();
}

static void opens(void)
{
	set_default("/proc/sys/net/ipv4/ip_default_ttl", 77);
	set_default("/proc/sys/net/ipv6/conf/us0/hop_limit", 78);
	for (int with = 0; with < 2; with++) {
		union address address = peer_at(PORT);
		await();
		int fd = stream();
		if (with)
			set(fd, 0x4b, 9);
		TRY(connect(fd, &address.any, address_len));
		converse(fd);
		set(fd, 0x20, 33);
		converse(fd);
		set(fd, 0, -1);
		converse(fd);
		if (with)
			reset_on_close(fd);
		TRY(close(fd));
		tell();
	}
}

static void is_opened(void)
{
	watch();
	for (int with = 0; with < 2; with++) {
		int waiting = listener();
		tell();
		int fd = accept(waiting, NULL, NULL);
		look_at(fd);
		listen_to(fd, "opened");
		listen_to(fd, "set");
		listen_to(fd, "set back");
		await();
		char byte;
		TRY(read(fd, &byte, 1));
		say_seen("closed");
		close(fd);
		close(waiting);
	}
}

static void accepts(void)
{
	int waiting = listener();
	for (int with = 0; with < 2; with++) {
		if (with)
			set(waiting, 0xfc, 200);
		tell();
		int fd = accept(waiting, NULL, NULL);
		converse(fd);
		set(fd, 0x08, 255);
		converse(fd);
		TRY(shutdown(fd, SHUT_WR));
		tell();
		TRY(read_to_end(fd));
		TRY(close(fd));
		tell();
	}
}

static void is_accepted(void)
{
	watch();
	for (int with = 0; with < 2; with++) {
		union address address = ours_at(PORT);
		await();
		int fd = stream();
		if (connect(fd, &address.any, address_len))
			give_up("connect");
		look_at(fd);
		listen_to(fd, "accepted");
		listen_to(fd, "set");
		await();
		TRY(shutdown(fd, SHUT_WR));
		await();
		// The ACK of the FIN goes out without a word to anybody: it is there when the kernel has ended the connection.
		struct tcp_info info;
		do {
			socklen_t len = sizeof info;
			getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
		} while (info.tcpi_state != TCP_CLOSE);
		say_seen("closed");
		close(fd);
	}
}

const struct test_case cases[] = {
	{"opens", SERVED, opens, is_opened},
	{"accepts", SERVED, accepts, is_accepted},
	{0},
};
