// Signals while a call waits: EINTR, SA_RESTART (signal(7)), the masks of ppoll, pselect and epoll_pwait; and
// signals that end the process.
#include "case.h"

// The signal comes again and again, so that one of them finds the call asleep however late it sleeps.
static void start_alarms(int flags)
{
	struct itimerval every = {.it_value.tv_usec = 20000, .it_interval.tv_usec = 20000};
	signals_seen = 0;
	count_signal(SIGALRM, flags);
	setitimer(ITIMER_REAL, &every, NULL);
}

static void stop_alarms(void)
{
	struct itimerval never = {0};
	setitimer(ITIMER_REAL, &never, NULL);
	TRY(signals_seen > 0);
}

#define INTERRUPTED(call) \
	do { \
		start_alarms(0); \
		TRY(call); \
		stop_alarms(); \
	} while (0)

static void interrupted(void)
{
	char byte;
	int fd = flow(), set = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
	struct pollfd look = {.fd = fd, .events = POLLIN};
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	fd_set in;
	FD_ZERO(&in);
	FD_SET(fd, &in);
	INTERRUPTED(read(fd, &byte, 1));
	INTERRUPTED(recv(fd, &byte, 1, 0));
	INTERRUPTED(recvmsg(fd, &message, 0));
	INTERRUPTED(readv(fd, &part, 1));
	INTERRUPTED(poll(&look, 1, -1));
	INTERRUPTED(ppoll(&look, 1, NULL, NULL));
	INTERRUPTED(select(fd + 1, &in, NULL, NULL, NULL));
	INTERRUPTED(pselect(fd + 1, &in, NULL, NULL, NULL, NULL));
	INTERRUPTED(epoll_wait(set, &event, 1, -1));
	INTERRUPTED(epoll_pwait(set, &event, 1, -1, NULL));
	tell();
}

static void stay(void)
{
	int fd = flow();
	await();
	TRY(close(fd));
}

static void accept_interrupted(void)
{
	int waiting = listener();
	INTERRUPTED(accept(waiting, NULL, NULL));
}

static void connect_interrupted(void)
{
	union address address = absent_at(PORT);
	int fd = stream();
	INTERRUPTED(connect(fd, &address.any, address_len));
	TRY(connect(fd, &address.any, address_len) == -1 && (errno == EALREADY || errno == EINTR));
}

static void send_interrupted(void)
{
	char bytes[1] = {0};
	int fd = flow();
	fill_up(fd);
	TRY(fcntl(fd, F_SETFL, 0));
	INTERRUPTED(send(fd, bytes, 1, 0));
	INTERRUPTED(write(fd, bytes, 1));
	tell();
}

// The third signal has the peer send.
static void ask_at_the_third(int number)
{
	(void)number;
	if (++signals_seen == 3)
		tell();
}

static void restarted(void)
{
	char byte = 0;
	int fd = flow();
	struct pollfd look = {.fd = fd, .events = POLLIN};
	start_alarms(SA_RESTART);
	struct sigaction action = {.sa_handler = ask_at_the_third, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &action, NULL);
	TRY(recv(fd, &byte, 1, 0));
	stop_alarms();
	start_alarms(SA_RESTART);
	TRY(poll(&look, 1, -1));
	stop_alarms();
	tell();
}

static void send_when_asked(void)
{
	int fd = flow();
	await();
	TRY(send(fd, "x", 1, 0));
	await();
	TRY(close(fd));
}

// A signal that is blocked but for the time of the wait is delivered in it.
static void masks(void)
{
	int fd = flow(), set = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
	struct pollfd look = {.fd = fd, .events = POLLIN};
	fd_set in;
	sigset_t alarm_only, none;
	sigemptyset(&none);
	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGUSR1);
	sigprocmask(SIG_BLOCK, &alarm_only, NULL);
	count_signal(SIGUSR1, 0);
	for (int way = 0; way < 4; way++) {
		raise(SIGUSR1);
		TRY(signals_seen);
		FD_ZERO(&in);
		FD_SET(fd, &in);
		switch (way) {
		case 0: TRY(ppoll(&look, 1, NULL, &none)); break;
		case 1: TRY(pselect(fd + 1, &in, NULL, NULL, NULL, &none)); break;
		case 2: TRY(epoll_pwait(set, &event, 1, -1, &none)); break;
		case 3: TRY(epoll_pwait2(set, &event, 1, NULL, &none)); break;
		}
	}
	TRY(signals_seen);
	raise(SIGUSR1);
	TRY(poll(&look, 1, 10));
	TRY(signals_seen);
	tell();
}

// O_ASYNC: a signal for what comes.
static void asynchronous(void)
{
	int fd = flow();
	count_signal(SIGIO, 0);
	TRY(fcntl(fd, F_SETOWN, getpid()));
	TRY(fcntl(fd, F_GETOWN) == getpid());
	TRY(fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
	TRY(fcntl(fd, F_GETFL));
	tell();
	for (int i = 0; i < 3000 && signals_seen == 0; i++)
		usleep(1000);
	TRY(signals_seen > 0);
	wait_for(fd, POLLIN);
	TRY(recv(fd, &(char){0}, 1, 0));
	tell();
}

// A process that a signal ends by default: what it has sent still arrives, and then the end.
static void die(int way)
{
	int fd = flow();
	char byte;
	// nohup(1) has it ignored.
	signal(SIGHUP, SIG_DFL);
	write_pattern(fd, 300000);
	switch (way) {
	case 0: raise(SIGTERM); break;
	case 1: recv(fd, &byte, 1, 0); break; // The parent sends SIGHUP.
	case 2: // In the middle of a call, or between two.
		setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = 3000}, NULL);
		for (void *memory = NULL;; memory = malloc(100)) {
			recv(fd, &byte, 1, MSG_DONTWAIT);
			free(memory);
		}
	case 3: // By a write that nobody reads.
		shutdown(fd, SHUT_WR);
		send(fd, &byte, 1, 0);
	}
}

static void ended_by_default(void)
{
	for (int way = 0; way < 4; way++) {
		pid_t pid = child();
		if (pid == 0) {
			die(way);
			leave(1);
		}
		if (way == 1) {
			usleep(200000);
			kill(pid, SIGHUP);
		}
		join(pid);
		tell();
	}
}

static void read_what_it_sent(void)
{
	for (int way = 0; way < 4; way++) {
		// Each for itself: the pattern begins anew.
		pid_t pid = child();
		if (pid == 0) {
			int fd = flow();
			printf("%llu bytes, then the end\n", (unsigned long long)read_to_end(fd));
			TRY(close(fd));
			leave(0);
		}
		join(pid);
		await();
	}
}

const struct test_case cases[] = {
	{"interrupted", FLOW, interrupted, stay},
	{"accept_interrupted", PASSED, accept_interrupted, NULL},
	{"connect_interrupted", SERVED, connect_interrupted, NULL},
	{"send_interrupted", FLOW, send_interrupted, stay},
	{"restarted", FLOW, restarted, send_when_asked},
	{"masks", FLOW, masks, stay},
	{"asynchronous", FLOW, asynchronous, send_when_asked},
	{"ended_by_default", FLOW, ended_by_default, read_what_it_sent},
	{0},
};
