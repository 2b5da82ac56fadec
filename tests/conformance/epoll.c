// epoll(7): registrations, triggers, and sets of flows.
#include "case.h"

// The same over many waits: which of several descriptors a wait reports first is open, that each is reported is not.
static void say_events_in_turns(const char *label, int set)
{
	uint32_t seen[16] = {0};
	for (int turn = 0; turn < 64; turn++, usleep(1000)) {
		struct epoll_event events[8];
		int n = epoll_wait(set, events, 8, 0);
		for (int i = 0; i < n; i++)
			seen[events[i].data.u64] |= events[i].events;
	}
	printf("%s\n", label);
	for (int data = 0; data < 16; data++)
		if (seen[data]) {
			printf("  %d", data);
			say_bits("", seen[data]);
		}
}

static void level(void)
{
	char bytes[8];
	int fd = flow(), set = TRY_FD(epoll_create1(EPOLL_CLOEXEC));
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, 1));
	say_events("idle", set);
	next_byte(fd, 1);
	say_events("a byte", set);
	say_events("still a byte", set);
	next_byte(fd, 2);
	TRY(read(fd, bytes, 1));
	say_events("one of two", set);
	TRY(read(fd, bytes, 8));
	say_events("none", set);
	TRY(control(set, EPOLL_CTL_MOD, fd, EPOLLOUT, 2));
	say_events("writable", set);
	say_events("still writable", set);
	TRY(control(set, EPOLL_CTL_MOD, fd, 0, 3));
	say_events("not asked for", set);
	tell_number(1);
	wait_for(fd, POLLRDHUP);
	say_events("the end is not asked for", set);
	TRY(control(set, EPOLL_CTL_MOD, fd, EPOLLRDHUP | EPOLLIN, 4));
	say_events("the end", set);
	TRY(shutdown(fd, SHUT_WR));
	wait_for(fd, POLLHUP);
	TRY(control(set, EPOLL_CTL_MOD, fd, 0, 5));
	say_events("both ends", set);
}

static void edge(void)
{
	char bytes[8];
	int fd = flow(), set = epoll_create1(0);
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 1));
	say_events("writable", set);
	say_events("nothing new", set);
	next_byte(fd, 1);
	say_events("a byte", set);
	say_events("nothing new", set);
	next_byte(fd, 2);
	say_events("another", set);
	TRY(read(fd, bytes, 1));
	say_events("read in part", set);
	next_byte(fd, 2);
	say_events("a third", set);
	TRY(read(fd, bytes, 8));
	say_events("read", set);
	TRY(control(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | EPOLLET, 2));
	say_events("armed again", set);
	say_events("nothing new", set);
	tell_number(1);
	wait_for(fd, POLLRDHUP);
	say_events("the end", set);
	say_events("nothing new", set);
}

static void edge_of_what_is_there(void)
{
	int fd = flow(), set = epoll_create1(0), later = epoll_create1(0);
	next_byte(fd, 1);
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1));
	say_events("there before", set);
	say_events("nothing new", set);
	TRY(control(later, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 2));
	say_events("in a second set", later);
	say_events("nothing new in the first", set);
	next_byte(fd, 2);
	say_events("the first", set);
	say_events("the second", later);
	tell_number(1);
}

static void one_shot(void)
{
	char bytes[8];
	int fd = flow(), set = epoll_create1(0);
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, 1));
	next_byte(fd, 1);
	say_events("once", set);
	say_events("no more", set);
	next_byte(fd, 2);
	say_events("disarmed", set);
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	TRY(control(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT | EPOLLET, 2));
	say_events("armed again", set);
	say_events("no more", set);
	TRY(read(fd, bytes, 8));
	TRY(control(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 3));
	say_events("nothing there", set);
	next_byte(fd, 1);
	say_events("something", set);
	tell_number(1);
}

static void deleted(void)
{
	int fd = flow(), set = epoll_create1(0);
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	next_byte(fd, 1);
	TRY(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	say_events("deleted", set);
	TRY(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	TRY(control(set, EPOLL_CTL_MOD, fd, EPOLLIN, 1));
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 2));
	say_events("back", set);
	tell_number(1);
}

