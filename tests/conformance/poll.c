// poll(2), ppoll(2), select(2), pselect(2): what a descriptor is ready for in each state, and sets of many kinds.
#include "case.h"

static void fresh(void)
{
	int fd = stream();
	say_readiness("fresh", fd);
	union address address = ours_at(PORT);
	TRY(bind(fd, &address.any, address_len));
	say_readiness("bound", fd);
	TRY(listen(fd, 1));
	say_readiness("listening", fd);
}

static void listening(void)
{
	int fd = listener();
	say_readiness("nobody waits", fd);
	tell();
	say_bits("somebody waits", wait_for(fd, POLLIN));
	say_readiness("somebody waits", fd);
	TRY_FD(accept(fd, NULL, NULL));
	say_readiness("nobody waits", fd);
	tell();
}

static void connected(void)
{
	char bytes[16];
	int fd = flow();
	say_readiness("idle", fd);
	tell();
	say_bits("data", wait_for(fd, POLLIN));
	say_readiness("data", fd);
	TRY(read(fd, bytes, 2));
	say_readiness("less data", fd);
	TRY(read(fd, bytes, 16));
	say_readiness("no data", fd);
	struct pollfd none = {.fd = fd, .events = 0};
	TRY(poll(&none, 1, 0));
	say_bits("asked for nothing", none.revents);
	tell();
	wait_for(fd, POLLRDHUP);
	none.revents = 0;
	TRY(poll(&none, 1, 0));
	say_bits("asked for nothing at the end", none.revents);
	TRY(shutdown(fd, SHUT_WR));
	wait_for(fd, POLLHUP);
	TRY(poll(&none, 1, 0));
	say_bits("asked for nothing after both ends", none.revents);
}

static void send_then_close(void)
{
	int fd = flow();
	await();
	TRY(send(fd, "data", 4, 0));
	await();
	TRY(close(fd));
}

static void timed_out(void)
{
	int fd = flow();
	struct pollfd look = {.fd = fd, .events = POLLIN};
	TRY(poll(&look, 1, 20));
	struct timespec timeout = {.tv_nsec = 20000000};
	TRY(ppoll(&look, 1, &timeout, NULL));
	fd_set in;
	FD_ZERO(&in);
	FD_SET(fd, &in);
	struct timeval time = {.tv_usec = 20000};
	TRY(select(fd + 1, &in, NULL, NULL, &time));
	TRY(FD_ISSET(fd, &in));
	FD_SET(fd, &in);
	TRY(pselect(fd + 1, &in, NULL, NULL, &timeout, NULL));
	TRY(FD_ISSET(fd, &in));
	TRY(poll(NULL, 0, 5));
	TRY(select(0, NULL, NULL, NULL, &(struct timeval){.tv_usec = 5000}));
	tell();
}

static void stay(void)
{
	int fd = flow();
	await();
	TRY(close(fd));
}

// Each way of waiting is woken by data that comes while it sleeps.
static void woken(void)
{
	int fd = flow();
	struct pollfd look = {.fd = fd, .events = POLLIN};
	char byte;
	fd_set in;
	FD_ZERO(&in);
	for (int way = 0; way < 4; way++) {
		FD_SET(fd, &in);
		tell();
		switch (way) {
		case 0: TRY(poll(&look, 1, -1)); break;
		case 1: TRY(ppoll(&look, 1, NULL, NULL)); break;
		case 2: TRY(select(fd + 1, &in, NULL, NULL, NULL)); break;
		case 3: TRY(pselect(fd + 1, &in, NULL, NULL, NULL, NULL)); break;
		}
		TRY(read(fd, &byte, 1));
	}
}

static void send_slowly(void)
{
	int fd = flow();
	for (int i = 0; i < 4; i++) {
		await();
		usleep(20000);
		TRY(send(fd, "x", 1, 0));
	}
	TRY(read_to_end(fd));
}

static void wrong_arguments(void)
{
	int fd = flow(), closed = dup(fd);
	close(closed);
	struct pollfd looks[] = {
		{.fd = fd, .events = POLLOUT}, {.fd = -1, .events = POLLIN, .revents = 7}, {.fd = closed, .events = POLLIN}};
	TRY(poll(looks, 3, -1));
	for (int i = 0; i < 3; i++)
		say_bits("revents", looks[i].revents);
	struct pollfd *volatile looks_of_any_size = looks;
	TRY(poll(looks_of_any_size, 100000000, 0));
	struct timespec negative = {.tv_sec = -1}, too_long = {.tv_nsec = 1000000000};
	TRY(ppoll(looks, 1, &negative, NULL));
	TRY(ppoll(looks, 1, &too_long, NULL));
	fd_set in;
	FD_ZERO(&in);
	FD_SET(fd, &in);
	TRY(select(-1, &in, NULL, NULL, NULL));
	TRY(select(fd + 1, &in, NULL, NULL, &(struct timeval){.tv_sec = -1}));
	TRY(pselect(fd + 1, &in, NULL, NULL, &negative, NULL));
	FD_SET(closed, &in);
	TRY(select(closed + 1, &in, NULL, NULL, &(struct timeval){0}));
	tell();
}

