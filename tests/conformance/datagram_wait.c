// UDP: waiting for datagrams that come by either way, through the rings and over the loopback; threads, copies and
// children. What is at the loopback always comes over the kernel.
#include "udp.h"

#include <pthread.h>

static unsigned char bytes[65536];

// Sends a byte to this socket's port over the loopback.
static void send_inside(unsigned char byte)
{
	int fd = datagrams();
	send_to(fd, loopback_at(PORT), &byte, 1);
	close(fd);
}

// The peer sends a byte, counting up, whenever it is asked to.
static void send_when_asked(void)
{
	int fd = datagrams();
	unsigned char byte = 0xa0;
	for (uint64_t count; (count = await_number()) != 99; tell())
		for (; count > 0; count--, byte++)
			send_to(fd, ours_at(PORT), &byte, 1);
}

static void ask_for(uint64_t count)
{
	tell_number(count);
	await();
}

static void end(void) { tell_number(99); }

static void readiness(void)
{
	int fd = datagrams();
	say_readiness("new", fd);
	union address address = wildcard_at(PORT);
	TRY(bind(fd, &address.any, address_len));
	say_readiness("bound", fd);
	ask_for(1);
	wait_for(fd, POLLIN);
	say_readiness("a datagram", fd);
	say_received("read", fd);
	say_readiness("none", fd);
	send_inside(1);
	wait_for(fd, POLLIN);
	say_readiness("one from inside", fd);
	ask_for(2);
	wait_for(fd, POLLIN);
	for (int i = 0; i < 3; i++)
		TRY(recv(fd, bytes, sizeof bytes, 0));
	say_readiness("none", fd);
	address = peer_at(PORT);
	TRY(connect(fd, &address.any, address_len));
	say_readiness("connected", fd);
	end();
}

// Every datagram comes once, whichever way, and neither way waits for the other.
static void both_ways(void)
{
	int fd = datagrams_at(wildcard_at(PORT));
	bool inside[10] = {0}, outside[10] = {0};
	wait_for(fd, POLLOUT);
	for (int i = 0; i < 10; i++) {
		send_inside(i);
		ask_for(1);
	}
	for (int i = 0; i < 20; i++) {
		unsigned char byte;
		if (recv(fd, &byte, 1, 0) != 1)
			give_up("recv");
		bool *seen = byte < 0xa0 ? &inside[byte] : &outside[byte - 0xa0];
		if (*seen)
			give_up("twice");
		*seen = true;
	}
	TRY(recv(fd, bytes, 1, MSG_DONTWAIT));
	// What is looked at is what is taken.
	send_inside(7);
	wait_for(fd, POLLIN);
	TRY(recv(fd, bytes, 1, MSG_PEEK));
	unsigned char seen = bytes[0];
	ask_for(1);
	TRY(recv(fd, bytes, 1, 0));
	TRY(bytes[0] == seen);
	TRY(recv(fd, bytes, 1, 0));
	TRY(bytes[0] == 0xaa);
	end();
}

static int epoll_of(int fd, unsigned events)
{
	int set = epoll_create1(0);
	struct epoll_event event = {.events = events, .data.u64 = 42};
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	return set;
}

static void say_events_within(const char *label, int set, int timeout_ms)
{
	struct epoll_event events[4] = {0};
	int count = epoll_wait(set, events, 4, timeout_ms);
	printf("%s: %d events\n", label, count);
	for (int i = 0; i < count; i++)
		say_bits(events[i].data.u64 == 42 ? "  ours" : "  another", events[i].events);
}

