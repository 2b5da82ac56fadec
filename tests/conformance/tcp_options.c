// The options of tcp(7) that shape what goes over the wire.
#include "case.h"
#include <linux/sockios.h>

static void say_int(const char *label, int fd, int option)
{
	int value = -1;
	socklen_t len = sizeof value;
	int result = getsockopt(fd, IPPROTO_TCP, option, &value, &len);
	printf("%s: %d %s %d %u\n", label, result, result ? strerrorname_np(errno) : "", value, len);
}

#define SAY(fd, option) say_int(#option, fd, option)

static void say_algorithm(int fd, socklen_t len)
{
	char name[20] = "unchanged";
	int result = getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len);
	printf("TCP_CONGESTION: %d '%.16s' %u\n", result, name, len);
}

static void say_all(const char *label, int fd)
{
	printf("%s\n", label);
	SAY(fd, TCP_MAXSEG);
	SAY(fd, TCP_SYNCNT);
	SAY(fd, TCP_LINGER2);
	SAY(fd, TCP_DEFER_ACCEPT);
	SAY(fd, TCP_NOTSENT_LOWAT);
}

static void set_int(const char *label, int fd, int option, int value)
{
	int result = setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value);
	printf("%s %d: %d %s\n", label, value, result, result ? strerrorname_np(errno) : "");
}

#define SET(fd, option, value) set_int(#option, fd, option, value)

static void set_all(int fd)
{
	SET(fd, TCP_MAXSEG, 700);
	SET(fd, TCP_SYNCNT, 3);
	SET(fd, TCP_LINGER2, 9);
	SET(fd, TCP_DEFER_ACCEPT, 4);
	SET(fd, TCP_NOTSENT_LOWAT, 5000);
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
}

static void set_wrongly(int fd)
{
	static const int bounds[] = {-1, 0, 1, 87, 88, 127, 128, 32767, 32768};
	for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
		SET(fd, TCP_MAXSEG, bounds[i]);
		SET(fd, TCP_SYNCNT, bounds[i]);
		SAY(fd, TCP_SYNCNT);
		SET(fd, TCP_LINGER2, bounds[i]);
		SAY(fd, TCP_LINGER2);
		SET(fd, TCP_DEFER_ACCEPT, bounds[i]);
		SAY(fd, TCP_DEFER_ACCEPT);
	}
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "nobody", 6));
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "", 0));
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 2));
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, "", 1));
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno\0", 6));
	say_algorithm(fd, 3);
	say_algorithm(fd, 16);
	say_algorithm(fd, 20);
}

static void of_a_fresh_socket(void)
{
	int fd = stream();
	say_all("fresh", fd);
	set_all(fd);
	say_all("set", fd);
	set_wrongly(fd);
	int waiting = listener();
	set_all(waiting);
	say_all("listening", waiting);
	set_wrongly(waiting);
}

static void of_a_flow(void)
{
	int fd = flow();
	say_all("connected", fd);
	set_all(fd);
	say_all("set", fd);
	set_wrongly(fd);
	tell();
}

static void close_when_told(void)
{
	int fd = flow();
	await();
	close(fd);
}

static void are_kept(void)
{
	union address address = peer_at(PORT);
	await();
	int fd = stream();
	set_all(fd);
	TRY(connect(fd, &address.any, address_len));
	say_all("connected", fd);
	say_algorithm(fd, 16);
	tell();
}

static void say_segments(void)
{
	int waiting = listener();
	tell();
	int fd = accept(waiting, NULL, NULL);
	await();
	SAY(fd, TCP_MAXSEG);
}

static int with_own_algorithm(void)
{
	char name[16];
	socklen_t len = sizeof name;
	await();
	int fd = stream();
	TRY(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, len));
	return fd;
}

static void connect_by_its_algorithm(int fd)
{
	union address address = peer_at(PORT);
	TRY(connect(fd, &address.any, address_len));
	say_algorithm(fd, 16);
	tell();
}

// The host's own algorithm is set by its name, although it may be one that only the kernel has.
static void own_algorithm(void)
{
	connect_by_its_algorithm(with_own_algorithm());
}

// One of ours is served, whatever was set before it.
static void own_algorithm_and_another(void)
{
	int fd = with_own_algorithm();
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	connect_by_its_algorithm(fd);
}

static void are_inherited(void)
{
	int waiting = listener();
	set_all(waiting);
	tell();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	say_all("accepted", fd);
	say_algorithm(fd, 16);
	tell();
}

static void open_and_say_segments(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	TRY(write(fd, "data", 4));
	await();
	SAY(fd, TCP_MAXSEG);
}

