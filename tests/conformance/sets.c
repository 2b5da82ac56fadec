// epoll(7) to the letter: arguments, copies of descriptors, sets in sets, and threads that share a set.
#include "case.h"

#include <pthread.h>
#include <sys/resource.h>

static void arguments(void)
{
	struct epoll_event event = {.events = EPOLLIN}, *volatile nowhere = NULL;
	struct timespec second = {.tv_nsec = 1000000000}, minus = {.tv_sec = -1};
	int fd = flow(), set = epoll_create1(0), ends[2];
	volatile int most = INT32_MAX, many = 10000;
	if (pipe(ends))
		give_up("pipe");
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, nowhere));
	TRY(epoll_ctl(set, EPOLL_CTL_MOD, fd, nowhere));
	TRY(epoll_ctl(set, 0, fd, nowhere));
	TRY(epoll_ctl(set, EPOLL_CTL_DEL, fd, nowhere));
	TRY(epoll_ctl(set, 0, fd, &event));
	TRY(epoll_ctl(set, EPOLL_CTL_DEL, fd, &event));
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP, 1));
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLEXCLUSIVE | EPOLLET, 1));
	TRY(control(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLEXCLUSIVE, 1));
	TRY(control(set, EPOLL_CTL_MOD, fd, EPOLLIN, 1));
	say_events("exclusive", set);
	TRY(control(set, EPOLL_CTL_ADD, dup(set), EPOLLIN, 1));
	TRY(control(dup(set), EPOLL_CTL_ADD, set, EPOLLIN, 1));
	TRY(control(epoll_create1(0), EPOLL_CTL_ADD, set, EPOLLIN | EPOLLEXCLUSIVE, 1));
	TRY(epoll_wait(set, nowhere, 1, 0));
	TRY(epoll_wait(set, &event, most, 0));
	TRY(epoll_wait(set, &event, many, 0));
	TRY(epoll_pwait2(set, &event, 1, &second, NULL));
	TRY(epoll_pwait2(set, &event, 1, &minus, NULL));
	TRY(epoll_pwait2(set, &event, 0, &minus, NULL));
	TRY(epoll_ctl(set, EPOLL_CTL_DEL, fd, nowhere));
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT, 1));
	TRY(epoll_wait(set, nowhere, 1, 0));
	TRY(epoll_wait(set, nowhere, 8, -1));
	TRY(epoll_wait(set, &event, 1, -5));
	TRY(epoll_pwait(set, &event, 1, INT32_MIN, NULL));
	TRY(control(set, EPOLL_CTL_MOD, fd, EPOLLWAKEUP | EPOLLMSG | EPOLLRDNORM | EPOLLWRNORM | EPOLLRDBAND | EPOLLWRBAND, 1));
	say_events("the other names", set);
	next_byte(fd, 1);
	say_events("the other names", set);
	TRY(control(set, EPOLL_CTL_ADD, ends[1], EPOLLOUT, 2));
	TRY(control(ends[0], EPOLL_CTL_ADD, ends[1], EPOLLOUT, 2));
	TRY(control(fd, EPOLL_CTL_ADD, fd, EPOLLOUT, 2));
	TRY(control(fd, EPOLL_CTL_DEL, ends[0], EPOLLOUT, 2));
	usleep(1000);
	say_events("with a pipe", set);
	tell_number(1);
}

// What drains is told once, with all that is true.
static void room(void)
{
	int fd = flow(), set = epoll_create1(0);
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 1));
	say_events("at first", set);
	uint64_t filled = fill_up(fd);
	say_events("full", set);
	tell_number(filled);
	await();
	wait_for(fd, POLLOUT);
	// The peer has read all and said so: nothing more comes but what is asked for.
	say_events("drained", set);
	usleep(20000);
	say_events("nothing new", set);
	tell();
	wait_for(fd, POLLIN);
	say_events("a byte", set);
	TRY(shutdown(fd, SHUT_WR));
	usleep(20000);
	say_events("shut", set);
	tell();
	wait_for(fd, POLLHUP);
	usleep(20000);
	say_events("both ends", set);
	say_events("nothing new", set);
}

static void drain(void)
{
	int fd = flow();
	uint64_t left = await_number();
	char bytes[65536];
	while (left > 0) {
		ssize_t n = recv(fd, bytes, left < sizeof bytes ? left : sizeof bytes, 0);
		if (n <= 0)
			give_up("recv");
		left -= n;
	}
	tell();
	await();
	send(fd, "x", 1, 0);
	await();
	TRY(close(fd));
}

