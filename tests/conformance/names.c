// bind(2), getsockname(2) and getpeername(2) in every state of a socket, and the ports that there are.
#include "case.h"

#include <pthread.h>

static void say(const char *state, int fd)
{
	printf("-- %s\n", state);
	say_names(fd);
}

static void set_range(const char *range)
{
	FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "w");
	if (!file || fputs(range, file) < 0 || fclose(file))
		give_up("ip_local_port_range");
}

// Accepts as many connections as it is told, and then does with each what is said: 'r'eset, 'f'in.
static void serve(void)
{
	int waiting = listener();
	tell();
	for (uint64_t what; (what = await_number()) != 'q';) {
		int fd = accept(waiting, NULL, NULL);
		tell();
		await();
		if (what == 'r')
			reset_on_close(fd);
		close(fd);
		tell();
	}
}

// Connects to the peer, which has accepted it then.
static int connected(int fd, char end)
{
	union address address = peer_at(PORT);
	tell_number(end);
	TRY(connect(fd, &address.any, address_len));
	await();
	return fd;
}

static void have_it_closed(void)
{
	tell();
	await();
}

static void before_a_connection(void)
{
	union address any = wildcard_at(0), one = ours_at(0), at_port = ours_at(7100), loopback = loopback_at(0);
	int fd = stream();
	say("fresh", fd);
	TRY(bind(fd, &any.any, address_len));
	say("bound to every address", fd);
	TRY(bind(fd, &one.any, address_len));
	fd = stream();
	TRY(bind(fd, &one.any, address_len));
	say("bound to one", fd);
	fd = stream();
	TRY(bind(fd, &at_port.any, address_len));
	say("bound to a port", fd);
	TRY(bind(stream(), &at_port.any, address_len));
	TRY(listen(fd, 1));
	say("listening", fd);
	TRY(bind(fd, &one.any, address_len));
	fd = stream();
	TRY(bind(fd, &loopback.any, address_len));
	say("bound to the loopback", fd);
	fd = stream();
	TRY(listen(fd, 1));
	say("listening without a word of where", fd);
}

static void of_a_refused(void)
{
	union address closed = peer_at(CLOSED_PORT), from = ours_at(7100), any = wildcard_at(0);
	await();
	int fd = stream();
	TRY(connect(fd, &closed.any, address_len));
	say("refused", fd);
	TRY(bind(fd, &from.any, address_len));
	say("bound after that", fd);
	TRY(connect(fd, &closed.any, address_len));
	say("refused once more", fd);
	TRY(bind(fd, &from.any, address_len));
	connected(fd, 'f');
	say("connected", fd);
	have_it_closed();
	close(fd);
	// Bound before; as an address alone, too.
	fd = stream();
	from = ours_at(0);
	TRY(bind(fd, &from.any, address_len));
	TRY(connect(fd, &closed.any, address_len));
	say("refused, bound to one address", fd);
	TRY(bind(fd, &any.any, address_len));
	say("bound", fd);
	fd = stream();
	TRY(connect(fd, &closed.any, address_len));
	TRY(listen(fd, 1));
	say("listening after a refusal", fd);
	// What the kernel serves is no worse for it.
	fd = stream();
	int waiting = stream();
	union address at = loopback_at(7200);
	TRY(bind(waiting, &at.any, address_len));
	TRY(listen(waiting, 1));
	TRY(connect(fd, &closed.any, address_len));
	TRY(connect(fd, &at.any, address_len));
	say("connected over the loopback", fd);
	tell_number('q');
}

static void on_its_way(void)
{
	union address absent = absent_at(PORT), from = ours_at(7100), unspecified = {.any.sa_family = AF_UNSPEC};
	int fd = stream();
	set_nonblocking(fd);
	TRY(connect(fd, &absent.any, address_len));
	say("on its way", fd);
	TRY(bind(fd, &from.any, address_len));
	TRY(listen(fd, 1));
	TRY(connect(fd, &unspecified.any, address_len));
	say("and back", fd);
	TRY(bind(fd, &from.any, address_len));
	say("bound", fd);
}

