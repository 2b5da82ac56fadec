// fork(2): a flow that goes to another process.
#include "case.h"
#include <sys/resource.h>

// The way of most servers: the child serves, the parent closes.
static void handed_to_the_child(void)
{
	int fd = flow();
	pid_t pid = child();
	if (pid == 0) {
		say_echo("the child", fd);
		say_names(fd);
		say_readiness("the child's", fd);
		TRY(fcntl(fd, F_GETFL));
		TRY(shutdown(fd, SHUT_WR));
		TRY(read_to_end(fd));
		leave(7);
	}
	TRY(close(fd));
	join(pid);
}

// The parent has closed it before the child begins.
static void closed_by_the_parent_first(void)
{
	int fd = flow(), ends[2];
	char byte;
	if (pipe(ends))
		give_up("pipe");
	pid_t pid = child();
	if (pid == 0) {
		TRY(read(ends[0], &byte, 1));
		say_echo("the child", fd);
		int copy = dup(fd);
		TRY(close(fd));
		say_echo("its copy", copy);
		pid_t grandchild = child();
		if (grandchild == 0) {
			say_echo("the grandchild", copy);
			leave(8);
		}
		TRY(close(copy));
		join(grandchild);
		leave(7);
	}
	TRY(close(fd));
	TRY(write(ends[1], "x", 1));
	join(pid);
}

// The child of a child that has never used it.
static void handed_to_the_grandchild(void)
{
	int fd = flow(), ends[2], alive[2];
	char byte;
	if (pipe(ends) || pipe(alive))
		give_up("pipe");
	pid_t pid = child();
	if (pid == 0) {
		if (child() == 0) {
			TRY(read(ends[0], &byte, 1));
			say_echo("the grandchild", fd);
			leave(8);
		}
		close(fd);
		_exit(7);
	}
	close(fd);
	join(pid);
	TRY(write(ends[1], "x", 1));
	// Until the grandchild has ended.
	close(alive[1]);
	TRY(read(alive[0], &byte, 1));
}

static void used_by_both(void)
{
	int fd = flow(), status;
	say_echo("the parent", fd);
	for (int round = 0; round < 3; round++) {
		pid_t pid = child();
		if (pid == 0) {
			say_echo("the child", fd);
			close(fd);
			leave(round);
		}
		TRY(waitpid(pid, &status, 0) == pid);
		say_echo("the parent again", fd);
	}
	say_names(fd);
	say_readiness("the parent's", fd);
	TRY(fcntl(fd, F_SETFL, O_NONBLOCK));
	char byte;
	TRY(recv(fd, &byte, 1, 0));
	set_nonblocking(fd);
}

// Flags of the description are shared.
static void nonblocking(void)
{
	int fd = flow();
	char byte;
	set_nonblocking(fd);
	pid_t pid = child();
	if (pid == 0) {
		TRY(recv(fd, &byte, 1, 0));
		TRY(fcntl(fd, F_SETFL, 0));
		leave(7);
	}
	join(pid);
	TRY(fcntl(fd, F_GETFL));
	say_echo("the parent", fd);
}

static void say_option(int fd, int level, int name)
{
	int value = -7;
	socklen_t len = sizeof value;
	printf("option %d of %d: ", name, level);
	if (TRY(getsockopt(fd, level, name, &value, &len)) == 0)
		printf("%d, length %u\n", value, len);
}

