// Sockets that were something before: connect(2) to AF_UNSPEC, after a failure, after a shutdown, and again.
#include "case.h"

static const struct sockaddr unspecified = {.sa_family = AF_UNSPEC};

static void say_error(int fd)
{
	int error = -1;
	socklen_t len = sizeof error;
	TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	printf("error %d\n", error);
}

static void serve_two(void)
{
	int waiting = listener();
	tell();
	for (int i = 0; i < 2; i++) {
		int fd = TRY_FD(accept(waiting, NULL, NULL));
		char byte;
		TRY(recv(fd, &byte, 1, 0));
		close(fd);
	}
}

// The first connection is reset, the second one is a new one.
static void unspecified_of_a_connection(void)
{
	union address address = peer_at(PORT);
	await();
	int fd = stream();
	set_nonblocking(fd);
	TRY(connect(fd, &unspecified, 1));
	TRY(connect(fd, &unspecified, sizeof unspecified));
	TRY(connect(fd, &address.any, address_len));
	wait_for(fd, POLLOUT);
	TRY(connect(fd, &address.any, address_len));
	TRY(connect(fd, &unspecified, sizeof unspecified));
	say_readiness("apart", fd);
	say_error(fd);
	say_readiness("the error is read", fd);
	TRY(getpeername(fd, &address.any, &(socklen_t){sizeof address}));
	TRY(send(fd, "x", 1, MSG_NOSIGNAL));
	TRY(recv(fd, &(char){0}, 1, 0));
	TRY(fcntl(fd, F_GETFL));
	address = peer_at(PORT);
	TRY(connect(fd, &address.any, address_len));
	wait_for(fd, POLLOUT);
	TRY(connect(fd, &address.any, address_len));
	TRY(send(fd, "x", 1, 0));
	say_bits("the peer closes", wait_for(fd, POLLIN | POLLRDHUP));
	TRY(close(fd));
}

static void connect_and_wait(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	tell();
	TRY(recv(fd, &(char){0}, 1, 0));
	int waiting = listener();
	tell();
	fd = TRY_FD(accept(waiting, NULL, NULL));
	TRY(read_to_end(fd));
}

// What was accepted may connect; what listened may, too.
static void unspecified_of_an_accepted(void)
{
	int waiting = listener(), on = 1;
	tell();
	await();
	int fd = TRY_FD(accept4(waiting, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	TRY(connect(fd, &unspecified, sizeof unspecified));
	TRY(fcntl(fd, F_GETFD));
	TRY(fcntl(fd, F_GETFL));
	say_error(fd);
	say_readiness("apart", fd);
	union address address = peer_at(PORT);
	await();
	TRY(connect(fd, &address.any, address_len));
	wait_for(fd, POLLOUT);
	TRY(connect(fd, &address.any, address_len));
	TRY(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &(socklen_t){sizeof on}));
	TRY(on);
	write_pattern(fd, 10);
	close(fd);
	set_nonblocking(waiting);
	TRY(connect(waiting, &unspecified, sizeof unspecified));
	TRY_FD(accept(waiting, NULL, NULL));
	say_readiness("not listening", waiting);
	TRY(listen(waiting, 1));
	TRY_FD(accept(waiting, NULL, NULL));
}

// A shutdown of what is no connection is remembered.
static void shut_before(void)
{
	union address address = peer_at(CLOSED_PORT);
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
	count_signal(SIGPIPE, 0);
	for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
		int fd = stream(), set = epoll_create1(0);
		set_nonblocking(fd);
		TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
		TRY(epoll_wait(set, &event, 1, 0));
		TRY(epoll_wait(set, &event, 1, 0));
		event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
		TRY(shutdown(fd, how));
		TRY(epoll_wait(set, &event, 1, 0));
		say_bits("shut", event.events);
		say_readiness("shut", fd);
		TRY(recv(fd, &(char){0}, 1, 0));
		TRY(send(fd, "x", 1, 0));
		TRY(connect(fd, &address.any, address_len));
		close(fd);
		close(set);
	}
	TRY(signals_seen);
}

// A shutdown while connect is under way gives it up.
static void shut_on_its_way(void)
{
	union address address = absent_at(PORT);
	int fd = stream();
	set_nonblocking(fd);
	TRY(connect(fd, &address.any, address_len));
	TRY(shutdown(fd, SHUT_WR));
	say_readiness("given up", fd);
	TRY(connect(fd, &address.any, address_len));
	TRY(connect(fd, &unspecified, sizeof unspecified));
	say_readiness("given up", fd);
	TRY(listen(fd, 1));
}

// Once it is said why a connect has failed, the next one is another.
static void failed_and_again(void)
{
	union address nobody = peer_at(CLOSED_PORT);
	int fd = stream();
	set_nonblocking(fd);
	for (int round = 0; round < 3; round++) {
		TRY(connect(fd, &nobody.any, address_len));
		wait_for(fd, POLLOUT);
		TRY(listen(fd, 1));
		if (round == 1)
			say_error(fd);
		if (round == 2)
			TRY(shutdown(fd, SHUT_WR));
		TRY(connect(fd, &nobody.any, address_len));
		TRY(getpeername(fd, &(struct sockaddr){0}, &(socklen_t){2}));
	}
	TRY(connect(fd, &nobody.any, address_len));
	TRY(connect(fd, &unspecified, sizeof unspecified));
	TRY(connect(fd, &nobody.any, address_len));
}

// A connection that the peer has reset before connect was asked how it went.
static void reset_before_it_is_said(void)
{
	union address address = peer_at(PORT);
	await();
	for (int round = 0; round < 3; round++) {
		int fd = stream();
		set_nonblocking(fd);
		TRY(connect(fd, &address.any, address_len));
		wait_for(fd, POLLOUT);
		if (round == 1)
			TRY(connect(fd, &address.any, address_len));
		if (round == 2)
			TRY(shutdown(fd, SHUT_WR));
		tell();
		wait_for(fd, POLLHUP);
		TRY(connect(fd, &address.any, address_len));
		say_error(fd);
		close(fd);
	}
}

static void reset_three(void)
{
	int waiting = listener();
	tell();
	for (int round = 0; round < 3; round++) {
		int fd = accept(waiting, NULL, NULL);
		await();
		reset_on_close(fd);
		close(fd);
	}
}

const struct test_case cases[] = {
	{"unspecified_of_a_connection", SERVED, unspecified_of_a_connection, serve_two},
	{"unspecified_of_an_accepted", SERVED, unspecified_of_an_accepted, connect_and_wait},
	{"shut_before", PASSED, shut_before, NULL},
	{"shut_on_its_way", SERVED, shut_on_its_way, NULL},
	{"failed_and_again", SERVED, failed_and_again, NULL},
	{"reset_before_it_is_said", SERVED, reset_before_it_is_said, reset_three},
	{0},
};
