// The frame of the conformance programs: a pattern of bytes in which a lost, doubled or moved one shows, and what every
// way of asking says of a descriptor's readiness.
#include "case.h"

// Where the pattern stands in either direction.
static uint64_t written, received;

static unsigned char pattern_at(uint64_t position)
{
	return (unsigned char)(position * 2654435761u >> 16);
}

void write_pattern(int fd, size_t len)
{
	unsigned char bytes[65536];
	while (len > 0) {
		size_t n = len < sizeof bytes ? len : sizeof bytes;
		for (size_t i = 0; i < n; i++)
			bytes[i] = pattern_at(written + i);
		ssize_t done = write(fd, bytes, n);
		if (done <= 0)
			give_up("write");
		written += done;
		len -= done;
	}
}

static size_t read_some(int fd, size_t len)
{
	unsigned char bytes[65536];
	ssize_t n = read(fd, bytes, len < sizeof bytes ? len : sizeof bytes);
	if (n < 0)
		give_up("read");
	for (ssize_t i = 0; i < n; i++)
		if (bytes[i] != pattern_at(received + i))
			give_up("a byte differs");
	received += n;
	return n;
}

void read_exactly(int fd, size_t len)
{
	while (len > 0) {
		size_t n = read_some(fd, len);
		if (n == 0)
			give_up("the end came early");
		len -= n;
	}
}

uint64_t read_to_end(int fd)
{
	while (read_some(fd, SIZE_MAX) > 0)
		;
	return received;
}

// The peer's kernel takes some more in for a while: full is what stays full. The flow is non-blocking afterwards.
uint64_t fill_up(int fd)
{
	static const char zeros[4096];
	uint64_t sent = 0, before;
	set_nonblocking(fd);
	do {
		before = sent;
		for (size_t len = sizeof zeros; len > 0; len /= 64)
			for (ssize_t n; (n = send(fd, zeros, len, 0)) > 0;)
				sent += n;
		usleep(50000);
	} while (sent > before);
	return sent;
}

short wait_for(int fd, short events)
{
	struct pollfd look = {.fd = fd, .events = events};
	if (poll(&look, 1, 60000) != 1)
		give_up("poll");
	return look.revents;
}

void say_bits(const char *label, unsigned bits)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = {{POLLIN, "IN"}, {POLLPRI, "PRI"}, {POLLOUT, "OUT"}, {POLLERR, "ERR"},
		     {POLLHUP, "HUP"}, {POLLNVAL, "NVAL"}, {POLLRDHUP, "RDHUP"}};
	printf("%s:", label);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (bits & names[i].bit)
			printf(" %s", names[i].name);
	printf("\n");
}

enum { ALL_EVENTS = POLLIN | POLLPRI | POLLOUT | POLLRDHUP };

static void say_poll(int fd)
{
	struct pollfd look = {.fd = fd, .events = ALL_EVENTS};
	TRY(poll(&look, 1, 0));
	say_bits("  poll", look.revents);
	look.revents = 0;
	struct timespec none = {0};
	TRY(ppoll(&look, 1, &none, NULL));
	say_bits("  ppoll", look.revents);
}

static void say_sets(const char *label, int fd, fd_set *in, fd_set *out, fd_set *except)
{
	printf("  %s:%s%s%s\n", label, FD_ISSET(fd, in) ? " read" : "", FD_ISSET(fd, out) ? " write" : "",
	       FD_ISSET(fd, except) ? " except" : "");
}

static void say_select(int fd)
{
	fd_set one, in, out, except;
	FD_ZERO(&one);
	FD_SET(fd, &one);
	in = out = except = one;
	struct timeval none = {0};
	TRY(select(fd + 1, &in, &out, &except, &none));
	say_sets("select", fd, &in, &out, &except);
	in = out = except = one;
	struct timespec none_too = {0};
	TRY(pselect(fd + 1, &in, &out, &except, &none_too, NULL));
	say_sets("pselect", fd, &in, &out, &except);
}

static void say_epoll(int fd)
{
	int set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = ALL_EVENTS, .data.u64 = 42};
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	event.events = 0;
	if (TRY(epoll_wait(set, &event, 1, 0)) == 1 && event.data.u64 != 42)
		printf("  the data of another registration\n");
	say_bits("  epoll", event.events);
	close(set);
}

void say_readiness(const char *label, int fd)
{
	printf("%s\n", label);
	say_poll(fd);
	say_select(fd);
	say_epoll(fd);
}
