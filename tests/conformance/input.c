// Bad input: memory that is not there, absurd lengths, descriptors of all kinds, truncated addresses, many buffers.
#include "case.h"

#include <limits.h>
#include <sys/mman.h>
#include <sys/resource.h>

// The sanity checks of the compiler are not what is tested.
static void *volatile hidden;
#define HIDE(pointer) (hidden = (void *)(pointer), hidden)

static char *no_page, *constant_page, *half_page; // the last is followed by one without access
static size_t page;

static char *map(size_t pages, int protection)
{
	char *at = mmap(NULL, pages * page, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		give_up("mmap");
	return at;
}

static void map_all(void)
{
	page = sysconf(_SC_PAGESIZE);
	no_page = map(1, PROT_NONE);
	constant_page = map(1, PROT_READ);
	half_page = map(2, PROT_READ | PROT_WRITE);
	if (mprotect(half_page + page, page, PROT_NONE))
		give_up("mprotect");
}

// Places where nothing can be received, and those where there is nothing to send.
#define BAD 7
static void *bad(int kind)
{
	switch (kind) {
	case 0: return HIDE(NULL);
	case 1: return HIDE(8);
	case 2: return HIDE(no_page);
	case 3: return HIDE(1L << 40); // which nobody has mapped
	case 4: return HIDE(0x800000000000);
	case 5: return HIDE(-4096L);
	default: return HIDE(half_page + page - 2); // for more than two bytes
	}
}

// What is not received stays.
static void receive_nowhere(void)
{
	char bytes[16];
	int fd = flow();
	map_all();
	set_nonblocking(fd);
	for (int kind = 0; kind < BAD; kind++)
		TRY(recv(fd, bad(kind), 4, 0));
	tell();
	wait_for(fd, POLLIN);
	for (int kind = 0; kind < BAD; kind++) {
		void *at = bad(kind);
		struct iovec parts[2] = {{at, 4}, {bytes, 4}};
		struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
		printf("%d\n", kind);
		TRY(recv(fd, at, 4, 0));
		TRY(read(fd, at, 4));
		TRY(recv(fd, at, 4, MSG_PEEK));
		TRY(recvfrom(fd, at, 4, 0, NULL, NULL));
		TRY(readv(fd, parts, 2));
		TRY(recvmsg(fd, &message, 0));
		TRY(recvmsg(fd, at, 0));
		TRY(readv(fd, at, 1));
	}
	TRY(recv(fd, HIDE(constant_page), 4, 0));
	TRY(read(fd, HIDE(report_fd), 4));
	TRY(recv(fd, bad(0), 0, 0));
	TRY(read(fd, bad(4), 0));
	TRY(recv(fd, bad(2), 2, MSG_TRUNC));
	TRY(recv(fd, half_page + page - 2, 2, 0));
	TRY(recv(fd, bytes, 16, 0));
	printf("%.2s %.4s\n", half_page + page - 2, bytes);
}

static void send_eight(void)
{
	int fd = flow();
	await();
	TRY(send(fd, "abcdefgh", 8, 0));
	TRY(read_to_end(fd));
}

static void send_nothing(void)
{
	char bytes[16] = "abcdefgh";
	int fd = flow();
	map_all();
	memset(half_page, 'x', page);
	for (int kind = 0; kind < BAD; kind++) {
		void *at = bad(kind);
		struct iovec parts[2] = {{bytes, 4}, {at, 4}};
		struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
		printf("%d\n", kind);
		TRY(send(fd, at, 4, 0));
		TRY(write(fd, at, 4));
		TRY(sendto(fd, at, 4, 0, NULL, 0));
		TRY(writev(fd, parts, 2));
		TRY(sendmsg(fd, &message, 0));
		TRY(sendmsg(fd, at, 0));
		TRY(writev(fd, at, 1));
	}
	TRY(send(fd, bad(0), 0, 0));
	TRY(write(fd, bad(4), 0));
	TRY(send(fd, HIDE(constant_page), 4, 0));
	TRY(send(fd, half_page + page - 2, 2, 0));
	TRY(shutdown(fd, SHUT_WR));
	// What is over is said before what is missing.
	TRY(send(fd, bad(2), 4, MSG_NOSIGNAL));
	TRY(send(fd, bad(4), 4, MSG_NOSIGNAL));
	TRY(read_to_end(fd));
}

static void take_six(void)
{
	char bytes[16] = {0};
	int fd = flow();
	TRY(recv(fd, bytes, 6, MSG_WAITALL));
	printf("%d %s\n", bytes[0], bytes + 4);
	TRY(recv(fd, bytes, 6, MSG_WAITALL));
	TRY(close(fd));
}

// A call that moves some bytes before it finds that there is no room for more says how many.
static void short_counts(void)
{
	int fd = flow();
	map_all();
	tell();
	wait_for(fd, POLLIN);
	TRY(recv(fd, half_page + page - 4, 16, MSG_WAITALL));
	printf("%.4s\n", half_page + page - 4);
	TRY(recv(fd, half_page, 16, 0));
	printf("%.12s\n", half_page);
}

static void send_four_then_twelve(void)
{
	int fd = flow();
	await();
	TRY(send(fd, "abcd", 4, 0));
	usleep(20000);
	TRY(send(fd, "efghijklmnop", 12, 0));
	TRY(read_to_end(fd));
}

static void absurd_lengths(void)
{
	// Not on the stack, which may lie within the last two gigabytes of the address space.
	static char bytes[16];
	int fd = flow();
	volatile size_t most = SIZE_MAX, half = SSIZE_MAX, much = 1UL << 40, two = 1UL << 31;
	set_nonblocking(fd);
	for (int step = 0; step < 2; step++) {
		TRY(read(fd, HIDE(bytes), most));
		TRY(read(fd, HIDE(bytes), half));
		TRY(recv(fd, HIDE(bytes), most, MSG_PEEK));
		TRY(recv(fd, HIDE(bytes), half, MSG_PEEK));
		TRY(read(fd, HIDE(bytes), 0));
		TRY(recv(fd, HIDE(bytes), much, MSG_PEEK));
		TRY(recv(fd, HIDE(bytes), two, MSG_PEEK));
		tell();
		wait_for(fd, POLLIN);
	}
	TRY(read(fd, HIDE(bytes), much));
	TRY(write(fd, HIDE(bytes), most));
	TRY(write(fd, HIDE(bytes), half));
	TRY(recv(fd, HIDE(bytes), most, 0));
}

static void send_eight_twice(void)
{
	int fd = flow();
	await();
	TRY(send(fd, "abcdefgh", 8, 0));
	await();
	TRY(read_to_end(fd));
}

static void many_buffers(void)
{
	static char bytes[2 * IOV_MAX];
	static struct iovec parts[IOV_MAX + 1];
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = IOV_MAX};
	int fd = flow();
	for (int i = 0; i <= IOV_MAX; i++)
		parts[i] = (struct iovec){bytes + 2 * i, i == IOV_MAX ? 0 : 2};
	memset(bytes, 'x', sizeof bytes);
	TRY(writev(fd, parts, IOV_MAX));
	TRY(sendmsg(fd, &message, 0));
	TRY(writev(fd, parts, IOV_MAX + 1));
	TRY(readv(fd, parts, IOV_MAX + 1));
	tell();
	TRY(recvmsg(fd, &message, MSG_WAITALL));
	TRY(memcmp(bytes, bytes + 1, sizeof bytes - 1));
	message.msg_iovlen = IOV_MAX + 1;
	TRY(sendmsg(fd, &message, 0));
	TRY(recvmsg(fd, &message, 0));
	message.msg_iovlen = SIZE_MAX;
	TRY(sendmsg(fd, &message, 0));
	parts[1].iov_len = SIZE_MAX;
	TRY(writev(fd, parts, 2));
	TRY(readv(fd, parts, 2));
	message.msg_iovlen = 2;
	TRY(sendmsg(fd, &message, 0));
	parts[1].iov_len = 1UL << 47;
	TRY(writev(fd, parts, 2));
	TRY(readv(fd, parts, 2));
}

