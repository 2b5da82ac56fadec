// UDP: bind, connect, and every way to send and to receive (udp(7)).
#include "udp.h"

static unsigned char filled[65536];

static void fill(int byte)
{
	memset(filled, byte, sizeof filled);
}

// From nothing to what takes many fragments.
static const size_t lengths[] = {0, 1, 100, 1452, 1472, 1473, 5000, 65507};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

// The longest datagram over IPv6 is as long.
static void answer_all(void)
{
	int fd = datagrams_at(wildcard_at(PORT));
	struct pollfd look = {.fd = fd, .events = POLLIN};
	TRY(poll(&look, 1, 0));
	tell();
	union address from;
	for (int i = 0; i < LENGTHS; i++) {
		socklen_t len = sizeof from;
		ssize_t received = TRY(recvfrom(fd, filled, sizeof filled, 0, &from.any, &len));
		say_address("from", &from, len);
		TRY(sendto(fd, filled, received, 0, &from.any, len));
	}
}

static void ask_all(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = datagrams();
	for (int i = 0; i < LENGTHS; i++) {
		fill(i + 1);
		TRY(sendto(fd, filled, lengths[i], 0, &address.any, address_len));
		say_received("answer", fd);
	}
}

static void say_ends(const char *label, int fd)
{
	union address name = {0};
	socklen_t len = sizeof name;
	printf("%s\n", label);
	if (TRY(getsockname(fd, &name.any, &len)) == 0)
		say_address("  own", &name, len);
	len = sizeof name;
	memset(&name, 0, sizeof name);
	if (TRY(getpeername(fd, &name.any, &len)) == 0)
		say_address("  peer", &name, len);
}

// The peer answers each datagram with its length, until one of nothing.
static void answer_lengths(void)
{
	int fd = datagrams_at(peer_at(PORT));
	tell();
	union address from;
	for (;;) {
		socklen_t len = sizeof from;
		ssize_t received = TRY(recvfrom(fd, filled, sizeof filled, 0, &from.any, &len));
		unsigned char answer[] = {received, received, received};
		send_to(fd, from, answer, sizeof answer);
		if (received == 0)
			break;
	}
}

static void every_way(void)
{
	unsigned char bytes[100];
	union address address = peer_at(PORT), from;
	struct iovec out[3] = {{"abc", 3}, {"", 0}, {"defgh", 5}}, in[2] = {{bytes, 2}, {bytes + 2, 50}};
	await();
	int fd = datagrams();
	say_ends("new", fd);
	TRY(connect(fd, &address.any, address_len));
	say_ends("connected", fd);
	TRY(send(fd, "a", 1, 0));
	TRY(recv(fd, bytes, sizeof bytes, 0));
	TRY(write(fd, "ab", 2));
	TRY(read(fd, bytes, sizeof bytes));
	TRY(writev(fd, out, 3));
	TRY(readv(fd, in, 2));
	struct msghdr message = {.msg_iov = out, .msg_iovlen = 3};
	TRY(sendmsg(fd, &message, MSG_NOSIGNAL));
	say_message("recvmsg", fd, 50, 512);
	TRY(sendto(fd, "abcd", 4, MSG_CONFIRM, &address.any, address_len));
	TRY(read(fd, bytes, 0));
	socklen_t len = sizeof from;
	memset(&from, 0, sizeof from);
	TRY(recvfrom(fd, bytes, sizeof bytes, 0, &from.any, &len));
	say_address("from", &from, len);
	// What does not fit is lost.
	TRY(send(fd, "abcde", 5, 0));
	TRY(recv(fd, bytes, 1, 0));
	TRY(send(fd, "abcdef", 6, 0));
	TRY(recv(fd, bytes, 2, MSG_PEEK));
	TRY(recv(fd, bytes, 2, MSG_PEEK | MSG_TRUNC));
	TRY(recv(fd, bytes, 2, MSG_TRUNC));
	TRY(send(fd, "abcdefg", 7, 0));
	say_message("cut off", fd, 2, 512);
	TRY(send(fd, "abcdefgh", 8, 0));
	len = 4;
	TRY(recvfrom(fd, bytes, sizeof bytes, MSG_WAITALL, &from.any, &len));
	TRY(len == address_len);
	TRY(send(fd, "", 0, 0));
	TRY(recv(fd, bytes, 0, 0));
	TRY(recv(fd, bytes, sizeof bytes, MSG_DONTWAIT));
}

// A stranger and the peer, by turns.
static void two_senders(void)
{
	int fd = datagrams_at(peer_at(PORT)), stranger = datagrams();
	union address ours = ours_at(PORT);
	unsigned char byte = 0;
	for (int round = 0; round < 4; round++) {
		await();
		byte++;
		send_to(stranger, ours, &byte, 1);
		byte++;
		send_to(fd, ours, &byte, 1);
		tell();
	}
	// What it sends without being connected any more.
	await();
	say_received("at the end", fd);
}