struct others {
	int flow, pipe[2], event, timer, datagrams[2], local[2];
};

static struct others open_others(void)
{
	struct others all = {.flow = flow(), .event = eventfd(0, 0), .timer = timerfd_create(CLOCK_MONOTONIC, 0)};
	if (pipe(all.pipe) || socketpair(AF_UNIX, SOCK_STREAM, 0, all.local) ||
	    socketpair(AF_UNIX, SOCK_DGRAM, 0, all.datagrams))
		give_up("others");
	return all;
}

// A set of a flow and of what the kernel has, in which one after the other becomes ready.
static void mixed(void)
{
	struct others all = open_others();
	uint64_t one = 1;
	int fds[] = {all.pipe[0], all.flow, all.event, all.timer, all.local[0], all.datagrams[0]};
	struct pollfd looks[6];
	for (int step = 0; step < 6; step++) {
		switch (step) {
		case 0: TRY(write(all.pipe[1], "x", 1)); break;
		case 1: tell(); wait_for(all.flow, POLLIN); break;
		case 2: TRY(write(all.event, &one, sizeof one)); break;
		case 3: timerfd_settime(all.timer, 0, &(struct itimerspec){.it_value.tv_nsec = 1}, NULL), wait_for(all.timer, POLLIN); break;
		case 4: TRY(write(all.local[1], "x", 1)); break;
		case 5: TRY(write(all.datagrams[1], "x", 1)); break;
		}
		fd_set in;
		FD_ZERO(&in);
		int highest = 0;
		for (int i = 0; i < 6; i++) {
			looks[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
			FD_SET(fds[i], &in);
			highest = fds[i] > highest ? fds[i] : highest;
		}
		TRY(poll(looks, 6, -1));
		TRY(select(highest + 1, &in, NULL, NULL, NULL));
		for (int i = 0; i < 6; i++)
			printf("%d%d ", looks[i].revents, FD_ISSET(fds[i], &in) != 0);
		printf("\n");
	}
	char byte;
	TRY(read(all.flow, &byte, 1));
}

// A sleep on a mixed set ends when one of the kernel's descriptors becomes ready.
static void woken_by_another(void)
{
	struct others all = open_others();
	struct pollfd looks[2] = {{.fd = all.flow, .events = POLLIN}, {.fd = all.timer, .events = POLLIN}};
	struct itimerspec soon = {.it_value.tv_nsec = 20000000};
	timerfd_settime(all.timer, 0, &soon, NULL);
	TRY(poll(looks, 2, -1));
	say_bits("flow", looks[0].revents);
	say_bits("timer", looks[1].revents);
	timerfd_settime(all.timer, 0, &soon, NULL);
	fd_set in;
	FD_ZERO(&in);
	FD_SET(all.flow, &in);
	FD_SET(all.timer, &in);
	TRY(select(all.timer + all.flow + 1, &in, NULL, NULL, NULL));
	printf("flow %d, timer %d\n", FD_ISSET(all.flow, &in) != 0, FD_ISSET(all.timer, &in) != 0);
	tell();
	TRY(poll(looks, 1, -1));
	char byte;
	TRY(read(all.flow, &byte, 1));
}

static void send_when_told(void)
{
	int fd = flow();
	await();
	TRY(send(fd, "x", 1, 0));
	TRY(read_to_end(fd));
}

// An array whose size the compiler knows, and a count that it does not: __poll_chk, __ppoll_chk.
static void fortified(void)
{
	struct pollfd looks[2] = {{.fd = flow(), .events = POLLOUT}, {.fd = STDIN_FILENO, .events = POLLOUT}};
	volatile nfds_t count = 2;
	TRY(poll(looks, count, 0));
	say_bits("flow", looks[0].revents);
	struct timespec none = {0};
	TRY(ppoll(looks, count, &none, NULL));
	say_bits("flow", looks[0].revents);
	tell();
}

const struct test_case cases[] = {
	{"fresh", PASSED, fresh, NULL},
	{"listening", SERVED, listening, connect_once},
	{"connected", FLOW, connected, send_then_close},
	{"timed_out", FLOW, timed_out, stay},
	{"woken", FLOW, woken, send_slowly},
	{"wrong_arguments", FLOW, wrong_arguments, stay},
	{"mixed", FLOW, mixed, send_when_told},
	{"woken_by_another", FLOW, woken_by_another, send_when_told},
	{"fortified", FLOW, fortified, stay},
	{0},
};
