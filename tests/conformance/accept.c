// bind(2), listen(2), accept(2), accept4(2).
#include "case.h"

static void connect_and_wait(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	tell();
	await();
}

static void connect_twice(void)
{
	connect_and_wait();
	connect_and_wait();
}

static void flags(void)
{
	int waiting = listener();
	set_nonblocking(waiting);
	tell();
	await();
	wait_for(waiting, POLLIN);
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	TRY(fcntl(fd, F_GETFL));
	TRY(fcntl(fd, F_GETFD));
	TRY_FD(accept(waiting, NULL, NULL));
	tell();
	tell();
	await();
	wait_for(waiting, POLLIN);
	fd = TRY_FD(accept4(waiting, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
	TRY(fcntl(fd, F_GETFL));
	TRY(fcntl(fd, F_GETFD));
	TRY_FD(accept4(waiting, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
	TRY_FD(accept4(waiting, NULL, NULL, 1));
	tell();
}

static void address_of_the_peer(void)
{
	union address address = {0};
	socklen_t len = sizeof address;
	int waiting = listener();
	tell();
	int fd = TRY_FD(accept(waiting, &address.any, &len));
	say_address("the peer", &address, len);
	union address again = {0};
	TRY(getpeername(fd, &again.any, &len));
	TRY(memcmp(&address, &again, len));
	await(), tell();
	tell();
	memset(&address, 0, sizeof address);
	len = 4;
	TRY_FD(accept(waiting, &address.any, &len));
	TRY(len);
	TRY(address.any.sa_family);
	TRY(address.v4.sin_addr.s_addr);
	await(), tell();
}

static void timed_out(void)
{
	struct timeval timeout = {.tv_usec = 20000};
	int waiting = listener();
	TRY(setsockopt(waiting, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
	TRY_FD(accept(waiting, NULL, NULL));
}

static void wrong_descriptors(void)
{
	int fd = stream(), datagrams = socket(family, SOCK_DGRAM, 0), ends[2];
	if (pipe(ends))
		give_up("pipe");
	TRY_FD(accept(fd, NULL, NULL));
	TRY_FD(accept(datagrams, NULL, NULL));
	TRY_FD(accept(ends[0], NULL, NULL));
	TRY_FD(accept(-1, NULL, NULL));
	TRY_FD(accept(9999, NULL, NULL));
	TRY_FD(accept4(fd, NULL, NULL, -1));
	TRY(listen(datagrams, 1));
	TRY(listen(ends[0], 1));
	TRY(listen(-1, 1));
	close(fd);
	TRY(listen(fd, 1));
	TRY_FD(accept(fd, NULL, NULL));
}

static void addresses_taken(void)
{
	union address address = wildcard_at(PORT), others = peer_at(PORT), specific = ours_at(PORT);
	int waiting = listener(), fd = stream();
	TRY(bind(fd, &address.any, address_len));
	TRY(bind(fd, &specific.any, address_len));
	TRY(bind(fd, &others.any, address_len));
	TRY(bind(fd, &specific.any, 3));
	TRY(bind(waiting, &specific.any, address_len));
	TRY(bind(-1, &specific.any, address_len));
	TRY(close(waiting));
	TRY(bind(fd, &specific.any, address_len));
	TRY(bind(fd, &specific.any, address_len));
	TRY(listen(fd, 5));
	TRY(listen(fd, 50));
	TRY(close(fd));
	fd = stream();
	TRY(bind(fd, &specific.any, address_len));
}

static void without_bind(void)
{
	union address name = {0};
	socklen_t len = sizeof name;
	int fd = stream();
	TRY(listen(fd, 5));
	TRY(getsockname(fd, &name.any, &len));
	say_address("chosen", &name, len);
}

static void connect_three(void)
{
	union address address = ours_at(PORT);
	await();
	for (char name = 'a'; name <= 'c'; name++) {
		int fd = stream();
		TRY(connect(fd, &address.any, address_len));
		TRY(write(fd, &name, 1));
		await();
	}
}

static void in_order(void)
{
	int waiting = listener(), fds[3];
	tell();
	for (int i = 0; i < 3; i++) {
		fds[i] = accept(waiting, NULL, NULL);
		tell();
	}
	for (int i = 0; i < 3; i++) {
		char name;
		TRY(read(fds[i], &name, 1));
		TRY(name);
	}
}

static void connect_and_reset(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	reset_on_close(fd);
	TRY(connect(fd, &address.any, address_len));
	TRY(close(fd));
	tell();
	await();
}

static void gone_before_accept(void)
{
	char byte;
	int waiting = listener();
	tell();
	await();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	wait_for(fd, POLLRDHUP);
	TRY(recv(fd, &byte, 1, 0));
	TRY(recv(fd, &byte, 1, 0));
	tell();
}

static void connect_to_a_closed_listener(void)
{
	union address address = ours_at(PORT);
	char byte;
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	tell();
	await();
	TRY(recv(fd, &byte, 1, 0));
	fd = stream();
	TRY(connect(fd, &address.any, address_len));
	tell();
}

static void closed_with_one_waiting(void)
{
	int waiting = listener();
	tell();
	await();
	wait_for(waiting, POLLIN);
	TRY(close(waiting));
	tell();
	await();
}

static void accepted_flows_outlive_the_listener(void)
{
	int waiting = listener();
	tell();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	await();
	TRY(close(waiting));
	write_pattern(fd, 100000);
	tell();
}

static void read_from_a_flow(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	tell();
	read_exactly(fd, 100000);
	await();
	int refused = stream();
	TRY(connect(refused, &address.any, address_len));
}

static void shut_down(void)
{
	int waiting = listener();
	TRY(shutdown(waiting, SHUT_RD));
	TRY_FD(accept(waiting, NULL, NULL));
}

static void from_the_peer_and_from_loopback(void)
{
	union address address = loopback_at(PORT);
	int waiting = listener(), fd = stream();
	tell();
	await();
	int from_the_peer = TRY_FD(accept(waiting, NULL, NULL));
	TRY(connect(fd, &address.any, address_len));
	say_readiness("one waits", waiting);
	int from_loopback = TRY_FD(accept(waiting, NULL, NULL));
	say_readiness("none waits", waiting);
	TRY(write(fd, "local", 5));
	wait_for(from_loopback, POLLIN);
	char text[8];
	TRY(read(from_loopback, text, sizeof text));
	TRY(recv(from_the_peer, text, sizeof text, MSG_DONTWAIT));
	tell();
}

// Each of several processes serves one connection at a time: none of them has a connection wait that another process
// is free to serve.
static void prefork(void)
{
	enum { CHILDREN = 3 };
	union address address = wildcard_at(PORT);
	int waiting = stream(), status;
	if (bind(waiting, &address.any, address_len) || listen(waiting, 8))
		give_up("listen");
	fflush(stdout);
	for (int i = 0; i < CHILDREN; i++) {
		if (fork())
			continue;
		char byte;
		for (int fd; (fd = accept(waiting, NULL, NULL)) >= 0; close(fd))
			while (read(fd, &byte, 1) == 1)
				if (byte == 'q')
					_exit(7);
				else if (write(fd, &byte, 1) != 1)
					_exit(8);
		_exit(9);
	}
	close(waiting);
	tell();
	for (int i = 0; i < CHILDREN; i++) {
		TRY(wait(&status) > 0);
		TRY(WEXITSTATUS(status));
	}
}

static void connect_at_once(void)
{
	enum { CONNECTIONS = 3 };
	union address address = ours_at(PORT);
	await();
	for (int round = 0; round < 4; round++) {
		char byte, bye = round == 3 ? 'q' : 'x';
		int fds[CONNECTIONS];
		for (int i = 0; i < CONNECTIONS; i++)
			if (connect(fds[i] = stream(), &address.any, address_len) || write(fds[i], "a", 1) != 1)
				give_up("connect");
		for (int i = 0; i < CONNECTIONS; i++)
			TRY(read(fds[i], &byte, 1));
		for (int i = 0; i < CONNECTIONS; i++) {
			TRY(write(fds[i], &bye, 1));
			close(fds[i]);
		}
	}
}

const struct test_case cases[] = {
	{"flags", SERVED, flags, connect_twice},
	{"address_of_the_peer", SERVED, address_of_the_peer, connect_twice},
	{"timed_out", PASSED, timed_out, NULL},
	{"wrong_descriptors", PASSED, wrong_descriptors, NULL},
	{"addresses_taken", PASSED, addresses_taken, NULL},
	{"without_bind", PASSED, without_bind, NULL},
	{"in_order", SERVED, in_order, connect_three},
	{"gone_before_accept", SERVED, gone_before_accept, connect_and_reset},
	{"closed_with_one_waiting", MIXED, closed_with_one_waiting, connect_to_a_closed_listener},
	{"accepted_flows_outlive_the_listener", MIXED, accepted_flows_outlive_the_listener, read_from_a_flow},
	{"shut_down", PASSED, shut_down, NULL},
	{"from_the_peer_and_from_loopback", MIXED, from_the_peer_and_from_loopback, connect_and_wait},
	{"prefork", ANYHOW, prefork, connect_at_once},
	{0},
};