static void copies(void)
{
	char byte;
	int fd = flow(), set = epoll_create1(0), copy = dup(fd), ends[2];
	if (pipe(ends))
		give_up("pipe");
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1));
	TRY(control(set, EPOLL_CTL_ADD, copy, EPOLLIN | EPOLLOUT | EPOLLONESHOT, 2));
	say_events("idle", set);
	next_byte(fd, 1);
	say_events("a byte", set);
	TRY(control(set, EPOLL_CTL_MOD, copy, EPOLLIN, 3));
	say_events("armed again", set);
	// Something else at the number of a registration that lives on.
	TRY(dup2(ends[0], copy) == copy);
	say_events("replaced", set);
	TRY(control(set, EPOLL_CTL_MOD, copy, EPOLLIN, 4));
	TRY(control(set, EPOLL_CTL_ADD, copy, EPOLLIN, 5));
	TRY(write(ends[1], "x", 1));
	usleep(1000);
	say_events("both", set);
	TRY(read(fd, &byte, 1));
	usleep(1000);
	say_events("the pipe", set);
	TRY(dup2(fd, copy) == copy);
	TRY(control(set, EPOLL_CTL_ADD, copy, EPOLLIN, 6));
	TRY(control(set, EPOLL_CTL_MOD, copy, EPOLLOUT, 6));
	say_events("back", set);
	TRY(close(fd));
	TRY(close(copy));
	say_events("closed", set);
	tell_number(1);
}

static void copied_set(void)
{
	int fd = flow(), set = epoll_create1(0), copy = dup(set), third = fcntl(set, F_DUPFD, 100);
	TRY(control(copy, EPOLL_CTL_ADD, fd, EPOLLOUT, 1));
	TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLOUT, 1));
	say_events("original", set);
	TRY(close(set));
	say_events("closed", set);
	say_events("copy", copy);
	TRY(dup2(third, copy) == copy);
	say_events("replaced by itself", copy);
	TRY(close(copy));
	say_events("third", third);
	TRY(control(third, EPOLL_CTL_DEL, fd, 0, 0));
	TRY(close(third));
	tell_number(1);
}

// Level-triggered and edge-triggered registrations of a set in a set.
static void sets_in_sets(void)
{
	char bytes[8];
	int fd = flow(), inner = epoll_create1(0), level = epoll_create1(0), edge = epoll_create1(0), once = epoll_create1(0);
	TRY(control(level, EPOLL_CTL_ADD, inner, EPOLLIN, 1));
	TRY(control(edge, EPOLL_CTL_ADD, inner, EPOLLIN | EPOLLET, 2));
	TRY(control(once, EPOLL_CTL_ADD, inner, EPOLLIN | EPOLLONESHOT, 3));
	TRY(control(inner, EPOLL_CTL_ADD, fd, EPOLLIN, 4));
	say_events("level", level);
	say_events("edge", edge);
	say_events("once", once);
	for (int i = 1; i <= 2; i++) {
		next_byte(fd, i);
		for (int times = 0; times < 2; times++) {
			say_events("level", level);
			say_events("edge", edge);
			say_events("once", once);
		}
	}
	TRY(read(fd, bytes, 8));
	say_events("level", level);
	say_events("edge", edge);
	say_readiness("inner", inner);
	next_byte(fd, 1);
	say_readiness("inner", inner);
	say_readiness("level", level);
	say_events("edge", edge);
	say_events("inner", inner);
	TRY(control(level, EPOLL_CTL_DEL, inner, 0, 0));
	TRY(close(inner));
	say_events("edge", edge);
	tell_number(1);
}

static void loops_of_sets(void)
{
	int fd = flow(), sets[8];
	for (int i = 0; i < 8; i++)
		sets[i] = epoll_create1(0);
	TRY(control(sets[0], EPOLL_CTL_ADD, fd, EPOLLOUT, 1));
	for (int i = 1; i < 8; i++)
		TRY(control(sets[i], EPOLL_CTL_ADD, sets[i - 1], EPOLLIN, 1));
	TRY(control(sets[0], EPOLL_CTL_ADD, sets[2], EPOLLIN, 1));
	TRY(control(sets[1], EPOLL_CTL_ADD, sets[1], EPOLLIN, 1));
	for (int i = 0; i < 5; i++)
		say_events("", sets[i]);
	tell_number(1);
}

