// poll(2) and select(2) to the letter: arrays of any kind, every name of a bit, and time.
#include "case.h"

#include <pthread.h>
#include <sys/resource.h>

static void say_looks(const char *label, struct pollfd *looks, nfds_t count, int timeout_ms)
{
	printf("%s: %d\n", label, poll(looks, count, timeout_ms));
	for (nfds_t i = 0; i < count; i++)
		say_bits("  ", looks[i].revents);
}

static void say_names_of_bits(const char *label, short bits)
{
	static const short names[] = {POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL, POLLRDNORM, POLLRDBAND, POLLWRNORM, POLLWRBAND, POLLMSG, POLLRDHUP};
	printf("%s:", label);
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (bits & names[i])
			printf(" %x", names[i]);
	printf("\n");
}

// Duplicates, negative numbers, closed ones, and descriptors of every kind in one array.
static void arrays(void)
{
	int fd = flow(), copy = dup(fd), closed = dup(fd), ends[2], waiting = stream(), set = epoll_create1(0);
	if (pipe(ends))
		give_up("pipe");
	close(closed);
	struct pollfd looks[] = {
		{fd, POLLIN, 9}, {fd, POLLOUT, 9}, {fd, POLLIN | POLLOUT, 9}, {copy, POLLOUT, 9}, {-1, POLLOUT, 9}, {-fd, POLLOUT, 9},
		{INT32_MIN, POLLIN, 9}, {closed, POLLIN, 9}, {closed, 0, 9}, {ends[0], POLLIN, 9}, {ends[1], POLLOUT, 9},
		{ends[1], POLLIN, 9}, {waiting, POLLIN | POLLOUT, 9}, {waiting, 0, 9}, {set, POLLIN | POLLOUT, 9},
		{open("/proc/self/exe", O_RDONLY), POLLIN | POLLOUT, 9}, {1 << 25, POLLIN, 9}, {INT32_MAX, POLLIN, 9},
	};
	nfds_t count = sizeof looks / sizeof *looks;
	say_looks("idle", looks, count, 0);
	tell();
	wait_for(fd, POLLIN);
	say_looks("a byte", looks, count, -1);
	say_looks("of them none", looks, 0, 0);
	struct pollfd *volatile nowhere = NULL;
	volatile nfds_t some = 1;
	TRY(poll(nowhere, 0, 0));
	TRY(poll(nowhere, some, 0));
	struct pollfd *volatile any = looks;
	struct rlimit limit = {0};
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 17;
	setrlimit(RLIMIT_NOFILE, &limit);
	TRY(poll(any, 17, 0));
	TRY(poll(any, 18, 0));
	TRY(ppoll(any, 18, &(struct timespec){0}, NULL));
	tell();
}

static void send_and_stay(void)
{
	int fd = flow();
	await();
	send(fd, "x", 1, 0);
	await();
	close(fd);
}

// Each name of what can be asked, alone and with others.
static void names(void)
{
	static const short asked[] = {0, POLLIN, POLLRDNORM, POLLRDBAND, POLLOUT, POLLWRNORM, POLLWRBAND, POLLPRI, POLLRDHUP, POLLMSG, -1};
	static const char *const steps[] = {"idle", "a byte", "an urgent one", "the end", "shut"};
	char bytes[8];
	int fd = flow();
	for (int step = 0; step < 5; step++) {
		switch (step) {
		case 1: tell(); wait_for(fd, POLLIN); break;
		case 2: tell(); wait_for(fd, POLLPRI); break;
		case 3: tell(); wait_for(fd, POLLRDHUP); break;
		case 4: shutdown(fd, SHUT_WR); wait_for(fd, POLLHUP); break;
		}
		printf("%s\n", steps[step]);
		for (unsigned i = 0; i < sizeof asked / sizeof *asked; i++) {
			struct pollfd look = {.fd = fd, .events = asked[i]};
			int n = poll(&look, 1, 0);
			printf("  %hx: %d", asked[i], n);
			say_names_of_bits("", look.revents);
		}
		fd_set in, out, except;
		FD_ZERO(&in);
		FD_ZERO(&out);
		FD_ZERO(&except);
		FD_SET(fd, &in), FD_SET(fd, &out), FD_SET(fd, &except);
		int n = select(fd + 1, &in, &out, &except, &(struct timeval){0});
		printf("  select: %d, %d%d%d\n", n, !!FD_ISSET(fd, &in), !!FD_ISSET(fd, &out), !!FD_ISSET(fd, &except));
		FD_SET(fd, &except);
		TRY(select(fd + 1, NULL, NULL, &except, &(struct timeval){0}));
	}
	TRY(recv(fd, bytes, 8, 0));
}

static void say_all(void)
{
	int fd = flow();
	await();
	send(fd, "x", 1, 0);
	await();
	send(fd, "y", 1, MSG_OOB);
	await();
	shutdown(fd, SHUT_WR);
	read_to_end(fd);
}

