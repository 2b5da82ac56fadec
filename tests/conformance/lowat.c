// SO_RCVLOWAT: how much recv(2) waits for, and with how much a connection is readable; TCP_INQ: how much is left.
#include "case.h"

static int set_lowat(int fd, int lowat)
{
	int said = -1;
	socklen_t len = sizeof said;
	TRY(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof lowat));
	getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &said, &len);
	printf("SO_RCVLOWAT %d\n", said);
	return said;
}

static int queued(int fd)
{
	int len = 0;
	ioctl(fd, FIONREAD, &len);
	return len;
}

// Waits until so many bytes have come, which poll(2) does not say.
static void have(int fd, int len)
{
	while (queued(fd) < len)
		usleep(500);
}

// Lets the peer send so many bytes.
static void ask(unsigned len) { tell_number(len); }

static void send_as_asked(void)
{
	static char bytes[1 << 16];
	int fd = flow();
	for (unsigned len; (len = await_number()) > 0;)
		while (len > 0)
			len -= write(fd, bytes, len < sizeof bytes ? len : sizeof bytes);
	await();
	shutdown(fd, SHUT_WR);
	await();
}

static void of_polls(void)
{
	char room[64];
	int fd = flow();
	set_lowat(fd, 10);
	ask(9);
	have(fd, 9);
	say_readiness("9 of 10", fd);
	ask(1);
	have(fd, 10);
	say_readiness("10 of 10", fd);
	set_lowat(fd, 11);
	say_readiness("10 of 11", fd);
	set_lowat(fd, 0);
	say_readiness("10 of 1", fd);
	set_lowat(fd, 30);
	TRY(recv(fd, room, 4, 0));
	TRY(recv(fd, room, sizeof room, MSG_DONTWAIT | MSG_PEEK));
	TRY(recv(fd, room, sizeof room, MSG_DONTWAIT));
	TRY(recv(fd, room, sizeof room, MSG_DONTWAIT));
	ask(5);
	have(fd, 5);
	ask(0);
	tell();
	// The end makes it readable, however little there is.
	wait_for(fd, POLLIN);
	say_readiness("5 of 30 and the end", fd);
	TRY(recv(fd, room, sizeof room, 0));
	TRY(recv(fd, room, sizeof room, 0));
	tell();
}

// Edges, and who waits for them: the first bytes are none.
static void of_epoll(void)
{
	char room[64];
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	int fd = flow(), set = epoll_create1(0);
	set_lowat(fd, 10);
	TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	ask(6);
	have(fd, 6);
	TRY(epoll_wait(set, &event, 1, 0));
	ask(6);
	TRY(epoll_wait(set, &event, 1, -1));
	have(fd, 12);
	TRY(epoll_wait(set, &event, 1, 0));
	TRY(recv(fd, room, 8, 0));
	ask(2);
	have(fd, 6);
	TRY(epoll_wait(set, &event, 1, 0));
	// A lower one tells.
	set_lowat(fd, 3);
	TRY(epoll_wait(set, &event, 1, 0));
	TRY(recv(fd, room, sizeof room, 0));
	ask(0);
	tell();
	TRY(epoll_wait(set, &event, 1, -1));
	tell();
}

static void of_blocking_calls(void)
{
	char room[64];
	struct iovec pieces[2] = {{room, 3}, {room + 3, 20}};
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
	struct timeval soon = {.tv_usec = 50000};
	int fd = flow();
	set_lowat(fd, 12);
	ask(12);
	TRY(recv(fd, room, sizeof room, 0));
	// No more is waited for than there is room for.
	ask(5);
	have(fd, 5);
	TRY(recv(fd, room, 5, 0));
	ask(12);
	TRY(recv(fd, room, sizeof room, MSG_PEEK));
	TRY(recvmsg(fd, &message, 0));
	ask(12);
	TRY(read(fd, room, sizeof room));
	ask(12);
	TRY(readv(fd, pieces, 2));
	// Time over.
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
	ask(5);
	have(fd, 5);
	TRY(recv(fd, room, sizeof room, MSG_PEEK));
	TRY(recv(fd, room, sizeof room, 0));
	TRY(recv(fd, room, sizeof room, 0));
	// The end.
	soon.tv_usec = 0;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
	ask(5);
	have(fd, 5);
	ask(0);
	tell();
	TRY(recv(fd, room, sizeof room, 0));
	TRY(recv(fd, room, sizeof room, 0));
	tell();
}

// One that the first window does not hold: the buffer grows. One that SO_RCVBUF does not: it is cut.
static void of_much(void)
{
	static char room[1 << 20];
	int fd = flow(), len = 20000;
	set_lowat(fd, 300000);
	ask(300000);
	say_bits("enough", wait_for(fd, POLLIN));
	// A call that has taken some of them would wait for as many more on Linux, and in vain.
	set_lowat(fd, 1);
	TRY(recv(fd, room, 300000, MSG_WAITALL));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &len, sizeof len);
	set_lowat(fd, 300000);
	set_lowat(fd, -1);
	set_lowat(fd, 1);
	ask(0);
	tell();
	tell();
}

static void say_unread(int fd, size_t len, int flags)
{
	char room[64], control[64];
	struct iovec piece = {room, len};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	if (TRY(recvmsg(fd, &message, flags)) < 0)
		return;
	printf("flags %x, control %zu\n", message.msg_flags, (size_t)message.msg_controllen);
	for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at)) {
		int unread;
		memcpy(&unread, CMSG_DATA(at), sizeof unread);
		printf("level %d type %d length %zu: %d\n", at->cmsg_level, at->cmsg_type, (size_t)at->cmsg_len, unread);
	}
}

// TCP_INQ: what is left is told with what is read.
static void of_what_is_left(void)
{
	int fd = flow(), on = 1, two = 2;
	ask(10);
	have(fd, 10);
	say_unread(fd, 1, 0);
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_INQ, &two, sizeof two));
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_INQ, &on, sizeof on));
	say_unread(fd, 4, 0);
	say_unread(fd, 3, MSG_PEEK);
	say_unread(fd, 64, 0);
	say_unread(fd, 64, MSG_DONTWAIT);
	ask(5);
	have(fd, 5);
	ask(0);
	tell();
	wait_for(fd, POLLRDHUP);
	say_unread(fd, 3, 0);
	say_unread(fd, 2, 0);
	say_unread(fd, 2, 0);
	tell();
}

// A connection has its listener's.
static void of_accepted(void)
{
	int waiting = listener(), said;
	socklen_t len = sizeof said;
	set_lowat(waiting, 6);
	tell();
	int fd = accept(waiting, NULL, NULL);
	getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &said, &len);
	printf("accepted: %d\n", said);
	tell();
	have(fd, 5);
	say_readiness("5 of 6", fd);
	tell();
	have(fd, 6);
	say_readiness("6 of 6", fd);
	tell();
}

static void send_to_the_accepted(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	if (connect(fd, &address.any, address_len))
		give_up("connect");
	await();
	write(fd, "hello", 5) == 5 ? await() : give_up("write");
	write(fd, "!", 1) == 1 ? await() : give_up("write");
}

const struct test_case cases[] = {
	{"of_polls", FLOW, of_polls, send_as_asked},
	{"of_epoll", FLOW, of_epoll, send_as_asked},
	{"of_blocking_calls", FLOW, of_blocking_calls, send_as_asked},
	{"of_much", FLOW, of_much, send_as_asked},
	{"of_what_is_left", FLOW, of_what_is_left, send_as_asked},
	{"of_accepted", SERVED, of_accepted, send_to_the_accepted},
	{0},
};