// Sleeping in the outer one of two sets; what concerns the inner one's flow but is no event of it wakes nobody.
static void asleep_in_an_outer_set(void)
{
	struct epoll_event event;
	char bytes[8];
	int fd = flow(), inner = epoll_create1(0), outer = epoll_create1(0);
	TRY(control(inner, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	TRY(control(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 2));
	tell();
	TRY(epoll_wait(outer, &event, 1, -1));
	say_events("inner", inner);
	TRY(read(fd, bytes, 8));
	// An acknowledgement comes.
	TRY(send(fd, "x", 1, 0));
	TRY(epoll_wait(outer, &event, 1, 50));
	struct pollfd look = {.fd = inner, .events = POLLIN};
	TRY(send(fd, "x", 1, 0));
	TRY(poll(&look, 1, 50));
	tell();
	TRY(poll(&look, 1, -1));
	TRY(read(fd, bytes, 8));
	tell_number(1);
}

static void send_slowly(void)
{
	int fd = flow();
	while (await_number() == 0) {
		usleep(20000);
		send(fd, "x", 1, 0);
	}
}

static int set;
static volatile int reported;

static void *wait_once(void *timeout_ms)
{
	struct epoll_event event;
	int n = epoll_wait(set, &event, 1, *(int *)timeout_ms);
	if (n > 0)
		__atomic_fetch_add(&reported, n, __ATOMIC_SEQ_CST);
	return NULL;
}

enum { THREADS = 4 };

// One event is for one of the threads.
static void one_of_several(void)
{
	static const uint32_t modes[] = {EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT};
	pthread_t threads[THREADS];
	int fd = flow(), timeout_ms = 60;
	for (int way = 0; way < 3; way++) {
		set = epoll_create1(0);
		reported = 0;
		TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN | modes[way], 1));
		for (int i = 0; i < THREADS; i++)
			pthread_create(&threads[i], NULL, wait_once, &timeout_ms);
		usleep(10000);
		next_byte(fd, 1);
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		printf("%d of %d\n", reported, THREADS);
		char byte;
		TRY(read(fd, &byte, 1));
	}
	tell_number(1);
}

