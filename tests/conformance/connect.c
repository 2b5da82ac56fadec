// connect(2), bind(2) of the side that opens.
#include "case.h"

static void serve_one(void)
{
	int waiting = listener();
	tell();
	int fd = accept(waiting, NULL, NULL);
	read_exactly(fd, 5);
	write_pattern(fd, 5);
	await();
}

static void blocking(void)
{
	union address address = peer_at(PORT);
	await();
	int fd = TRY_FD(socket(family, SOCK_STREAM, IPPROTO_TCP));
	TRY(connect(fd, &address.any, address_len));
	TRY(connect(fd, &address.any, address_len));
	write_pattern(fd, 5);
	read_exactly(fd, 5);
	tell();
}

static void nonblocking(void)
{
	union address address = peer_at(PORT);
	int error = -1;
	socklen_t len = sizeof error;
	await();
	int fd = TRY_FD(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
	TRY(connect(fd, &address.any, address_len));
	say_bits("connected", wait_for(fd, POLLOUT | POLLIN));
	TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	TRY(error);
	TRY(connect(fd, &address.any, address_len));
	TRY(connect(fd, &address.any, address_len));
	write_pattern(fd, 5);
	wait_for(fd, POLLIN);
	read_exactly(fd, 5);
	tell();
}

static void refused(void)
{
	union address address = peer_at(CLOSED_PORT);
	int error = -1;
	socklen_t len = sizeof error;
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	TRY(error);
	say_readiness("after a refusal", fd);
	TRY(connect(fd, &address.any, address_len));
	TRY(close(fd));
}

static void refused_later(void)
{
	union address address = peer_at(CLOSED_PORT);
	int error = -1;
	socklen_t len = sizeof error;
	int fd = stream();
	set_nonblocking(fd);
	TRY(connect(fd, &address.any, address_len));
	say_bits("refused", wait_for(fd, POLLOUT | POLLIN | POLLRDHUP));
	say_readiness("before the error is read", fd);
	TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	TRY(error);
	TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	TRY(error);
	fd = stream();
	set_nonblocking(fd);
	TRY(connect(fd, &address.any, address_len));
	wait_for(fd, POLLOUT);
	TRY(connect(fd, &address.any, address_len));
	TRY(connect(fd, &address.any, address_len));
	fd = stream();
	set_nonblocking(fd);
	TRY(connect(fd, &address.any, address_len));
	wait_for(fd, POLLOUT);
	char byte;
	TRY(recv(fd, &byte, 1, 0));
	TRY(recv(fd, &byte, 1, 0));
}

static void again_after_refusal(void)
{
	union address closed = peer_at(CLOSED_PORT), open = peer_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &closed.any, address_len));
	TRY(connect(fd, &open.any, address_len));
	write_pattern(fd, 5);
	read_exactly(fd, 5);
	tell();
}

static void on_its_way(void)
{
	union address address = absent_at(PORT);
	int fd = stream();
	set_nonblocking(fd);
	TRY(connect(fd, &address.any, address_len));
	TRY(connect(fd, &address.any, address_len));
	char byte = 0;
	TRY(recv(fd, &byte, 1, 0));
	TRY(send(fd, &byte, 1, 0));
	say_readiness("on its way", fd);
	TRY(close(fd));
}

static void nobody_there(void)
{
	union address address = absent_at(PORT);
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
}

static void gives_up_in_time(void)
{
	union address address = absent_at(PORT);
	struct timeval timeout = {.tv_usec = 20000};
	int fd = stream();
	TRY(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout));
	TRY(connect(fd, &address.any, address_len));
	TRY(connect(fd, &address.any, address_len));
}

static void no_route(void)
{
	union address address = nowhere_at(PORT);
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	set_nonblocking(fd);
	TRY(connect(fd, &address.any, address_len));
}

static void wrong_arguments(void)
{
	union address address = peer_at(PORT), other = address;
	int fd = stream(), ends[2];
	other.any.sa_family = AF_UNIX;
	TRY(connect(fd, &other.any, address_len));
	TRY(connect(fd, &address.any, 3));
	TRY(connect(fd, &address.any, -1));
	TRY(connect(fd, NULL, address_len));
	TRY(connect(-1, &address.any, address_len));
	TRY(connect(9999, &address.any, address_len));
	if (pipe(ends))
		give_up("pipe");
	TRY(connect(ends[0], &address.any, address_len));
	TRY_FD(socket(family, SOCK_STREAM, IPPROTO_UDP));
	TRY_FD(socket(family, SOCK_STREAM | 0x40000, 0));
	TRY_FD(socket(-1, SOCK_STREAM, 0));
	TRY(close(fd));
	TRY(connect(fd, &address.any, address_len));
}

static void over_loopback(void)
{
	int waiting = listener();
	union address addresses[] = {loopback_at(PORT), ours_at(PORT)};
	for (int i = 0; i < 2; i++) {
		int fd = stream();
		TRY(connect(fd, &addresses[i].any, address_len));
		int other = TRY_FD(accept(waiting, NULL, NULL));
		write_pattern(fd, 1000);
		read_exactly(other, 1000);
		say_readiness("over loopback", other);
		close(fd);
		close(other);
	}
}

static void from_a_chosen_port(void)
{
	union address from = ours_at(7100), name, address = peer_at(PORT);
	socklen_t len = sizeof name;
	await();
	int fd = stream(), other = stream();
	TRY(bind(fd, &from.any, address_len));
	TRY(bind(other, &from.any, address_len));
	TRY(connect(fd, &address.any, address_len));
	TRY(getsockname(fd, &name.any, &len));
	TRY(ntohs(name.v4.sin_port));
	write_pattern(fd, 5);
	read_exactly(fd, 5);
	tell();
}

static void from_a_port_of_the_kernel(void)
{
	union address from = ours_at(0), name, address = peer_at(PORT);
	socklen_t len = sizeof name;
	await();
	int fd = stream();
	TRY(bind(fd, &from.any, address_len));
	TRY(getsockname(fd, &name.any, &len));
	int port = ntohs(name.v4.sin_port);
	TRY(connect(fd, &address.any, address_len));
	TRY(getsockname(fd, &name.any, &len));
	TRY(port == ntohs(name.v4.sin_port));
	write_pattern(fd, 5);
	read_exactly(fd, 5);
	tell();
}

static void of_a_listener(void)
{
	union address address = peer_at(PORT);
	int fd = listener();
	TRY(connect(fd, &address.any, address_len));
}

const struct test_case cases[] = {
	{"blocking", SERVED, blocking, serve_one},
	{"nonblocking", SERVED, nonblocking, serve_one},
	{"refused", SERVED, refused, NULL},
	{"refused_later", SERVED, refused_later, NULL},
	{"again_after_refusal", SERVED, again_after_refusal, serve_one},
	{"on_its_way", SERVED, on_its_way, NULL},
	{"nobody_there", SERVED, nobody_there, NULL},
	{"gives_up_in_time", SERVED, gives_up_in_time, NULL},
	{"no_route", PASSED, no_route, NULL},
	{"wrong_arguments", PASSED, wrong_arguments, NULL},
	{"over_loopback", PASSED, over_loopback, NULL},
	{"from_a_chosen_port", SERVED, from_a_chosen_port, serve_one},
	{"from_a_port_of_the_kernel", SERVED, from_a_port_of_the_kernel, serve_one},
	{"of_a_listener", PASSED, of_a_listener, NULL},
	{0},
};