static void closed(void)
{
	int fd = flow(), set = epoll_create1(0), copy = dup(fd);
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	TRY(control(set, EPOLL_CTL_ADD, copy, EPOLLIN, 2));
	TRY(control(set, EPOLL_CTL_ADD, copy, EPOLLIN, 3));
	next_byte(fd, 1);
	say_events("both", set);
	TRY(epoll_ctl(set, EPOLL_CTL_DEL, copy, NULL));
	say_events("the first", set);
	TRY(close(fd));
	say_events("closed, but the copy is open", set);
	TRY(control(set, EPOLL_CTL_MOD, fd, EPOLLIN, 4));
	TRY(close(copy));
	say_events("all closed", set);
	int other = flow();
	TRY(control(set, EPOLL_CTL_ADD, other, EPOLLOUT, 5));
	say_events("another flow", set);
	tell_number(1);
}

static void send_bytes_and_connect_again(void)
{
	int fd = flow();
	await();
	send(fd, "x", 1, 0);
	fd = flow();
	await_number();
}

static void wrong_arguments(void)
{
	int fd = flow(), set = epoll_create1(0), ends[2];
	struct epoll_event event = {.events = EPOLLIN};
	if (pipe(ends))
		give_up("pipe");
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, -1, &event));
	TRY(epoll_ctl(-1, EPOLL_CTL_ADD, fd, &event));
	TRY(epoll_ctl(fd, EPOLL_CTL_ADD, ends[0], &event));
	TRY(epoll_ctl(ends[0], EPOLL_CTL_ADD, fd, &event));
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, set, &event));
	TRY(epoll_ctl(set, 99, fd, &event));
	TRY(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, open("/dev/zero", O_RDONLY), &event));
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, open("/proc/self/exe", O_RDONLY), &event));
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, NULL));
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	TRY(epoll_wait(set, &event, 0, 0));
	volatile int minus_one = -1; // The compiler would refuse a constant.
	TRY(epoll_wait(set, &event, minus_one, 0));
	TRY(epoll_wait(-1, &event, 1, 0));
	TRY(epoll_wait(ends[0], &event, 1, 0));
	TRY(epoll_wait(fd, &event, 1, 0));
	TRY_FD(epoll_create(0));
	TRY_FD(epoll_create1(1));
	TRY_FD(epoll_create(1));
	TRY(close(set));
	TRY(epoll_wait(set, &event, 1, 0));
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	tell_number(1);
}

static void timed_out(void)
{
	struct epoll_event event;
	struct timespec timeout = {.tv_nsec = 20000000}, none = {0}, wrong = {.tv_nsec = -1};
	int fd = flow(), set = epoll_create1(0);
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	TRY(epoll_wait(set, &event, 1, 20));
	TRY(epoll_pwait(set, &event, 1, 20, NULL));
	TRY(epoll_pwait2(set, &event, 1, &timeout, NULL));
	TRY(epoll_pwait2(set, &event, 1, &none, NULL));
	TRY(epoll_pwait2(set, &event, 1, &wrong, NULL));
	tell_number(1);
}

static void woken(void)
{
	struct epoll_event event;
	char byte;
	int fd = flow(), set = epoll_create1(0);
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	for (int way = 0; way < 3; way++) {
		tell();
		switch (way) {
		case 0: TRY(epoll_wait(set, &event, 1, -1)); break;
		case 1: TRY(epoll_pwait(set, &event, 1, -1, NULL)); break;
		case 2: TRY(epoll_pwait2(set, &event, 1, NULL, NULL)); break;
		}
		TRY(read(fd, &byte, 1));
	}
}

static void send_slowly(void)
{
	int fd = flow();
	for (int i = 0; i < 3; i++) {
		await();
		usleep(20000);
		send(fd, "x", 1, 0);
	}
	TRY(read_to_end(fd));
}

