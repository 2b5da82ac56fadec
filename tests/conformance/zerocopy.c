// MSG_ZEROCOPY of send(2), SO_ZEROCOPY, and the error queue that says what is done: msg_zerocopy.rst.
#include "case.h"

#include <linux/errqueue.h>

static void say_next(int fd, size_t room_len)
{
	char room[128], bytes[8];
	union address name;
	struct iovec piece = {bytes, sizeof bytes};
	struct msghdr message = {.msg_name = &name, .msg_namelen = sizeof name, .msg_iov = &piece, .msg_iovlen = 1,
				 .msg_control = room, .msg_controllen = room_len};
	if (TRY(recvmsg(fd, &message, MSG_ERRQUEUE)) < 0)
		return;
	printf("flags %x, name %u, control %zu\n", message.msg_flags, message.msg_namelen, (size_t)message.msg_controllen);
	for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at)) {
		struct sock_extended_err error;
		printf("level %d type %d length %zu\n", at->cmsg_level, at->cmsg_type, (size_t)at->cmsg_len);
		if (at->cmsg_len < CMSG_LEN(sizeof error))
			continue;
		memcpy(&error, CMSG_DATA(at), sizeof error);
		printf("errno %u origin %u type %u code %u range %u to %u\n", error.ee_errno, error.ee_origin, error.ee_type, error.ee_code, error.ee_info, error.ee_data);
	}
}

// On the kernel the queue is told when the peer has acknowledged.
static void until_done(int fd)
{
	int left;
	do
		ioctl(fd, TIOCOUTQ, &left);
	while (left > 0);
	// This waits for whoever is at it right now.
	ioctl(fd, FIONREAD, &left);
}

static void send_and_look(int fd)
{
	static char bytes[100000];
	int error = 0;
	socklen_t len = sizeof error;
	TRY(send(fd, bytes, 10, MSG_ZEROCOPY));
	wait_for(fd, 0);
	say_readiness("one is done", fd);
	TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	TRY(error);
	say_next(fd, 128);
	say_next(fd, 128);
	say_readiness("and told", fd);
	for (int i = 0; i < 3; i++) {
		TRY(send(fd, bytes, 10, MSG_ZEROCOPY));
		until_done(fd);
	}
	TRY(send(fd, bytes, 10, 0));
	TRY(send(fd, bytes, 0, MSG_ZEROCOPY));
	until_done(fd);
	wait_for(fd, 0);
	say_next(fd, 128);
	say_next(fd, 128);
	TRY(send(fd, bytes, sizeof bytes, MSG_ZEROCOPY));
	until_done(fd);
	wait_for(fd, 0);
	say_next(fd, 24);
	TRY(send(fd, bytes, 10, MSG_ZEROCOPY));
	wait_for(fd, 0);
	say_next(fd, 0);
	TRY(send(fd, bytes, 10, MSG_ZEROCOPY));
	wait_for(fd, 0);
	TRY(recv(fd, bytes, 10, MSG_ERRQUEUE));
	TRY(recv(fd, bytes, 10, MSG_ERRQUEUE));
}

static void of_a_flow(void)
{
	static char bytes[10];
	int fd = flow(), on = 1, two = 2;
	TRY(recv(fd, bytes, 10, MSG_ERRQUEUE));
	TRY(send(fd, bytes, 10, MSG_ZEROCOPY));
	until_done(fd);
	say_next(fd, 128);
	TRY(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &two, sizeof two));
	TRY(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on));
	send_and_look(fd);
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	int set = epoll_create1(0);
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	TRY(epoll_wait(set, &event, 1, 0));
	TRY(send(fd, bytes, 10, MSG_ZEROCOPY));
	TRY(epoll_wait(set, &event, 1, -1));
	say_bits("told", event.events);
	say_next(fd, 128);
	set_nonblocking(fd);
	TRY(recv(fd, bytes, 10, 0));
	shutdown(fd, SHUT_WR);
	TRY(send(fd, bytes, 10, MSG_ZEROCOPY | MSG_NOSIGNAL));
	say_next(fd, 128);
}

static void swallow(void)
{
	static char bytes[65536];
	int fd = flow();
	while (read(fd, bytes, sizeof bytes) > 0)
		;
}

// A connection has its listener's, and one that is opened what was set before.
static void from_the_start(void)
{
	int waiting = listener(), on = 1;
	TRY(setsockopt(waiting, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on));
	tell();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	send_and_look(fd);
	close(fd);
	fd = stream();
	TRY(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on));
	union address address = peer_at(PORT);
	await();
	TRY(connect(fd, &address.any, address_len));
	send_and_look(fd);
	close(fd);
}

static void swallow_two(void)
{
	static char bytes[65536];
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	if (connect(fd, &address.any, address_len))
		give_up("connect");
	while (read(fd, bytes, sizeof bytes) > 0)
		;
	int waiting = listener();
	tell();
	fd = accept(waiting, NULL, NULL);
	while (read(fd, bytes, sizeof bytes) > 0)
		;
}

const struct test_case cases[] = {
	{"of_a_flow", FLOW, of_a_flow, swallow},
	{"from_the_start", SERVED, from_the_start, swallow_two},
	{0},
};