static void level_triggered(void)
{
	int fd = datagrams_at(wildcard_at(PORT));
	set_nonblocking(fd);
	int set = epoll_of(fd, EPOLLIN);
	say_events_within("nothing", set, 0);
	ask_for(2);
	say_events_within("outside", set, -1);
	say_events_within("still", set, 0);
	TRY(recv(fd, bytes, 1, 0));
	say_events_within("one left", set, 0);
	TRY(recv(fd, bytes, 1, 0));
	TRY(recv(fd, bytes, 1, 0));
	say_events_within("nothing", set, 0);
	send_inside(1);
	say_events_within("inside", set, -1);
	say_events_within("still", set, 0);
	ask_for(1);
	say_events_within("both", set, -1);
	TRY(recv(fd, bytes, 1, 0));
	say_events_within("one left", set, 0);
	TRY(recv(fd, bytes, 1, 0));
	say_events_within("nothing", set, 20);
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u64 = 42};
	TRY(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
	say_events_within("room", set, -1);
	TRY(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	ask_for(1);
	send_inside(2);
	say_events_within("not asked for", set, 20);
	TRY(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	say_events_within("again", set, -1);
	end();
}

static void edge_triggered(void)
{
	int fd = datagrams_at(wildcard_at(PORT));
	set_nonblocking(fd);
	int set = epoll_of(fd, EPOLLIN | EPOLLET);
	ask_for(1);
	say_events_within("outside", set, -1);
	say_events_within("said", set, 0);
	ask_for(1);
	say_events_within("another", set, -1);
	send_inside(1);
	say_events_within("inside", set, -1);
	say_events_within("said", set, 0);
	for (int i = 0; i < 3; i++)
		TRY(recv(fd, bytes, 1, 0));
	TRY(recv(fd, bytes, 1, 0));
	send_inside(1);
	say_events_within("inside", set, -1);
	TRY(recv(fd, bytes, 1, 0));
	say_events_within("nothing", set, 20);
	end();
}

static void one_shot(void)
{
	int fd = datagrams_at(wildcard_at(PORT));
	set_nonblocking(fd);
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 42};
	int set = epoll_of(fd, event.events);
	send_inside(1);
	say_events_within("inside", set, -1);
	ask_for(1);
	say_events_within("said", set, 20);
	TRY(recv(fd, bytes, 1, 0));
	TRY(recv(fd, bytes, 1, 0));
	TRY(recv(fd, bytes, 1, 0));
	TRY(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
	say_events_within("armed", set, 0);
	ask_for(1);
	say_events_within("outside", set, -1);
	send_inside(1);
	say_events_within("said", set, 20);
	TRY(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
	say_events_within("armed", set, -1);
	end();
}

// One that is bound to the loopback is the kernel's, also where it waits already.
static void registered_first(void)
{
	int fd = datagrams(), set = epoll_of(fd, EPOLLIN);
	say_events_within("unbound", set, 0);
	union address address = loopback_at(PORT);
	TRY(bind(fd, &address.any, address_len));
	send_inside(1);
	say_events_within("inside", set, -1);
	say_received("read", fd);
	int other = datagrams(), other_set = epoll_of(other, EPOLLIN);
	address = wildcard_at(PORT + 5);
	TRY(bind(other, &address.any, address_len));
	say_events_within("bound", other_set, 0);
	address = loopback_at(PORT);
	TRY(connect(other, &address.any, address_len));
	TRY(send(other, "x", 1, 0));
	union address from;
	socklen_t len = sizeof from;
	TRY(recvfrom(fd, bytes, 1, 0, &from.any, &len));
	TRY(sendto(fd, "y", 1, 0, &from.any, len));
	say_events_within("connected inside", other_set, -1);
	TRY(read(other, bytes, 1));
}

static void shut_down(void)
{
	int fd = datagrams_at(wildcard_at(PORT));
	wait_for(fd, POLLOUT);
	TRY(shutdown(fd, SHUT_RD));
	say_readiness("shut for reading, it says", fd);
	union address address = peer_at(PORT);
	fd = datagrams();
	await();
	TRY(connect(fd, &address.any, address_len));
	TRY(send(fd, "x", 1, 0));
	TRY(shutdown(fd, 7));
	TRY(shutdown(fd, SHUT_WR));
	say_readiness("shut for writing", fd);
	TRY(send(fd, "x", 1, MSG_NOSIGNAL));
	TRY(shutdown(fd, SHUT_RD));
	say_readiness("shut for both", fd);
	TRY(recv(fd, bytes, 1, 0));
	TRY(recv(fd, bytes, 1, MSG_DONTWAIT));
	tell();
}

static void only_receive(void)
{
	datagrams_at(peer_at(PORT));
	tell();
	await();
}

static int shared;

static void *receive_one(void *result)
{
	*(ssize_t *)result = recv(shared, bytes, sizeof bytes, 0);
	return NULL;
}

// A thread waits in a socket that another one first sends from, and so gives a port.
static void thread_waits_before_the_port(void)
{
	pthread_t thread;
	ssize_t result = -2;
	shared = datagrams();
	await();
	pthread_create(&thread, NULL, receive_one, &result);
	usleep(50000);
	send_to(shared, peer_at(PORT), "abc", 3);
	pthread_join(thread, NULL);
	TRY(result);
	pthread_create(&thread, NULL, receive_one, &result);
	usleep(50000);
	// Connected to the peer, it is shut down, which ends the wait.
	reach(shared, peer_at(PORT));
	TRY(shutdown(shared, SHUT_RD));
	pthread_join(thread, NULL);
	TRY(result);
	tell();
}

static void answer_one(void)
{
	int fd = datagrams_at(peer_at(PORT));
	tell();
	union address from;
	socklen_t len = sizeof from;
	TRY(recvfrom(fd, bytes, sizeof bytes, 0, &from.any, &len));
	send_to(fd, from, "hello", 5);
	await();
}

static void copies(void)
{
	int fd = datagrams_at(wildcard_at(PORT));
	wait_for(fd, POLLOUT);
	int copy = TRY_FD(dup(fd));
	ask_for(1);
	say_received("copy", copy);
	TRY(close(fd));
	ask_for(1);
	say_received("copy", copy);
	TRY_FD(dup2(copy, fd));
	TRY(close(copy));
	ask_for(1);
	say_received("number", fd);
	int again = datagrams();
	union address address = wildcard_at(PORT);
	TRY(bind(again, &address.any, address_len));
	TRY(close(fd));
	TRY(bind(again, &address.any, address_len));
	ask_for(1);
	say_received("again", again);
	TRY(close(again));
	TRY(recv(again, bytes, 1, 0));
	end();
}

// A daemon binds, and its child serves.
static void child_serves(void)
{
	int fd = datagrams_at(wildcard_at(PORT));
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		wait_for(fd, POLLOUT);
		ask_for(1);
		say_received("child", fd);
		send_inside(3);
		say_received("child", fd);
		fflush(stdout);
		exit(0);
	}
	int status;
	TRY(waitpid(child, &status, 0) == child);
	TRY(status);
	ask_for(1);
	say_received("parent", fd);
	end();
}

static void signal_interrupts(void)
{
	int fd = datagrams_at(wildcard_at(PORT));
	struct timeval second = {.tv_sec = 5};
	count_signal(SIGALRM, 0);
	struct itimerval often = {{.tv_usec = 50000}, {.tv_usec = 50000}}, never = {0};
	setitimer(ITIMER_REAL, &often, NULL);
	TRY(recv(fd, bytes, 1, 0));
	TRY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second));
	count_signal(SIGALRM, SA_RESTART);
	TRY(recv(fd, bytes, 1, 0));
	setitimer(ITIMER_REAL, &never, NULL);
	TRY(signals_seen > 1);
	ask_for(1);
	say_received("then", fd);
	end();
}

const struct test_case cases[] = {
	{"readiness", DATAGRAMS, readiness, send_when_asked},
	{"both_ways", DATAGRAMS, both_ways, send_when_asked},
	{"level_triggered", DATAGRAMS, level_triggered, send_when_asked},
	{"edge_triggered", DATAGRAMS, edge_triggered, send_when_asked},
	{"one_shot", DATAGRAMS, one_shot, send_when_asked},
	{"registered_first", PASSED, registered_first, NULL},
	{"shut_down", ANYHOW, shut_down, only_receive},
	{"thread_waits_before_the_port", DATAGRAMS, thread_waits_before_the_port, answer_one},
	{"copies", DATAGRAMS, copies, send_when_asked},
	{"child_serves", DATAGRAMS, child_serves, send_when_asked},
	{"signal_interrupts", DATAGRAMS, signal_interrupts, send_when_asked},
	{0},
};
