// read(2), write(2), readv(2), writev(2), send(2), recv(2), sendmsg(2), recvmsg(2) and their flags.
#include "case.h"

#include <limits.h>

// Sends some bytes at once, steps, and waits for the end.
static void send_hello(void)
{
	int fd = flow();
	TRY(send(fd, "hello, world", 12, 0));
	tell();
	await();
}

static void every_call(void)
{
	char a[8] = {0}, b[8] = {0};
	struct iovec parts[2] = {{a, 3}, {b, 8}};
	union address from;
	socklen_t from_len = sizeof from;
	int fd = flow();
	await();
	wait_for(fd, POLLIN);
	TRY(read(fd, a, 2));
	TRY(recv(fd, a, 2, 0));
	TRY(readv(fd, parts, 2));
	TRY(memcmp(a, "o, ", 3) | memcmp(b, "world", 5));
	TRY(write(fd, "1", 1));
	TRY(send(fd, "22", 2, 0));
	TRY(sendto(fd, "333", 3, 0, NULL, 0));
	TRY(writev(fd, (struct iovec[]){{"4", 1}, {"", 0}, {"444", 3}}, 3));
	struct msghdr message = {.msg_iov = (struct iovec[]){{"55", 2}, {"555", 3}}, .msg_iovlen = 2};
	TRY(sendmsg(fd, &message, MSG_MORE));
	TRY(send(fd, "666666", 6, MSG_NOSIGNAL));
	tell();
	await();
	wait_for(fd, POLLIN);
	memset(&from, 0x55, sizeof from);
	TRY(recvfrom(fd, a, 1, 0, &from.any, &from_len));
	TRY(from_len);
	char control[64];
	message = (struct msghdr){.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = parts, .msg_iovlen = 2,
				  .msg_control = control, .msg_controllen = sizeof control, .msg_flags = -1};
	TRY(recvmsg(fd, &message, 0));
	TRY(message.msg_namelen);
	TRY(message.msg_controllen);
	TRY(message.msg_flags);
	TRY(recvfrom(fd, a, 8, 0, NULL, NULL));
	TRY(read(fd, a, 8));
}

static void answer_every_call(void)
{
	char bytes[32] = {0};
	int fd = flow();
	TRY(send(fd, "hello, world", 12, 0));
	tell();
	await();
	TRY(recv(fd, bytes, 21, MSG_WAITALL));
	printf("%s\n", bytes);
	TRY(send(fd, "answer", 6, 0));
	TRY(shutdown(fd, SHUT_WR));
	tell();
	TRY(read(fd, bytes, 1));
}

