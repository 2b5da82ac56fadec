// IPv4 over IPv6 sockets: mapped addresses and IPV6_V6ONLY (ipv6(7)). The family of a run is the listener's peer's.
#include "case.h"

static union address mapped(union address v4)
{
	union address address = {.v6 = {.sin6_family = AF_INET6, .sin6_port = v4.v4.sin_port}};
	unsigned char *bytes = address.v6.sin6_addr.s6_addr;
	bytes[10] = bytes[11] = 0xff;
	memcpy(bytes + 12, &v4.v4.sin_addr, 4);
	return address;
}

static void say_name(const char *label, int (*call)(int, struct sockaddr *, socklen_t *), int fd)
{
	union address name = {0};
	socklen_t len = sizeof name;
	if (call(fd, &name.any, &len))
		give_up(label);
	say_address(label, &name, len);
}

static int listen_on_both(int v6_only)
{
	union address address = {.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)}};
	int fd = TRY_FD(socket(AF_INET6, SOCK_STREAM, 0));
	TRY(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only));
	TRY(bind(fd, &address.any, sizeof address.v6));
	TRY(listen(fd, 5));
	struct pollfd look = {.fd = fd, .events = POLLIN};
	TRY(poll(&look, 1, 0));
	return fd;
}

static void one_listener_for_both(void)
{
	int waiting = listen_on_both(0);
	tell();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	say_name("own", getsockname, fd);
	say_name("peer", getpeername, fd);
	int domain = 0;
	socklen_t len = sizeof domain;
	TRY(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len));
	TRY(domain == AF_INET6);
	write_pattern(fd, 10000);
	TRY(close(fd));
}

static void read_from_both(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	TRY(read_to_end(fd));
}

static void only_ipv6(void)
{
	int waiting = listen_on_both(1);
	int other = TRY_FD(socket(AF_INET, SOCK_STREAM, 0));
	union address address = ours_v4_at(PORT);
	TRY(bind(other, &address.any, sizeof address.v4));
	tell();
	await();
	set_nonblocking(waiting);
	if (family == AF_INET6)
		wait_for(waiting, POLLIN);
	TRY_FD(accept(waiting, NULL, NULL));
}

static void connect_or_not(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	tell();
}

static void connect_to_mapped(void)
{
	union address address = mapped(peer_v4_at(PORT));
	await();
	int fd = TRY_FD(socket(AF_INET6, SOCK_STREAM, 0));
	TRY(connect(fd, &address.any, sizeof address.v6));
	say_name("own", getsockname, fd);
	say_name("peer", getpeername, fd);
	read_exactly(fd, 10000);
	TRY(read_to_end(fd));
	int only = 1;
	fd = TRY_FD(socket(AF_INET6, SOCK_STREAM, 0));
	TRY(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only));
	TRY(connect(fd, &address.any, sizeof address.v6));
	fd = TRY_FD(socket(AF_INET, SOCK_STREAM, 0));
	TRY(connect(fd, &address.any, sizeof address.v6));
}

static void serve_ipv4(void)
{
	int waiting = TRY_FD(socket(AF_INET, SOCK_STREAM, 0));
	union address address = peer_v4_at(PORT);
	TRY(bind(waiting, &address.any, sizeof address.v4));
	TRY(listen(waiting, 1));
	tell();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	write_pattern(fd, 10000);
	TRY(close(fd));
}

static void bound_to_mapped(void)
{
	union address address = mapped(ours_v4_at(PORT));
	int waiting = TRY_FD(socket(AF_INET6, SOCK_STREAM, 0));
	TRY(bind(waiting, &address.any, sizeof address.v6));
	TRY(listen(waiting, 1));
	say_name("own", getsockname, waiting);
	struct pollfd look = {.fd = waiting, .events = POLLIN};
	TRY(poll(&look, 1, 0));
	tell();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	say_name("own", getsockname, fd);
	write_pattern(fd, 10000);
	TRY(close(fd));
}

static void read_from_ipv4(void)
{
	union address address = ours_v4_at(PORT);
	await();
	int fd = TRY_FD(socket(AF_INET, SOCK_STREAM, 0));
	TRY(connect(fd, &address.any, sizeof address.v4));
	TRY(read_to_end(fd));
}

const struct test_case cases[] = {
	{"one_listener_for_both", SERVED, one_listener_for_both, read_from_both},
	{"only_ipv6", ANYHOW, only_ipv6, connect_or_not},
	{"connect_to_mapped", SERVED, connect_to_mapped, serve_ipv4},
	{"bound_to_mapped", SERVED, bound_to_mapped, read_from_ipv4},
	{0},
};