static void deferred(void)
{
	int waiting = listener();
	char bytes[8];
	SET(waiting, TCP_DEFER_ACCEPT, 30);
	set_nonblocking(waiting);
	tell();
	await();
	// Connected, and nothing has come.
	say_readiness("connected", waiting);
	TRY_FD(accept(waiting, NULL, NULL));
	tell();
	wait_for(waiting, POLLIN);
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	TRY(recv(fd, bytes, sizeof bytes, MSG_DONTWAIT));
	SAY(fd, TCP_DEFER_ACCEPT);
	// A FIN is something, too.
	wait_for(waiting, POLLIN);
	fd = TRY_FD(accept(waiting, NULL, NULL));
	TRY(recv(fd, bytes, sizeof bytes, MSG_DONTWAIT));
}

static void connect_and_send_late(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	tell();
	await();
	TRY(send(fd, "late", 4, 0));
	fd = stream();
	TRY(connect(fd, &address.any, address_len));
	TRY(shutdown(fd, SHUT_WR));
	TRY(recv(fd, &(char){0}, 1, 0));
}

static void deferred_for_a_second(void)
{
	int waiting = listener();
	SET(waiting, TCP_DEFER_ACCEPT, 1);
	SAY(waiting, TCP_DEFER_ACCEPT);
	tell();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	TRY(recv(fd, &(char){0}, 1, MSG_DONTWAIT));
	tell();
	await();
}

static void connect_and_be_silent(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	await();
	say_readiness("accepted", fd);
	tell();
}

static void say_queued(int fd)
{
	int queued = -1;
	ioctl(fd, TIOCOUTQ, &queued);
	printf("%d queued\n", queued);
}

// What is sent in one go arrives in one go.
static void corked(void)
{
	int fd = flow();
	SET(fd, TCP_NODELAY, 1);
	SET(fd, TCP_CORK, 1);
	TRY(send(fd, "abc", 3, 0));
	TRY(send(fd, "defg", 4, 0));
	say_queued(fd);
	SAY(fd, TCP_CORK);
	SET(fd, TCP_CORK, 0);
	await();
	TRY(send(fd, "hij", 3, MSG_MORE));
	say_queued(fd);
	TRY(send(fd, "k", 1, 0));
	await();
	SET(fd, TCP_CORK, 1);
	TRY(send(fd, "lm", 2, 0));
	// Overrides what is corked.
	SET(fd, TCP_NODELAY, 1);
	await();
	TRY(send(fd, "last", 4, 0));
	TRY(shutdown(fd, SHUT_WR));
	await();
	close(fd);
}

static void read_in_pieces(void)
{
	int fd = flow();
	char bytes[32];
	for (int i = 0; i < 4; i++) {
		wait_for(fd, POLLIN);
		TRY(recv(fd, bytes, sizeof bytes, 0));
		tell();
	}
	TRY(recv(fd, bytes, sizeof bytes, 0));
}

// A peer that does not read: what does not fit into its window stays within bounds.
static void few_bytes_unsent(void)
{
	int fd = flow(), unsent = -1;
	SET(fd, TCP_NOTSENT_LOWAT, 5000);
	fill_up(fd);
	ioctl(fd, SIOCOUTQNSD, &unsent);
	printf("%s bytes are unsent\n", unsent < 200000 ? "few" : "many");
	say_readiness("full", fd);
	tell();
	wait_for(fd, POLLOUT);
	say_readiness("read", fd);
	TRY(shutdown(fd, SHUT_WR));
	await();
}

static void read_late(void)
{
	int fd = flow();
	static char bytes[1 << 20];
	await();
	while (read(fd, bytes, sizeof bytes) > 0)
		;
	tell();
}

// Nobody pushes it, and after a while it leaves all the same.
static void corked_for_a_while(void)
{
	int fd = flow();
	SET(fd, TCP_CORK, 1);
	TRY(send(fd, "abc", 3, 0));
	await();
	close(fd);
}

static void read_all_of_it(void)
{
	int fd = flow();
	char bytes[32];
	TRY(recv(fd, bytes, sizeof bytes, 0));
	tell();
	TRY(recv(fd, bytes, sizeof bytes, 0));
}

const struct test_case cases[] = {
	{"of_a_fresh_socket", PASSED, of_a_fresh_socket, NULL},
	{"of_a_flow", FLOW, of_a_flow, close_when_told},
	{"are_kept", SERVED, are_kept, say_segments},
	{"own_algorithm", ANYHOW, own_algorithm, say_segments},
	{"own_algorithm_and_another", SERVED, own_algorithm_and_another, say_segments},
	{"are_inherited", SERVED, are_inherited, open_and_say_segments},
	{"deferred", SERVED, deferred, connect_and_send_late},
	{"deferred_for_a_second", SERVED, deferred_for_a_second, connect_and_be_silent},
	{"few_bytes_unsent", FLOW, few_bytes_unsent, read_late},
	{"corked", FLOW, corked, read_in_pieces},
	{"corked_for_a_while", FLOW, corked_for_a_while, read_all_of_it},
	{0},
};