static void peek(void)
{
	char bytes[16];
	int fd = flow();
	await();
	wait_for(fd, POLLIN);
	TRY(recv(fd, bytes, 5, MSG_PEEK));
	TRY(recv(fd, bytes, 16, MSG_PEEK | MSG_DONTWAIT));
	TRY(recv(fd, bytes, 5, 0));
	TRY(memcmp(bytes, "hello", 5));
	TRY(recv(fd, bytes, 16, MSG_PEEK));
	TRY(memcmp(bytes, ", world", 7));
	struct iovec parts[2] = {{bytes, 1}, {bytes + 8, 2}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	TRY(recvmsg(fd, &message, MSG_PEEK));
	TRY(recv(fd, bytes, 16, 0));
	TRY(recv(fd, bytes, 16, MSG_PEEK | MSG_DONTWAIT));
	tell();
}

static void discard(void)
{
	char bytes[16];
	int fd = flow();
	await();
	wait_for(fd, POLLIN);
	TRY(recv(fd, bytes, 5, MSG_TRUNC));
	TRY(recv(fd, NULL, 2, MSG_TRUNC));
	TRY(recv(fd, bytes, 16, 0));
	TRY(memcmp(bytes, "world", 5));
	tell();
}

static void nothing_to_read(void)
{
	char bytes[16];
	struct iovec part = {bytes, sizeof bytes};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	struct timeval timeout = {.tv_usec = 20000};
	int fd = flow();
	TRY(recv(fd, bytes, 1, MSG_DONTWAIT));
	TRY(recv(fd, bytes, 0, MSG_DONTWAIT));
	TRY(recvmsg(fd, &message, MSG_DONTWAIT));
	TRY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
	TRY(recv(fd, bytes, 1, 0));
	TRY(read(fd, bytes, 1));
	TRY(recv(fd, bytes, 4, MSG_WAITALL));
	set_nonblocking(fd);
	TRY(read(fd, bytes, 1));
	TRY(readv(fd, &part, 1));
	TRY(recv(fd, bytes, 1, MSG_PEEK));
	TRY(read(fd, bytes, 0));
	TRY(write(fd, bytes, 0));
	TRY(send(fd, bytes, 0, 0));
	tell();
}

static void stay(void)
{
	int fd = flow();
	await();
	TRY(close(fd));
}

static void wait_for_all(void)
{
	char bytes[32];
	struct timeval timeout = {.tv_usec = 50000};
	int fd = flow();
	TRY(recv(fd, bytes, 10, MSG_WAITALL));
	tell();
	await();
	TRY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
	TRY(recv(fd, bytes, 10, MSG_WAITALL));
	tell();
	TRY(recv(fd, bytes, 10, MSG_WAITALL));
	TRY(recv(fd, bytes, 10, MSG_WAITALL));
}

static void send_in_pieces(void)
{
	int on = 1, fd = flow();
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	for (int i = 0; i < 5; i++) {
		send(fd, "ab", 2, 0);
		usleep(3000);
	}
	await();
	send(fd, "cdef", 4, 0);
	tell();
	await();
	send(fd, "ghi", 3, 0);
	close(fd);
}

// The send queue fills while the peer does not read, and becomes writable again when it does.
static void fill(void)
{
	char bytes[4096] = {0};
	struct timeval timeout = {.tv_usec = 20000};
	int fd = flow();
	uint64_t sent = fill_up(fd);
	TRY(send(fd, bytes, 1, 0));
	TRY(write(fd, bytes, 1));
	TRY(send(fd, bytes, 1, MSG_DONTWAIT));
	TRY(fcntl(fd, F_SETFL, O_RDWR));
	TRY(send(fd, bytes, 1, MSG_DONTWAIT));
	TRY(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout));
	TRY(send(fd, bytes, 1, 0));
	say_readiness("full", fd);
	tell();
	say_bits("drained", wait_for(fd, POLLOUT));
	timeout.tv_usec = 0;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
	for (int i = 0; i < 500; i++)
		sent += send(fd, bytes, sizeof bytes, 0);
	TRY(shutdown(fd, SHUT_WR));
	TRY(sent == await_number());
}

static void drain(void)
{
	char bytes[65536];
	int fd = flow();
	uint64_t received = 0;
	await();
	for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0;)
		received += n;
	tell_number(received);
}

static void much_both_ways(void)
{
	int fd = flow();
	write_pattern(fd, 3000000);
	read_exactly(fd, 3000000);
	TRY(shutdown(fd, SHUT_WR));
	TRY(read_to_end(fd));
}

static void echo_much(void)
{
	int fd = flow();
	read_exactly(fd, 3000000);
	write_pattern(fd, 3000000);
	TRY(read_to_end(fd));
}

static void unconnected(void)
{
	char byte = 0;
	struct iovec part = {&byte, 1};
	union address address = peer_at(PORT);
	count_signal(SIGPIPE, 0);
	int fd = stream();
	TRY(recv(fd, &byte, 1, 0));
	TRY(read(fd, &byte, 1));
	TRY(readv(fd, &part, 1));
	TRY(send(fd, &byte, 1, 0));
	TRY(signals_seen);
	TRY(send(fd, &byte, 1, MSG_NOSIGNAL));
	TRY(write(fd, &byte, 1));
	TRY(signals_seen);
	TRY(sendto(fd, &byte, 1, MSG_NOSIGNAL, &address.any, address_len));
	int waiting = listener();
	TRY(recv(waiting, &byte, 1, 0));
	TRY(send(waiting, &byte, 1, MSG_NOSIGNAL));
}