static void next_round(void)
{
	tell();
	await();
}

static void connected_to_one(void)
{
	int fd = datagrams_at(wildcard_at(PORT));
	union address address = peer_at(PORT), nobody = {.any.sa_family = AF_UNSPEC};
	next_round();
	say_received("unconnected", fd);
	say_received("unconnected", fd);
	TRY(send(fd, "x", 1, 0));
	TRY(connect(fd, &address.any, address_len));
	say_ends("connected", fd);
	next_round();
	say_received("connected", fd);
	// Queued before, a stranger's stays.
	TRY(connect(fd, &nobody.any, sizeof nobody.any));
	say_ends("disconnected", fd);
	next_round();
	say_received("disconnected", fd);
	say_received("disconnected", fd);
	TRY(send(fd, "x", 1, 0));
	address = absent_at(PORT);
	TRY(connect(fd, &address.any, address_len));
	address = peer_at(PORT);
	TRY(connect(fd, &address.any, address_len));
	next_round();
	say_received("connected again", fd);
	TRY(recv(fd, filled, 1, MSG_DONTWAIT));
	tell();
	TRY(sendto(fd, "zz", 2, 0, &address.any, address_len));
}

static void errors(void)
{
	union address address = nowhere_at(PORT), ours = ours_at(PORT), peer = peer_at(PORT), other = {0};
	int fd = datagrams();
	TRY(send(fd, "x", 1, 0));
	TRY(write(fd, "x", 1));
	TRY(sendto(fd, "x", 1, 0, &address.any, address_len));
	TRY(sendto(fd, "x", 1, 0, &peer.any, 3));
	TRY(sendto(fd, filled, 65508, 0, &peer.any, address_len));
	peer.v4.sin_port = 0;
	TRY(sendto(fd, "x", 1, 0, &peer.any, address_len));
	other.any.sa_family = AF_UNIX;
	TRY(sendto(fd, "x", 1, 0, &other.any, address_len));
	TRY(connect(fd, &address.any, address_len));
	TRY(listen(fd, 1));
	TRY(accept(fd, NULL, NULL));
	TRY(bind(fd, &address.any, address_len));
	TRY(bind(fd, &ours.any, address_len));
	TRY(bind(fd, &ours.any, address_len));
	int second = datagrams();
	TRY(bind(second, &ours.any, address_len));
	ours = wildcard_at(PORT);
	TRY(bind(second, &ours.any, address_len));
	TRY(recv(fd, filled, 1, MSG_DONTWAIT));
	TRY(recv(fd, filled, 1, MSG_DONTWAIT | MSG_ERRQUEUE));
	TRY(recvfrom(fd, filled, 1, MSG_DONTWAIT, NULL, NULL));
	TRY(close(fd));
	TRY(bind(second, &ours.any, address_len));
	if (family == AF_INET) {
		struct sockaddr_in broadcast = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = inet_addr("10.7.0.255")};
		TRY(sendto(second, "x", 1, 0, (void *)&broadcast, sizeof broadcast));
		int on = 1;
		TRY(setsockopt(second, SOL_SOCKET, SO_BROADCAST, &on, sizeof on));
		TRY(sendto(second, "x", 1, 0, (void *)&broadcast, sizeof broadcast));
	}
}

// Nobody is at the port: the peer's kernel says so.
static void refused(void)
{
	union address address = peer_at(CLOSED_PORT), open = peer_at(PORT);
	int error = -1;
	socklen_t len = sizeof error;
	await();
	int fd = datagrams();
	// Not connected, it does not hear of it.
	TRY(sendto(fd, "x", 1, 0, &address.any, address_len));
	usleep(20000);
	TRY(recv(fd, filled, 1, MSG_DONTWAIT));
	TRY(connect(fd, &address.any, address_len));
	TRY(send(fd, "x", 1, 0));
	TRY(recv(fd, filled, 1, 0));
	TRY(recv(fd, filled, 1, MSG_DONTWAIT));
	TRY(send(fd, "x", 1, 0));
	say_bits("refused", wait_for(fd, POLLIN));
	TRY(send(fd, "x", 1, 0));
	TRY(send(fd, "x", 1, 0));
	say_bits("refused", wait_for(fd, POLLIN));
	TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	TRY(error == ECONNREFUSED);
	TRY(send(fd, "x", 1, 0));
	usleep(20000);
	// An error is said by whichever call comes next.
	TRY(send(fd, "x", 1, 0));
	TRY(recv(fd, filled, 1, MSG_DONTWAIT));
	TRY(connect(fd, &open.any, address_len));
	TRY(send(fd, "x", 1, 0));
	say_received("answer", fd);
	send(fd, "", 0, 0);
	say_received("answer", fd);
}