static void echo_2048(void)
{
	char bytes[4096];
	int fd = flow();
	TRY(recv(fd, bytes, 4096, MSG_WAITALL));
	await();
	TRY(send(fd, bytes, 2048, 0));
	TRY(read_to_end(fd));
}

// Where names, options, messages and events cannot be answered, or are not there to be read.
static void arguments_nowhere(void)
{
	union address name;
	socklen_t len;
	int value = 1, fd = flow(), set = epoll_create1(0), waiting = listener();
	static struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};
	volatile int most = INT_MAX;
	map_all();
	set_nonblocking(waiting);
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
	for (int kind = 0; kind < BAD; kind++) {
		void *at = bad(kind);
		printf("%d\n", kind);
		len = sizeof name;
		TRY(getsockname(fd, at, &len));
		TRY(getsockname(fd, &name.any, at));
		TRY(getpeername(fd, at, &len));
		TRY(getpeername(fd, &name.any, at));
		len = sizeof value;
		TRY(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, at, &len));
		TRY(len);
		TRY(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, at));
		TRY(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, at, 4));
		TRY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, at, 16));
		TRY(setsockopt(fd, SOL_SOCKET, SO_MARK, at, 4));
		TRY(ioctl(fd, FIONREAD, at));
		TRY(ioctl(fd, FIONBIO, at));
		TRY(bind(fd, at, address_len));
		TRY(connect(fd, at, address_len));
		TRY(accept(waiting, at, &len));
		TRY(accept(waiting, &name.any, at));
		TRY(epoll_ctl(set, EPOLL_CTL_MOD, fd, at));
		TRY(epoll_ctl(set, EPOLL_CTL_ADD, waiting, at));
		TRY(epoll_ctl(set, 99, fd, at));
		TRY(epoll_wait(set, at, 1, 0));
		TRY(epoll_pwait2(set, &event, 1, at, NULL) == (kind == 0 ? 1 : -1));
		TRY(poll(at, 1, 0));
		TRY(select(fd + 1, at, NULL, NULL, &(struct timeval){0}) == (kind == 0 ? 0 : -1));
		TRY(sendfile(fd, fd, kind == 0 ? HIDE(8) : at, 4));
	}
	TRY(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len));
	TRY(value);
	TRY(epoll_wait(set, HIDE(&event), most, 0));
	TRY(epoll_wait(set, HIDE(&event), most / 12, 0));
	TRY(epoll_ctl(set, EPOLL_CTL_DEL, fd, bad(5)));
	tell();
}