// Bits beyond the count stay; those of what is not ready go; and the time that is left is told.
static void selecting(void)
{
	int fd = flow(), ends[2];
	fd_set in, out;
	struct timeval time = {.tv_sec = 5}, none = {0}, wrong = {.tv_usec = -1}, large = {.tv_sec = 1, .tv_usec = 1500000};
	if (pipe(ends))
		give_up("pipe");
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(fd, &in), FD_SET(fd, &out), FD_SET(ends[1], &out), FD_SET(900, &in);
	TRY(select((ends[1] > fd ? ends[1] : fd) + 1, &in, &out, NULL, &time));
	printf("in %d, out %d, pipe %d, beyond %d\n", !!FD_ISSET(fd, &in), !!FD_ISSET(fd, &out), !!FD_ISSET(ends[1], &out), !!FD_ISSET(900, &in));
	printf("seconds left: %ld\n", (long)time.tv_sec + (time.tv_usec > 500000));
	FD_ZERO(&in);
	FD_SET(fd, &in);
	time = (struct timeval){.tv_usec = 20000};
	TRY(select(fd + 1, &in, NULL, NULL, &time));
	printf("left: %ld %ld, in %d\n", (long)time.tv_sec, (long)time.tv_usec, !!FD_ISSET(fd, &in));
	FD_SET(fd, &in);
	TRY(select(fd + 1, &in, NULL, NULL, &none));
	FD_SET(fd, &in);
	TRY(select(fd + 1, &in, NULL, NULL, &wrong));
	printf("in %d\n", !!FD_ISSET(fd, &in));
	FD_SET(fd, &out);
	TRY(select(fd + 1, NULL, &out, NULL, &large));
	printf("in %d, larger than a second: %d\n", !!FD_ISSET(fd, &in), large.tv_sec >= 1);
	FD_SET(fd, &in);
	TRY(select(fd, &in, NULL, NULL, &none));
	printf("below the descriptor: in %d\n", !!FD_ISSET(fd, &in));
	FD_SET(fd, &in);
	TRY(select(FD_SETSIZE, &in, NULL, NULL, &none));
	FD_ZERO(&in);
	int closed = dup(fd);
	close(closed);
	FD_SET(fd, &in), FD_SET(closed, &in);
	TRY(select(closed + 1, &in, NULL, NULL, &none));
	printf("unchanged: %d%d\n", !!FD_ISSET(fd, &in), !!FD_ISSET(closed, &in));
	struct timespec left = {.tv_nsec = 20000000};
	FD_CLR(closed, &in);
	TRY(pselect(fd + 1, &in, NULL, NULL, &left, NULL));
	printf("pselect leaves %ld\n", left.tv_nsec);
	struct pollfd look = {fd, POLLIN, 0};
	TRY(ppoll(&look, 1, &left, NULL));
	printf("ppoll leaves %ld\n", left.tv_nsec);
	tell();
	tell();
}

// Descriptors beyond an fd_set's size, in a larger one.
static void beyond_an_fd_set(void)
{
	struct rlimit limit;
	unsigned long words[64] = {0};
	if (getrlimit(RLIMIT_NOFILE, &limit))
		give_up("getrlimit");
	limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
	setrlimit(RLIMIT_NOFILE, &limit);
	int low = flow(), fd = fcntl(low, F_DUPFD, 3000);
	words[fd / 64] = 1ul << fd % 64;
	fd_set *volatile set = (fd_set *)words;
	TRY(select(fd + 1, NULL, set, NULL, &(struct timeval){0}));
	printf("set %d\n", words[fd / 64] == 1ul << fd % 64);
	TRY(select(fd + 1, set, NULL, NULL, &(struct timeval){0}));
	printf("set %d\n", words[fd / 64] != 0);
	words[low / 64] |= 1ul << low % 64;
	TRY(select(4096, NULL, set, NULL, &(struct timeval){0}));
	tell();
	tell();
}

static int shared;
static volatile int woken;

static void *look_once(void *argument)
{
	struct pollfd look = {shared, POLLIN, 0};
	if (poll(&look, 1, 2000) == 1)
		__atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
	return argument;
}

enum { THREADS = 4 };

// All who look at one listener see that somebody waits, and one of them accepts.
static void many_at_a_listener(void)
{
	pthread_t threads[THREADS];
	shared = listener();
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, look_once, NULL);
	usleep(20000);
	tell();
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	printf("%d of %d\n", woken, THREADS);
	set_nonblocking(shared);
	TRY_FD(accept(shared, NULL, NULL));
	TRY_FD(accept(shared, NULL, NULL));
	tell();
}

// A child of fork(2) looks at its parent's epoll instance before it has used it otherwise.
static void at_a_parents_set(void)
{
	int fd = flow(), set = epoll_create1(0), waiting = stream();
	control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
	fflush(stdout);
	pid_t pid = child();
	if (pid == 0) {
		struct pollfd look = {set, POLLIN, 0};
		TRY(poll(&look, 1, 0));
		control(set, EPOLL_CTL_ADD, waiting, EPOLLOUT, 2);
		TRY(poll(&look, 1, 0));
		say_readiness("with a socket of its own", set);
		say_events("its events", set);
		leave(0);
	}
	join(pid);
	tell();
	tell();
}

const struct test_case cases[] = {
	{"arrays", FLOW, arrays, send_and_stay},
	{"names", FLOW, names, say_all},
	{"selecting", FLOW, selecting, send_and_stay},
	{"beyond_an_fd_set", FLOW, beyond_an_fd_set, send_and_stay},
	{"many_at_a_listener", SERVED, many_at_a_listener, connect_once},
	{"at_a_parents_set", ANYHOW, at_a_parents_set, send_and_stay},
	{0},
};