// Options are the socket's, whoever asks.
static void options(void)
{
	int fd = flow(), on = 1, idle = 77, tos = 8;
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof idle));
	TRY(setsockopt(fd, IPPROTO_IP, IP_TTL, &idle, sizeof idle));
	pid_t pid = child();
	if (pid == 0) {
		TRY(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
		TRY(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
		TRY(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle));
		TRY(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &on, 2));
		TRY(setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos));
		TRY(setsockopt(fd, IPPROTO_TCP, 9999, &on, sizeof on));
		say_option(fd, IPPROTO_IP, IP_TOS);
		say_option(fd, IPPROTO_IP, IP_TTL);
		say_option(fd, IPPROTO_TCP, TCP_KEEPINTVL);
		say_option(fd, IPPROTO_TCP, 9999);
		struct tcp_info info = {0};
		socklen_t len = 8;
		TRY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
		TRY(info.tcpi_state == TCP_ESTABLISHED);
		struct timeval limit = {.tv_usec = 1000};
		char byte;
		TRY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
		TRY(recv(fd, &byte, 1, 0));
		limit.tv_usec = 0;
		TRY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
		leave(7);
	}
	join(pid);
	int names[] = {SO_DOMAIN, SO_PROTOCOL, SO_TYPE, SO_ACCEPTCONN, SO_KEEPALIVE, SO_ERROR, SO_REUSEADDR};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		say_option(fd, SOL_SOCKET, names[i]);
	say_option(fd, IPPROTO_TCP, TCP_NODELAY);
	say_option(fd, IPPROTO_TCP, TCP_KEEPIDLE);
	say_option(fd, IPPROTO_IP, IP_TOS);
	say_echo("afterwards", fd);
}

// What cannot be asked, for want of a descriptor in the process that opened it, leaves no trace among the bytes.
static void options_without_descriptors(void)
{
	int fd = flow(), on = 1;
	pid_t pid = child();
	if (pid == 0) {
		struct rlimit before, none;
		say_echo("the child", fd);
		TRY(prlimit(getppid(), RLIMIT_NOFILE, NULL, &before));
		none = before;
		none.rlim_cur = 0;
		TRY(prlimit(getppid(), RLIMIT_NOFILE, &none, NULL));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		TRY(prlimit(getppid(), RLIMIT_NOFILE, &before, NULL));
		say_echo("afterwards", fd);
		leave(7);
	}
	join(pid);
	say_echo("the parent", fd);
}

static void watched_by_the_child(void)
{
	int fd = flow(), epfd;
	pid_t pid = child();
	if (pid == 0) {
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = 7};
		char bytes[4];
		TRY_FD(epfd = epoll_create1(0));
		TRY(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
		TRY(epoll_wait(epfd, &event, 1, 0));
		TRY(send(fd, "ping", 4, 0));
		TRY(epoll_wait(epfd, &event, 1, -1));
		say_bits("it", event.events);
		TRY(event.data.u32);
		TRY(recv(fd, bytes, 4, MSG_WAITALL));
		TRY(epoll_wait(epfd, &event, 1, 0));
		leave(7);
	}
	TRY(close(fd));
	join(pid);
}

// The parent has made the epoll instance, and the child goes on with it.
static void watched_before(void)
{
	int fd = flow(), ends[2], epfd = epoll_create1(0), waiting = stream();
	union address address = wildcard_at(PORT + 1);
	if (pipe(ends) || bind(waiting, &address.any, address_len) || listen(waiting, 1))
		give_up("listen");
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = 7};
	TRY(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
	event.data.u32 = 8;
	TRY(epoll_ctl(epfd, EPOLL_CTL_ADD, ends[0], &event));
	event.data.u32 = 9;
	TRY(epoll_ctl(epfd, EPOLL_CTL_ADD, waiting, &event));
	pid_t pid = child();
	if (pid == 0) {
		char bytes[4];
		if (TRY(epoll_wait(epfd, &event, 1, 0)))
			say_bits("it", event.events);
		TRY(write(ends[1], "x", 1));
		TRY(epoll_wait(epfd, &event, 1, -1));
		TRY(event.data.u32);
		TRY(read(ends[0], bytes, 1));
		TRY(send(fd, "ping", 4, 0));
		TRY(epoll_wait(epfd, &event, 1, -1));
		TRY(event.data.u32);
		TRY(recv(fd, bytes, 4, MSG_WAITALL));
		TRY(epoll_wait(epfd, &event, 1, 0));
		TRY(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL));
		TRY(epoll_ctl(epfd, EPOLL_CTL_ADD, ends[0], &event));
		TRY(epoll_ctl(epfd, EPOLL_CTL_DEL, waiting, NULL));
		TRY(close(epfd));
		leave(7);
	}
	TRY(close(fd));
	join(pid);
}