// With IP_RECVERR one that is not connected hears of it, too, at its next call.
static void refused_and_told(void)
{
	union address address = peer_at(CLOSED_PORT), open = peer_at(PORT);
	int on = 1;
	unsigned char control[512];
	struct iovec piece = {filled, 100};
	await();
	int fd = datagrams_at(ours_at(PORT));
	TRY(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on));
	if (open.any.sa_family == AF_INET6)
		TRY(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on));
	for (int i = 0; i < 3; i++) {
		struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
		TRY(sendto(fd, "abc", 3, 0, &address.any, address_len));
		say_bits("refused", wait_for(fd, POLLERR) & POLLERR);
		TRY(sendto(fd, "abc", 3, 0, &open.any, address_len));
		TRY(recvmsg(fd, &message, MSG_ERRQUEUE));
		TRY(message.msg_flags);
	}
	TRY(sendto(fd, "abc", 3, 0, &open.any, address_len));
	say_received("answer", fd);
	TRY(sendto(fd, "", 0, 0, &open.any, address_len));
	say_received("answer", fd);
}

static void without_waiting(void)
{
	struct timeval little = {.tv_usec = 50000}, got;
	socklen_t len = sizeof got;
	int fd = datagrams_at(ours_at(PORT));
	TRY(recv(fd, filled, 1, MSG_DONTWAIT));
	TRY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &little, sizeof little));
	TRY(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
	TRY(got.tv_sec * 1000000 + got.tv_usec >= 50000);
	TRY(recv(fd, filled, 1, 0));
	tell();
	wait_for(fd, POLLIN);
	TRY(recv(fd, filled, 1, 0));
	set_nonblocking(fd);
	TRY(recv(fd, filled, 1, 0));
	TRY(fcntl(fd, F_GETFL) == (O_RDWR | O_NONBLOCK));
	int waiting = -1;
	tell();
	wait_for(fd, POLLIN);
	TRY(ioctl(fd, FIONREAD, &waiting));
	TRY(waiting);
	tell();
	await();
	// Of the first one, however many there are.
	TRY(ioctl(fd, FIONREAD, &waiting));
	TRY(waiting);
	TRY(recv(fd, filled, sizeof filled, 0));
	TRY(ioctl(fd, FIONREAD, &waiting));
	TRY(waiting);
	TRY(recv(fd, filled, sizeof filled, 0));
	TRY(ioctl(fd, FIONREAD, &waiting));
	TRY(waiting);
	TRY(ioctl(fd, TIOCOUTQ, &waiting));
	TRY(waiting);
	int zero = 0;
	TRY(ioctl(fd, FIONBIO, &zero));
	TRY(fcntl(fd, F_GETFL) == O_RDWR);
	TRY(recv(fd, filled, 1, 0));
}

static void send_some(void)
{
	int fd = datagrams();
	union address address = ours_at(PORT);
	for (int i = 0; i < 3; i++) {
		await();
		send_to(fd, address, filled, 7 * (i + 1));
	}
	tell();
}

// The queue is bounded: some of many are lost, and those that are not come in order.
static void overrun(void)
{
	int fd = datagrams_at(ours_at(PORT)), small = 4096, got = 0, last = -1, count = 0;
	socklen_t len = sizeof got;
	TRY(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
	TRY(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &len));
	TRY(got);
	struct pollfd look = {.fd = fd, .events = POLLIN};
	TRY(poll(&look, 1, 0));
	tell();
	await();
	while (recv(fd, filled, sizeof filled, MSG_DONTWAIT) > 0) {
		if (filled[0] <= last)
			give_up("out of order");
		last = filled[0];
		count++;
	}
	TRY(count > 0 && count < 100);
	tell();
	await();
	say_received("room again", fd);
}

static void send_many(void)
{
	int fd = datagrams();
	await();
	for (int i = 0; i < 200; i++) {
		fill(i);
		send_to(fd, ours_at(PORT), filled, 500);
	}
	tell();
	await();
	send_to(fd, ours_at(PORT), filled, 1);
	tell();
}

const struct test_case cases[] = {
	{"exchange", DATAGRAMS, answer_all, ask_all},
	{"every_way", DATAGRAMS, every_way, answer_lengths},
	{"connected_to_one", DATAGRAMS, connected_to_one, two_senders},
	{"errors", PASSED, errors, NULL},
	{"refused", DATAGRAMS, refused, answer_lengths},
	{"refused_and_told", DATAGRAMS, refused_and_told, answer_lengths},
	{"without_waiting", DATAGRAMS, without_waiting, send_some},
	{"overrun", DATAGRAMS, overrun, send_many},
	{0},
};