// A set of a flow and of what the kernel has: each is reported, and neither side hides the other.
static void mixed(void)
{
	uint64_t one = 1;
	int fd = flow(), set = epoll_create1(0), ends[2], local[2], event = eventfd(0, 0);
	int timer = timerfd_create(CLOCK_MONOTONIC, 0);
	if (pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, local))
		give_up("others");
	TRY(control(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, 1));
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 2));
	TRY(control(set, EPOLL_CTL_ADD, event, EPOLLIN | EPOLLET, 3));
	TRY(control(set, EPOLL_CTL_ADD, timer, EPOLLIN | EPOLLONESHOT, 4));
	TRY(control(set, EPOLL_CTL_ADD, local[0], EPOLLIN | EPOLLOUT, 5));
	say_events_in_turns("idle", set);
	TRY(write(ends[1], "x", 1));
	say_events_in_turns("pipe", set);
	next_byte(fd, 1);
	say_events_in_turns("flow", set);
	TRY(write(event, &one, sizeof one));
	say_events_in_turns("eventfd", set);
	timerfd_settime(timer, 0, &(struct itimerspec){.it_value.tv_nsec = 1}, NULL);
	wait_for(timer, POLLIN);
	say_events_in_turns("timer", set);
	TRY(write(local[1], "x", 1));
	say_events_in_turns("unix", set);
	TRY(control(set, EPOLL_CTL_MOD, fd, 0, 2));
	say_events_in_turns("without the flow", set);
	struct epoll_event first;
	bool seen[6] = {0};
	TRY(control(set, EPOLL_CTL_MOD, fd, EPOLLIN, 2));
	for (int i = 0; i < 100; i++)
		if (epoll_wait(set, &first, 1, usleep(1000)) == 1)
			seen[first.data.u64] = true;
	printf("one at a time: pipe %d, flow %d, unix %d\n", seen[1], seen[2], seen[5]);
	tell_number(1);
}

static void woken_by_another(void)
{
	struct epoll_event event;
	int fd = flow(), set = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	TRY(control(set, EPOLL_CTL_ADD, timer, EPOLLIN, 2));
	timerfd_settime(timer, 0, &(struct itimerspec){.it_value.tv_nsec = 20000000}, NULL);
	TRY(epoll_wait(set, &event, 1, -1));
	TRY(event.data.u64);
	tell_number(1);
}

// A set inside a set, and a set in poll.
static void nested(void)
{
	int fd = flow(), inner = epoll_create1(0), outer = epoll_create1(0);
	TRY(control(inner, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	TRY(control(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 2));
	say_events("idle", outer);
	say_readiness("idle", inner);
	next_byte(fd, 1);
	say_events("a byte", outer);
	say_readiness("a byte", inner);
	say_events("inside", inner);
	struct pollfd look = {.fd = inner, .events = POLLIN};
	TRY(poll(&look, 1, -1));
	char byte;
	TRY(read(fd, &byte, 1));
	say_events("read", outer);
	tell_number(1);
}

static void listening(void)
{
	int waiting = listener(), set = epoll_create1(0);
	set_nonblocking(waiting);
	TRY(control(set, EPOLL_CTL_ADD, waiting, EPOLLIN, 1));
	say_events("nobody waits", set);
	tell();
	struct epoll_event event;
	TRY(epoll_wait(set, &event, 1, -1));
	say_events("somebody waits", set);
	int fd = TRY_FD(accept4(waiting, NULL, NULL, SOCK_NONBLOCK));
	TRY_FD(accept4(waiting, NULL, NULL, SOCK_NONBLOCK));
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 2));
	say_events("nobody waits", set);
	tell();
	TRY(epoll_wait(set, &event, 1, -1));
	TRY(event.data.u64);
	char byte;
	TRY(read(fd, &byte, 1));
}

static void connect_and_send(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	await();
	TRY(send(fd, "x", 1, 0));
	TRY(read_to_end(fd));
}

const struct test_case cases[] = {
	{"level", FLOW, level, send_bytes},
	{"edge", FLOW, edge, send_bytes},
	{"edge_of_what_is_there", FLOW, edge_of_what_is_there, send_bytes},
	{"one_shot", FLOW, one_shot, send_bytes},
	{"deleted", FLOW, deleted, send_bytes},
	{"closed", FLOW, closed, send_bytes_and_connect_again},
	{"wrong_arguments", FLOW, wrong_arguments, send_bytes},
	{"timed_out", FLOW, timed_out, send_bytes},
	{"woken", FLOW, woken, send_slowly},
	{"mixed", FLOW, mixed, send_bytes},
	{"woken_by_another", FLOW, woken_by_another, send_bytes},
	{"nested", FLOW, nested, send_bytes},
	{"listening", SERVED, listening, connect_and_send},
	{0},
};