static void bulk_by_the_child(void)
{
	int fd = flow();
	pid_t pid = child();
	if (pid == 0) {
		write_pattern(fd, 3000000);
		TRY(shutdown(fd, SHUT_WR));
		TRY(read_to_end(fd));
		leave(7);
	}
	TRY(close(fd));
	join(pid);
}

static void bulk_peer(void)
{
	int fd = flow();
	TRY(read_to_end(fd));
	write_pattern(fd, 2000000);
	TRY(close(fd));
}

// Serves connections one after the other, in an event loop; one that says so has it do something else.
static void serve_shared(int waiting, int release)
{
	int epfd = epoll_create1(0), held = -1;
	struct epoll_event event = {.events = EPOLLIN};
	set_nonblocking(waiting);
	epoll_ctl(epfd, EPOLL_CTL_ADD, waiting, &event);
	event.data.fd = release;
	epoll_ctl(epfd, EPOLL_CTL_ADD, release, &event);
	for (;;) {
		char bytes[4];
		if (epoll_wait(epfd, &event, 1, -1) != 1)
			continue;
		if (event.data.fd == release)
			_exit(0);
		int fd = accept(waiting, NULL, NULL);
		if (fd < 0)
			continue;
		// No wait in recv(2), by which it would show that it serves one at a time.
		wait_for(fd, POLLIN);
		if (recv(fd, bytes, 4, 0) == 4)
			send(fd, bytes, 4, 0);
		if (memcmp(bytes, "hold", 4)) {
			close(fd);
			continue;
		}
		held = fd;
		// Busy, as far as anybody can tell.
		if (read(release, bytes, 1) == 0)
			send(held, "done", 4, 0), _exit(0);
	}
}

// While one process is busy, the others that have the listener serve everybody.
static void shared_listener(void)
{
	// Not attended to here: one of the children will.
	int ends[2], waiting = unattended_listener();
	if (pipe(ends))
		give_up("pipe");
	pid_t pids[2];
	for (int at = 0; at < 2; at++) {
		pids[at] = child();
		if (pids[at] == 0) {
			close(ends[1]);
			serve_shared(waiting, ends[0]);
		}
	}
	TRY(close(waiting));
	tell();
	await();
	close(ends[1]);
	join(pids[0]);
	join(pids[1]);
}

static int ask(const char *what)
{
	union address address = ours_at(PORT), name;
	socklen_t len = sizeof name;
	char bytes[5] = {0};
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	TRY(send(fd, what, 4, 0));
	TRY(recv(fd, bytes, 4, MSG_WAITALL));
	puts(bytes);
	TRY(getpeername(fd, &name.any, &len));
	return fd;
}

static void shared_listener_peer(void)
{
	char bytes[5] = {0};
	await();
	for (int round = 0; round < 3; round++)
		close(ask("ping"));
	int held = ask("hold");
	for (int round = 0; round < 4; round++) {
		int fd = ask("pong");
		TRY(recv(fd, bytes, 1, 0));
		close(fd);
	}
	tell();
	TRY(recv(held, bytes, 4, MSG_WAITALL));
	puts(bytes);
}