static void of_a_connection(void)
{
	union address from = ours_at(7100), unspecified = {.any.sa_family = AF_UNSPEC};
	char byte;
	await();
	int fd = connected(stream(), 'f');
	say("connected", fd);
	TRY(bind(fd, &from.any, address_len));
	TRY(shutdown(fd, SHUT_WR));
	say("shut for writing", fd);
	have_it_closed();
	TRY(recv(fd, &byte, 1, 0));
	struct tcp_info info;
	do {
		socklen_t len = sizeof info;
		getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	} while (info.tcpi_state != TCP_CLOSE);
	say("over", fd);
	close(fd);
	fd = connected(stream(), 'r');
	have_it_closed();
	wait_for(fd, POLLHUP);
	say("reset", fd);
	TRY(recv(fd, &byte, 1, 0));
	say("and that is heard of", fd);
	close(fd);
	fd = connected(stream(), 'f');
	TRY(connect(fd, &unspecified.any, address_len));
	say("disconnected", fd);
	have_it_closed();
	TRY(bind(fd, &from.any, address_len));
	say("and bound", fd);
	TRY(connect(fd, &unspecified.any, address_len));
	say("disconnected when it was not connected", fd);
	close(fd);
	tell_number('q');
}

static void of_an_accepted(void)
{
	union address from = ours_at(7100), unspecified = {.any.sa_family = AF_UNSPEC};
	int waiting = listener();
	tell();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	// Reset sooner, the peer's connect would say so.
	await();
	say("accepted", fd);
	TRY(bind(fd, &from.any, address_len));
	TRY(connect(fd, &unspecified.any, address_len));
	say("disconnected", fd);
	TRY(bind(fd, &from.any, address_len));
	say("bound", fd);
	tell();
}

static void open_one(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	if (connect(fd, &address.any, address_len))
		give_up("connect");
	tell();
	await();
}

// Two ports to be had: the third connection to the same place gets none.
static void no_port_left(void)
{
	union address address = peer_at(PORT), any = wildcard_at(0);
	await();
	set_range("40000 40001");
	int first = connected(stream(), 'r'), second = connected(stream(), 'r'), third = stream();
	TRY(connect(third, &address.any, address_len));
	say("none left", third);
	TRY(bind(stream(), &any.any, address_len));
	have_it_closed();
	tell_number('q');
	close(first), close(second);
}

static void serve_both(void)
{
	int waiting = listener();
	tell();
	await();
	int first = accept(waiting, NULL, NULL);
	tell();
	await();
	int second = accept(waiting, NULL, NULL);
	tell();
	await();
	reset_on_close(first), reset_on_close(second);
	close(first), close(second);
	tell();
	await();
}

// More than the ports of closed sockets that the library keeps reserved.
enum { LEFT_OPEN = 160 };

// A closed socket's port is taken for its peer, which has not closed, and so the next connection has another one.
static void ports_of_closed_sockets(void)
{
	union address address = peer_at(PORT);
	await();
	set_range("40000 40399");
	for (int i = 0; i < LEFT_OPEN; i++) {
		int fd = stream();
		TRY(connect(fd, &address.any, address_len));
		close(fd);
	}
	tell();
}

static void accept_and_keep(void)
{
	int waiting = listener();
	tell();
	for (int i = 0; i < LEFT_OPEN; i++)
		TRY_FD(accept(waiting, NULL, NULL));
	await();
}

// IP_BIND_ADDRESS_NO_PORT: the port comes with the connection. IP_LOCAL_PORT_RANGE: from where.
static void late_and_chosen_ports(void)
{
	union address from = ours_at(0), name, at_port = ours_at(7100);
	socklen_t len = sizeof name;
	int on = 1;
	uint32_t range = 40000 | 40001u << 16;
	await();
	int fd = stream();
	TRY(setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on));
	TRY(bind(fd, &from.any, address_len));
	say("no port yet", fd);
	connected(fd, 'f');
	say("connected", fd);
	TRY(getsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, &len));
	TRY(on);
	have_it_closed();
	close(fd);
	fd = stream();
	TRY(setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on));
	TRY(bind(fd, &at_port.any, address_len));
	connected(fd, 'r');
	say("connected from a port", fd);
	have_it_closed();
	close(fd);
	fd = stream();
	TRY(setsockopt(fd, IPPROTO_IP, 51 /* IP_LOCAL_PORT_RANGE */, &range, sizeof range));
	connected(fd, 'r');
	len = sizeof name;
	TRY(getsockname(fd, &name.any, &len));
	TRY(ntohs(name.v4.sin_port) / 2);
	have_it_closed();
	close(fd);
	tell_number('q');
}