static void close_when_told(void)
{
	int fd = flow();
	await();
	TRY(close(fd));
}

// Addresses of every length and of families that are not the socket's.
static void truncated_addresses(void)
{
	union address address = peer_at(PORT), name;
	socklen_t lens[] = {0, 1, 2, 8, 15, 16, 20, 23, 24, 27, 28, 64, 128};
	for (unsigned i = 0; i < sizeof lens / sizeof *lens; i++) {
		printf("%u\n", lens[i]);
		if (lens[i] < (family == AF_INET ? 16 : 24)) {
			int fd = stream();
			TRY(connect(fd, &address.any, lens[i]));
			close(fd);
		}
		int fd = stream();
		union address own = ours_at(0);
		TRY(bind(fd, &own.any, lens[i]));
		close(fd);
		socklen_t len = lens[i];
		memset(&name, 0, sizeof name);
		fd = stream();
		own = ours_at(PORT);
		bind(fd, &own.any, address_len);
		TRY(getsockname(fd, &name.any, &len));
		TRY(len);
		TRY(name.room.ss_family);
		close(fd);
	}
	for (int wrong = 0; wrong < 50; wrong += 7) {
		int fd = stream();
		union address own = ours_at(0);
		own.any.sa_family = wrong;
		address.any.sa_family = wrong;
		printf("family %d\n", wrong);
		TRY(bind(fd, &own.any, sizeof own));
		if (wrong)
			TRY(connect(fd, &address.any, sizeof address));
		TRY(connect(fd, &address.any, -1));
		close(fd);
	}
}