// As a server that reloads: what waits at a listener that one process closes, another one accepts.
static void left_to_another(void)
{
	union address name;
	socklen_t len = sizeof name;
	int waiting = unattended_listener(), epfd;
	pid_t pid = child();
	if (pid == 0) {
		struct epoll_event event = {.events = EPOLLIN};
		TRY_FD(epfd = epoll_create1(0));
		TRY(epoll_ctl(epfd, EPOLL_CTL_ADD, waiting, &event));
		for (int round = 0; round < 2; round++) {
			tell();
			TRY(epoll_wait(epfd, &event, 1, -1));
			int fd = TRY_FD(accept(waiting, NULL, NULL));
			wait_for(fd, POLLIN);
			char bytes[4];
			TRY(recv(fd, bytes, 4, 0));
			TRY(send(fd, bytes, 4, 0));
			close(fd);
		}
		tell();
		await();
		leave(TRY(close(waiting)));
	}
	join(pid);
	pid = child();
	if (pid == 0) {
		for (int round = 0; round < 2; round++) {
			len = sizeof name;
			int fd = TRY_FD(accept4(waiting, &name.any, &len, round ? SOCK_CLOEXEC : SOCK_NONBLOCK));
			say_address("the peer", &name, len);
			TRY(fcntl(fd, F_GETFL));
			TRY(fcntl(fd, F_GETFD));
			wait_for(fd, POLLIN);
			char bytes[4];
			TRY(recv(fd, bytes, 4, 0));
			TRY(send(fd, bytes, 4, 0));
			say_names(fd);
			TRY(close(fd));
		}
		leave(8);
	}
	join(pid);
}

static void left_to_another_peer(void)
{
	char bytes[4];
	int fds[4];
	for (int at = 0; at < 4; at++) {
		union address address = ours_at(PORT);
		if (at < 3)
			await();
		fds[at] = stream();
		TRY(connect(fds[at], &address.any, address_len));
		TRY(send(fds[at], "ping", 4, 0));
		if (at < 2)
			TRY(recv(fds[at], bytes, 4, MSG_WAITALL));
	}
	tell();
	for (int at = 2; at < 4; at++) {
		TRY(recv(fds[at], bytes, 4, MSG_WAITALL));
		TRY(recv(fds[at], bytes, 4, MSG_WAITALL));
	}
}

enum { OTHER_PORT = 7003 };

// A child alone serves one of its parent's listeners, and then the parent does.
static void listener_of_the_child(void)
{
	union address address = ours_at(OTHER_PORT);
	char byte;
	int used = listener(), unused = stream();
	tell();
	int first = TRY_FD(accept(used, NULL, NULL));
	TRY(bind(unused, &address.any, address_len));
	TRY(listen(unused, 5));
	pid_t pid = child();
	if (pid == 0) {
		int fd = TRY_FD(accept(unused, NULL, NULL));
		TRY(read(fd, &byte, 1));
		TRY(close(fd));
		leave(7);
	}
	tell();
	join(pid);
	tell();
	int fd = TRY_FD(accept(unused, NULL, NULL));
	TRY(read(fd, &byte, 1));
	TRY(close(fd));
	TRY(read(first, &byte, 1));
}

static void connect_to_both(void)
{
	char byte;
	await();
	int first = stream();
	union address address = ours_at(PORT), other = ours_at(OTHER_PORT);
	TRY(connect(first, &address.any, address_len));
	for (int i = 0; i < 2; i++) {
		await();
		int fd = stream();
		TRY(connect(fd, &other.any, address_len));
		TRY(write(fd, "x", 1));
		TRY(read(fd, &byte, 1));
		TRY(close(fd));
	}
	TRY(close(first));
}

const struct test_case cases[] = {
	{"handed_to_the_child", FLOW, handed_to_the_child, send_back},
	{"closed_by_the_parent_first", FLOW, closed_by_the_parent_first, send_back},
	{"handed_to_the_grandchild", FLOW, handed_to_the_grandchild, send_back},
	{"used_by_both", FLOW, used_by_both, send_back},
	{"nonblocking", FLOW, nonblocking, send_back},
	{"options", FLOW, options, send_back},
	{"options_without_descriptors", FLOW, options_without_descriptors, send_back},
	{"watched_by_the_child", FLOW, watched_by_the_child, send_back},
	{"watched_before", FLOW, watched_before, send_back},
	{"left_to_another", MIXED, left_to_another, left_to_another_peer},
	{"shared_listener", MIXED, shared_listener, shared_listener_peer},
	{"bulk_by_the_child", FLOW, bulk_by_the_child, bulk_peer},
	{"listener_of_the_child", MIXED, listener_of_the_child, connect_to_both},
	{0},
};
