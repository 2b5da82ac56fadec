// SO_RCVBUF and SO_SNDBUF of socket(7), TCP_WINDOW_CLAMP of tcp(7): what is said of them, and that they hold.
#include "case.h"

static void say_sizes(const char *label, int fd)
{
	int receive = -1, send = -1;
	socklen_t len = sizeof receive;
	TRY(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, &len));
	TRY(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send, &len));
	printf("%s: %d %d\n", label, receive, send);
}

static void set_sizes(int fd, int receive, int send)
{
	TRY(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, sizeof receive));
	TRY(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send, sizeof send));
}

// A listener's sizes are those of its connections.
static void bounded_ours(void)
{
	int fd = listener(), clamp = 9000;
	socklen_t len = sizeof clamp;
	set_sizes(fd, 1, 1);
	say_sizes("least", fd);
	set_sizes(fd, 20000, 15000);
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &clamp, sizeof clamp));
	clamp = -1;
	TRY(getsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &clamp, &len));
	printf("clamp %d\n", clamp);
	say_sizes("listener", fd);
	tell();
	int got = TRY_FD(accept(fd, NULL, NULL));
	say_sizes("accepted", got);
	await();
	int unread = 0;
	TRY(ioctl(got, FIONREAD, &unread));
	printf("the peer filled a small window: %d\n", unread > 1000 && unread < 40000);
	set_nonblocking(got);
	uint64_t filled = fill_up(got);
	printf("a small buffer was filled: %d\n", filled > 1000 && filled < 400000);
	set_sizes(got, 30000, 30000);
	say_sizes("changed", got);
	close(got);
	// Not before: a peer that closes first resets the connection, perhaps when this process has ended.
	tell();
	close(fd);
}

static void bounded_peer(void)
{
	await();
	int fd = stream();
	union address there = ours_at(PORT);
	TRY(connect(fd, &there.any, address_len));
	set_nonblocking(fd);
	fill_up(fd);
	tell();
	await();
	close(fd);
}

// Megabytes go both ways through whatever there is.
static void bulk_ours(void)
{
	int fd = flow();
	write_pattern(fd, 3000000);
	shutdown(fd, SHUT_WR);
	printf("%lu\n", read_to_end(fd));
	tell();
	close(fd);
}

static void bulk_peer(void)
{
	int fd = flow();
	printf("%lu\n", read_to_end(fd));
	write_pattern(fd, 3000000);
	shutdown(fd, SHUT_WR);
	await();
	close(fd);
}

const struct test_case cases[] = {
	{"bounded", SERVED, bounded_ours, bounded_peer},
	{"bulk", FLOW, bulk_ours, bulk_peer},
	{NULL, ANYHOW, NULL, NULL},
};
