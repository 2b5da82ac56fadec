// MSG_OOB of send(2) and recv(2), SO_OOBINLINE, SIOCATMARK and POLLPRI: urgent bytes, as tcp(7) has them.
#include "case.h"

static void say_at_mark(int fd)
{
	int at_mark = -1, len = -1;
	TRY(ioctl(fd, SIOCATMARK, &at_mark));
	TRY(ioctl(fd, FIONREAD, &len));
	printf("at the mark %d, %d bytes to read\n", at_mark, len);
}

static void say_received(int fd, size_t room, int flags)
{
	char bytes[64] = {0};
	long len = TRY(recv(fd, bytes, room, flags | MSG_DONTWAIT));
	printf("%.*s\n", len > 0 ? (int)len : 0, bytes);
}

// Waits for an urgent byte that the other side has sent.
static void wait_for_urgent(int fd)
{
	await();
	wait_for(fd, POLLPRI);
}

// Waits for so many bytes to read.
static void wait_for_len(int fd, int len)
{
	int now = 0;
	while (now < len) {
		wait_for(fd, POLLIN);
		if (ioctl(fd, FIONREAD, &now) != 0)
			give_up("FIONREAD");
	}
}

static void send_pieces(void)
{
	int fd = flow();
	await();
	TRY(send(fd, "abc", 3, 0));
	TRY(send(fd, "deU", 3, MSG_OOB));
	TRY(send(fd, "fgh", 3, 0));
	tell();
	await();
	TRY(send(fd, "V", 1, MSG_OOB));
	tell();
	await();
	TRY(send(fd, "W", 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL));
	TRY(send(fd, "ijk", 3, 0));
	tell();
	await();
	TRY(shutdown(fd, SHUT_WR));
	tell();
	await();
}

static void out_of_band(void)
{
	char byte = 0;
	int fd = flow();
	TRY(recv(fd, &byte, 1, MSG_OOB));
	tell();
	wait_for_urgent(fd);
	wait_for(fd, POLLIN);
	say_readiness("bytes and an urgent one", fd);
	say_at_mark(fd);
	say_received(fd, 2, 0);
	say_received(fd, 1, MSG_OOB | MSG_PEEK);
	say_received(fd, 64, MSG_PEEK);
	say_received(fd, 64, MSG_WAITALL);
	wait_for(fd, POLLIN);
	say_at_mark(fd);
	say_readiness("at the mark", fd);
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	TRY(recvmsg(fd, &message, MSG_OOB));
	printf("%c %#x\n", byte, message.msg_flags & MSG_OOB);
	say_readiness("it has been read", fd);
	say_received(fd, 1, MSG_OOB);
	say_at_mark(fd);
	say_received(fd, 64, MSG_PEEK);
	say_at_mark(fd);
	say_received(fd, 64, 0);
	say_at_mark(fd);
	tell();
	wait_for_urgent(fd);
	say_readiness("nothing but an urgent byte", fd);
	say_at_mark(fd);
	say_received(fd, 64, 0);
	tell();
	await();
	wait_for(fd, POLLIN);
	say_at_mark(fd);
	say_received(fd, 1, MSG_OOB);
	say_received(fd, 64, 0);
	say_readiness("all has been read", fd);
	tell();
	await();
	wait_for(fd, POLLRDHUP);
	say_received(fd, 1, MSG_OOB);
	say_received(fd, 64, 0);
	tell();
}

static void in_line(void)
{
	int fd = flow(), on = 1, now = -1;
	socklen_t len = sizeof now;
	TRY(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
	TRY(getsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &now, &len));
	TRY(now);
	tell();
	wait_for_urgent(fd);
	wait_for(fd, POLLIN);
	say_readiness("bytes and an urgent one", fd);
	say_at_mark(fd);
	say_received(fd, 1, MSG_OOB);
	say_received(fd, 64, 0);
	wait_for_len(fd, 4);
	say_at_mark(fd);
	say_received(fd, 64, 0);
	say_at_mark(fd);
	say_readiness("past it", fd);
	tell();
	wait_for_urgent(fd);
	say_at_mark(fd);
	say_received(fd, 64, 0);
	tell();
	await();
	wait_for_len(fd, 4);
	say_received(fd, 64, 0);
	tell();
	await();
	wait_for(fd, POLLRDHUP);
	say_received(fd, 64, 0);
	tell();
}

static void send_one(void)
{
	int fd = flow();
	await();
	TRY(send(fd, "abX", 3, MSG_OOB));
	tell();
	await();
}

static void found_by_select_and_epoll(void)
{
	int fd = flow();
	int set = TRY_FD(epoll_create1(0));
	struct epoll_event event = {.events = EPOLLPRI | EPOLLET};
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	tell();
	await();
	TRY(epoll_wait(set, &event, 1, -1));
	say_bits("epoll", event.events);
	TRY(epoll_wait(set, &event, 1, 0));
	fd_set exceptional;
	FD_ZERO(&exceptional);
	FD_SET(fd, &exceptional);
	TRY(select(fd + 1, NULL, NULL, &exceptional, NULL));
	TRY(FD_ISSET(fd, &exceptional));
	say_received(fd, 1, MSG_OOB);
	say_readiness("read", fd);
	tell();
}

const struct test_case cases[] = {
	{"out_of_band", FLOW, out_of_band, send_pieces},
	{"out_of_band_sent", FLOW, send_pieces, out_of_band},
	{"in_line", FLOW, in_line, send_pieces},
	{"in_line_sent", FLOW, send_pieces, in_line},
	{"found_by_select_and_epoll", FLOW, found_by_select_and_epoll, send_one},
	{0},
};