// A set that is closed while a thread waits in it.
static void closed_in_use(void)
{
	pthread_t thread;
	int fd = flow(), forever = -1, short_ms = 50;
	for (int way = 0; way < 2; way++) {
		set = epoll_create1(0);
		reported = 0;
		TRY(control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
		pthread_create(&thread, NULL, wait_once, way == 0 ? &forever : &short_ms);
		usleep(20000);
		TRY(close(set));
		if (way == 0)
			next_byte(fd, 1);
		pthread_join(thread, NULL);
		printf("%d reported\n", reported);
		char byte;
		TRY(recv(fd, &byte, 1, MSG_DONTWAIT));
	}
	tell_number(1);
}

// A listener whose registered descriptor is closed while a copy is open.
static void copied_listener(void)
{
	struct epoll_event event;
	int waiting = listener(), copy = dup(waiting), events = epoll_create1(0);
	set_nonblocking(waiting);
	TRY(control(events, EPOLL_CTL_ADD, waiting, EPOLLIN, 1));
	TRY(close(waiting));
	tell();
	TRY(epoll_wait(events, &event, 1, -1));
	TRY_FD(accept(copy, NULL, NULL));
	say_events("nobody waits", events);
	// Over the loopback, which the kernel serves.
	union address here = loopback_at(PORT);
	int own = stream();
	TRY(connect(own, &here.any, address_len));
	TRY(epoll_wait(events, &event, 1, -1));
	TRY_FD(accept(copy, NULL, NULL));
	say_events("nobody waits", events);
	tell();
}

// A socket becomes the kernel's after the descriptor that was registered has been closed; a copy is open.
static void handed_to_the_kernel(void)
{
	int fd = stream(), copy = dup(fd), events = epoll_create1(0);
	union address nobody = peer_at(CLOSED_PORT);
	TRY(control(events, EPOLL_CTL_ADD, copy, EPOLLIN, 1));
	TRY(control(events, EPOLL_CTL_ADD, fd, EPOLLOUT, 2));
	TRY(close(copy));
	say_events("fresh", events);
	TRY(shutdown(fd, SHUT_RDWR));
	TRY(connect(fd, &nobody.any, address_len));
	say_events("refused", events);
	TRY(control(events, EPOLL_CTL_ADD, dup(fd), EPOLLIN, 3));
	say_events("and a new copy", events);
}

// Sends a descriptor to another process, or receives one.
static int pass(int local, int fd)
{
	char byte = 'x';
	union { struct cmsghdr header; char room[CMSG_SPACE(sizeof fd)]; } control = {.header = {
		.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec piece = {&byte, 1};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	if ((fd < 0 ? recvmsg(local, &message, 0) : sendmsg(local, &message, 0)) != 1)
		give_up("pass");
	memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
	return fd;
}

// Accepts one connection by an event loop that then asks for no more.
static void accept_just_one(int waiting)
{
	struct epoll_event event;
	int events = epoll_create1(0);
	control(events, EPOLL_CTL_ADD, waiting, EPOLLIN, 1);
	for (;;) {
		if (epoll_wait(events, &event, 1, -1) != 1)
			give_up("epoll_wait");
		int fd = accept4(waiting, NULL, NULL, SOCK_NONBLOCK);
		if (fd >= 0)
			break;
	}
	control(events, EPOLL_CTL_DEL, waiting, 0, 0);
	printf("one accepted\n");
}

// Two processes' event loops share a listener that one has sent to the other.
static void shared_listener(void)
{
	int local[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, local))
		give_up("socketpair");
	fflush(stdout);
	pid_t pid = child();
	if (pid == 0) {
		int waiting = pass(local[0], -1);
		if (write(local[0], "y", 1) != 1)
			give_up("write");
		accept_just_one(waiting);
		leave(0);
	}
	int waiting = listener();
	set_nonblocking(waiting);
	pass(local[1], waiting);
	char byte;
	TRY(read(local[1], &byte, 1));
	tell();
	accept_just_one(waiting);
	join(pid);
	tell();
}

static void connect_four_times(void)
{
	union address address = ours_at(PORT);
	await();
	for (int i = 0; i < 4; i++) {
		int fd = stream();
		set_nonblocking(fd);
		connect(fd, &address.any, address_len);
	}
	await();
}

// One at a time, each has its turn.
static void in_turns(void)
{
	int fd = flow(), events = epoll_create1(0), ends[2], seen[4] = {0};
	if (pipe(ends))
		give_up("pipe");
	TRY(control(events, EPOLL_CTL_ADD, fd, EPOLLIN, 0));
	TRY(control(events, EPOLL_CTL_ADD, dup(fd), EPOLLIN | EPOLLOUT, 1));
	TRY(control(events, EPOLL_CTL_ADD, dup(fd), EPOLLOUT, 2));
	TRY(control(events, EPOLL_CTL_ADD, ends[1], EPOLLOUT, 3));
	next_byte(fd, 1);
	for (int i = 0; i < 200; i++, usleep(i % 4 == 0 ? 100 : 0)) {
		struct epoll_event event;
		if (epoll_wait(events, &event, 1, 0) != 1)
			give_up("epoll_wait");
		seen[event.data.u64]++;
	}
	for (int i = 0; i < 4; i++)
		printf("%d: %s\n", i, seen[i] >= 10 ? "often" : "starved");
	tell_number(1);
}

const struct test_case cases[] = {
	{"arguments", FLOW, arguments, send_bytes},
	{"room", FLOW, room, drain},
	{"copies", FLOW, copies, send_bytes},
	{"copied_set", FLOW, copied_set, send_bytes},
	{"sets_in_sets", FLOW, sets_in_sets, send_bytes},
	{"loops_of_sets", FLOW, loops_of_sets, send_bytes},
	{"asleep_in_an_outer_set", FLOW, asleep_in_an_outer_set, send_slowly},
	{"one_of_several", FLOW, one_of_several, send_bytes},
	{"closed_in_use", FLOW, closed_in_use, send_bytes},
	{"copied_listener", MIXED, copied_listener, connect_once},
	{"handed_to_the_kernel", PASSED, handed_to_the_kernel, NULL},
	{"shared_listener", ANYHOW, shared_listener, connect_four_times},
	{"in_turns", FLOW, in_turns, send_bytes},
	{0},
};