static void wrong_arguments(void)
{
	char byte = 0;
	struct iovec part = {&byte, 1};
	struct iovec too_long[2] = {{&byte, SSIZE_MAX}, {&byte, SSIZE_MAX}};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	int fd = flow();
	volatile int minus_one = -1; // The compiler would refuse a constant.
	TRY(readv(fd, &part, minus_one));
	TRY(writev(fd, &part, minus_one));
	TRY(readv(fd, &part, 0));
	TRY(writev(fd, &part, 0));
	TRY(writev(fd, too_long, 2));
	message.msg_iovlen = IOV_MAX + 1;
	TRY(sendmsg(fd, &message, 0));
	TRY(recvmsg(fd, &message, MSG_DONTWAIT));
	TRY(recv(fd, &byte, 1, MSG_OOB));
	TRY(recv(fd, &byte, 1, MSG_ERRQUEUE | MSG_DONTWAIT));
	TRY(lseek(fd, 0, SEEK_CUR));
	TRY(pread(fd, &byte, 1, 0));
	TRY(pwrite(fd, &byte, 1, 0));
	TRY(recv(-1, &byte, 1, 0));
	TRY(send(-1, &byte, 1, 0));
	TRY(recv(STDOUT_FILENO, &byte, 1, 0));
	TRY(send(STDOUT_FILENO, &byte, 1, 0));
	TRY(close(fd));
	TRY(read(fd, &byte, 1));
	TRY(write(fd, &byte, 1));
	TRY(recvmsg(fd, &message, 0));
	tell();
}

// At a position that a socket has not, and at the present one.
static void positioned(void)
{
	char bytes[16] = "12345678";
	struct iovec parts[2] = {{bytes, 2}, {bytes + 2, 3}};
	int fd = flow();
	TRY(preadv(fd, parts, 2, 0));
	TRY(pwritev(fd, parts, 2, 0));
	TRY(preadv2(fd, parts, 2, 0, 0));
	TRY(pwritev2(fd, parts, 2, 7, 0));
	TRY(preadv2(fd, parts, 2, -1, RWF_NOWAIT));
	tell();
	TRY(preadv2(fd, parts, 2, -1, 0));
	printf("%.5s\n", bytes);
	TRY(pwritev2(fd, parts, 2, -1, 0));
	TRY(preadv2(fd, parts, 0, -1, 0));
	TRY(recvmsg(fd, &(struct msghdr){.msg_iov = parts, .msg_iovlen = 2}, MSG_PEEK | MSG_TRUNC | MSG_WAITALL));
	TRY(recv(fd, bytes, sizeof bytes, 0));
}

static void send_and_take_five(void)
{
	char bytes[5];
	int fd = flow();
	await();
	TRY(send(fd, "hello", 5, 0));
	TRY(recv(fd, bytes, 5, MSG_WAITALL));
	TRY(send(fd, "world", 5, 0));
	TRY(read_to_end(fd));
}

// A buffer whose size the compiler knows, and a length that it does not: __read_chk, __recv_chk, __recvfrom_chk.
static void fortified(void)
{
	char bytes[12];
	volatile size_t len = 4;
	int fd = flow();
	await();
	wait_for(fd, POLLIN);
	TRY(read(fd, bytes, len));
	TRY(recv(fd, bytes, len, 0));
	TRY(recvfrom(fd, bytes, len, 0, NULL, NULL));
	TRY(memcmp(bytes, "orld", 4));
	TRY(recv(fd, bytes, len, MSG_DONTWAIT));
	tell();
}

const struct test_case cases[] = {
	{"every_call", FLOW, every_call, answer_every_call},
	{"peek", FLOW, peek, send_hello},
	{"discard", FLOW, discard, send_hello},
	{"nothing_to_read", FLOW, nothing_to_read, stay},
	{"wait_for_all", FLOW, wait_for_all, send_in_pieces},
	{"fill", FLOW, fill, drain},
	{"much_both_ways", FLOW, much_both_ways, echo_much},
	{"unconnected", PASSED, unconnected, NULL},
	{"wrong_arguments", FLOW, wrong_arguments, stay},
	{"fortified", FLOW, fortified, send_hello},
	{"positioned", FLOW, positioned, send_and_take_five},
	{0},
};