enum { THREADS = 4, PORTS = 64 };

static uint16_t ports[THREADS * PORTS];

static void *bind_many(void *argument)
{
	uint16_t *at = argument;
	for (int i = 0; i < PORTS; i++) {
		union address name = i % 2 ? ours_at(0) : wildcard_at(0);
		socklen_t len = address_len;
		int fd = stream();
		if (bind(fd, &name.any, address_len) || getsockname(fd, &name.any, &len))
			give_up("bind");
		at[i] = name.v4.sin_port;
	}
	return NULL;
}

static int by_number(const void *a, const void *b) { return *(const uint16_t *)a - *(const uint16_t *)b; }

// No port is given twice, to whichever thread and in whichever way.
static void ports_differ(void)
{
	pthread_t threads[THREADS];
	await();
	int first = connected(stream(), 'f');
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, bind_many, ports + i * PORTS);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	union address name;
	socklen_t len = sizeof name;
	getsockname(first, &name.any, &len);
	ports[0] = name.v4.sin_port == ports[0] ? ports[1] : ports[0];
	qsort(ports, THREADS * PORTS, sizeof *ports, by_number);
	int twice = 0;
	for (int i = 1; i < THREADS * PORTS; i++)
		twice += ports[i] == ports[i - 1];
	printf("twice: %d\n", twice);
	have_it_closed();
	tell_number('q');
}

static void what_cannot_be(void)
{
	union address foreign = peer_at(7100), at_port = ours_at(7100), any = wildcard_at(0);
	union address other = {.any.sa_family = family == AF_INET ? AF_INET6 : AF_INET};
	union address unspecified = {.any.sa_family = AF_UNSPEC}, low = ours_at(80), unix_one = {.any.sa_family = AF_UNIX};
	union address broadcast = {.v4 = {AF_INET, htons(PORT), {0xffffffff}, {0}}};
	union address group = {.v4 = {AF_INET, htons(PORT), {htonl(0xe0000001)}, {0}}};
	union address group6 = {.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)}};
	inet_pton(AF_INET6, "ff02::1", &group6.v6.sin6_addr);
	int fd = stream();
	TRY(bind(fd, &foreign.any, address_len));
	TRY(bind(fd, &other.any, sizeof other.v6));
	TRY(bind(fd, &unix_one.any, address_len));
	TRY(bind(fd, &at_port.any, 4));
	TRY(bind(fd, NULL, address_len));
	TRY(connect(fd, &other.any, sizeof other.v6));
	TRY(bind(fd, &unspecified.any, address_len));
	say("bound to AF_UNSPEC", fd);
	if (family == AF_INET) {
		TRY(connect(stream(), &broadcast.any, address_len));
		TRY(connect(stream(), &group.any, address_len));
	} else {
		TRY(connect(stream(), &group6.any, address_len));
	}
	// Of two that may share, one may not while the other listens.
	int on = 1, first = stream(), second = stream();
	TRY(setsockopt(first, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	TRY(setsockopt(second, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	TRY(bind(first, &at_port.any, address_len));
	TRY(bind(second, &at_port.any, address_len));
	TRY(listen(first, 1));
	TRY(listen(second, 1));
	TRY(bind(stream(), &any.any, address_len));
	if (seteuid(65534))
		give_up("seteuid");
	TRY(bind(stream(), &low.any, address_len));
}

const struct test_case cases[] = {
	{"before_a_connection", PASSED, before_a_connection, NULL},
	{"of_a_refused", MIXED, of_a_refused, serve},
	{"on_its_way", SERVED, on_its_way, NULL},
	{"of_a_connection", SERVED, of_a_connection, serve},
	{"of_an_accepted", SERVED, of_an_accepted, open_one},
	{"no_port_left", SERVED, no_port_left, serve_both},
	{"ports_of_closed_sockets", SERVED, ports_of_closed_sockets, accept_and_keep},
	{"late_and_chosen_ports", SERVED, late_and_chosen_ports, serve},
	{"ports_differ", SERVED, ports_differ, serve},
	{"what_cannot_be", PASSED, what_cannot_be, NULL},
	{0},
};