static void wrong_descriptors(void)
{
	char byte = 0;
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	union address address = peer_at(PORT);
	socklen_t len = sizeof address;
	int value, ends[2], set = epoll_create1(0), shut = dup(set);
	if (pipe(ends))
		give_up("pipe");
	close(shut);
	int wrong[] = {-1, INT_MIN, INT_MAX, shut, ends[0], ends[1], set, STDOUT_FILENO};
	for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		int fd = wrong[i];
		printf("%u\n", i);
		TRY(bind(fd, &address.any, address_len));
		TRY(listen(fd, 1));
		TRY_FD(accept(fd, NULL, NULL));
		TRY(connect(fd, &address.any, address_len));
		TRY(shutdown(fd, SHUT_RD));
		TRY(getsockname(fd, &address.any, &len));
		TRY(getpeername(fd, &address.any, &len));
		TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len));
		TRY(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 4));
		TRY(recvmsg(fd, &message, MSG_DONTWAIT));
		TRY(sendmsg(fd, &message, MSG_DONTWAIT));
		if (fd < 0 || fd == shut || fd == INT_MAX) {
			TRY(close(fd));
			TRY_FD(dup(fd));
			TRY_FD(dup2(fd, 100));
			TRY(fcntl(fd, F_GETFL));
			TRY(fcntl(fd, F_GETFD));
			TRY(ioctl(fd, FIONREAD, &value));
			TRY(sendfile(fd, ends[0], NULL, 1));
			TRY(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
			TRY(epoll_wait(fd, &(struct epoll_event){0}, 1, 0));
		}
	}
}

// No descriptor is left: accept says so, and the connection waits until there is one.
static void no_descriptors(void)
{
	int waiting = listener(), highest = dup(waiting);
	struct rlimit limit, none;
	close(highest);
	set_nonblocking(waiting);
	tell();
	wait_for(waiting, POLLIN);
	if (getrlimit(RLIMIT_NOFILE, &limit))
		give_up("getrlimit");
	none = (struct rlimit){highest, limit.rlim_max};
	TRY(setrlimit(RLIMIT_NOFILE, &none));
	TRY_FD(socket(family, SOCK_STREAM, 0));
	TRY_FD(dup(waiting));
	TRY_FD(accept(waiting, NULL, NULL));
	TRY_FD(accept4(waiting, NULL, NULL, SOCK_NONBLOCK));
	TRY_FD(epoll_create1(0));
	TRY(setrlimit(RLIMIT_NOFILE, &limit));
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	TRY(close(fd));
	TRY_FD(socket(family, SOCK_STREAM, 0));
	TRY_FD(accept(waiting, NULL, NULL));
}

static void connect_and_read(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	TRY(read_to_end(fd));
}

const struct test_case cases[] = {
	{"receive_nowhere", FLOW, receive_nowhere, send_eight},
	{"send_nothing", FLOW, send_nothing, take_six},
	{"short_counts", FLOW, short_counts, send_four_then_twelve},
	{"absurd_lengths", FLOW, absurd_lengths, send_eight_twice},
	{"many_buffers", FLOW, many_buffers, echo_2048},
	{"arguments_nowhere", FLOW, arguments_nowhere, close_when_told},
	{"truncated_addresses", PASSED, truncated_addresses, NULL},
	{"wrong_descriptors", PASSED, wrong_descriptors, NULL},
	{"no_descriptors", SERVED, no_descriptors, connect_and_read},
	{0},
};
