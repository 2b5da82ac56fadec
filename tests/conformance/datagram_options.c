// UDP: options and control messages, several messages a call, several sockets a port, and groups.
#include "udp.h"

static unsigned char bytes[65536];

static int is_v4(void) { return family == AF_INET; }

static void set(int fd, int level, int name, int value)
{
	if (setsockopt(fd, level, name, &value, sizeof value))
		give_up("setsockopt");
}

static int get(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof value;
	if (getsockopt(fd, level, name, &value, &len))
		give_up("getsockopt");
	return value;
}

// Everything that can be said of a datagram.
static void ask_for_control(int fd)
{
	if (is_v4()) {
		set(fd, IPPROTO_IP, IP_PKTINFO, 1);
		set(fd, IPPROTO_IP, IP_RECVTTL, 1);
		set(fd, IPPROTO_IP, IP_RECVTOS, 1);
	} else {
		set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
		set(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
		set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	}
}

static void set_ttl(int fd, int ttl)
{
	set(fd, is_v4() ? IPPROTO_IP : IPPROTO_IPV6, is_v4() ? IP_TTL : IPV6_UNICAST_HOPS, ttl);
}

static void set_tos(int fd, int tos)
{
	set(fd, is_v4() ? IPPROTO_IP : IPPROTO_IPV6, is_v4() ? IP_TOS : IPV6_TCLASS, tos);
}

static void said_of_received(void)
{
	int fd = datagrams_at(wildcard_at(PORT));
	ask_for_control(fd);
	wait_for(fd, POLLOUT);
	tell();
	say_message("defaults", fd, 100, 512);
	say_message("ttl and tos", fd, 100, 512);
	say_message("cut off", fd, 4, 512);
	// Of the control messages, the last one is cut off, then lacks, then the first one is cut off.
	for (int room = 72; room >= 0; room -= 4)
		say_message("little room", fd, 100, room);
	set(fd, is_v4() ? IPPROTO_IP : IPPROTO_IPV6, is_v4() ? IP_PKTINFO : IPV6_RECVPKTINFO, 0);
	say_message("less", fd, 100, 512);
}

static void send_with_ttl(void)
{
	int fd = datagrams();
	await();
	send_to(fd, ours_at(PORT), "12345678", 8);
	set_ttl(fd, 7);
	set_tos(fd, 0x2e << 2 | 1);
	for (int i = 0; i < 22; i++)
		send_to(fd, ours_at(PORT), "12345678", 8);
}

static void sent_as_asked(void)
{
	int fd = datagrams(), on = 1;
	union address peer = peer_at(PORT), ours = ours_at(0);
	await();
	TRY(connect(fd, &peer.any, address_len));
	TRY(send(fd, "x", 1, 0));
	// By now the neighbour is known.
	await();
	set_ttl(fd, 9);
	set_tos(fd, 0x48);
	TRY(send(fd, "x", 1, 0));
	TRY(get(fd, is_v4() ? IPPROTO_IP : IPPROTO_IPV6, is_v4() ? IP_TTL : IPV6_UNICAST_HOPS));
	TRY(get(fd, is_v4() ? IPPROTO_IP : IPPROTO_IPV6, is_v4() ? IP_TOS : IPV6_TCLASS));
	if (is_v4())
		set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
	TRY(send(fd, "x", 1, 0));
	TRY(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
	TRY(setsockopt(fd, SOL_SOCKET, 12345, &on, sizeof on));
	TRY(setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, 1));
	TRY(get(fd, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM);
	TRY(get(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP);
	TRY(get(fd, SOL_SOCKET, SO_DOMAIN) == family);
	TRY(get(fd, SOL_SOCKET, SO_ERROR));
	// The source and the hops of one datagram alone.
	_Alignas(struct cmsghdr) unsigned char control[64] = {0};
	struct iovec piece = {"abc", 3};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *at = CMSG_FIRSTHDR(&message);
	struct in_pktinfo info4 = {.ipi_spec_dst = ours.v4.sin_addr, .ipi_ifindex = if_nametoindex("us0")};
	struct in6_pktinfo info6 = {.ipi6_addr = ours.v6.sin6_addr, .ipi6_ifindex = if_nametoindex("us0")};
	at->cmsg_level = is_v4() ? IPPROTO_IP : IPPROTO_IPV6;
	at->cmsg_type = is_v4() ? IP_PKTINFO : IPV6_PKTINFO;
	at->cmsg_len = CMSG_LEN(is_v4() ? sizeof info4 : sizeof info6);
	memcpy(CMSG_DATA(at), is_v4() ? (void *)&info4 : (void *)&info6, is_v4() ? sizeof info4 : sizeof info6);
	message.msg_controllen = is_v4() ? CMSG_SPACE(sizeof info4) : CMSG_SPACE(sizeof info6);
	TRY(sendmsg(fd, &message, 0));
	int hops = 3;
	at->cmsg_type = is_v4() ? IP_TTL : IPV6_HOPLIMIT;
	at->cmsg_len = CMSG_LEN(sizeof hops);
	memcpy(CMSG_DATA(at), &hops, sizeof hops);
	message.msg_controllen = CMSG_SPACE(sizeof hops);
	TRY(sendmsg(fd, &message, 0));
	at->cmsg_type = 77;
	TRY(sendmsg(fd, &message, 0));
	at->cmsg_len = 1000;
	TRY(sendmsg(fd, &message, 0));
	message.msg_controllen = 3;
	TRY(sendmsg(fd, &message, 0));
	TRY(send(fd, "abcd", 4, MSG_MORE));
	TRY(send(fd, "efgh", 4, 0));
	TRY(send(fd, "x", 1, MSG_DONTROUTE));
}

static void say_control_of_all(void)
{
	int fd = datagrams_at(peer_at(PORT));
	ask_for_control(fd);
	tell();
	for (int i = 0; i < 8; i++) {
		say_message("received", fd, 100, 512);
		if (i == 0)
			tell();
	}
}

// What only the kernel does, it does.
static void for_the_kernel(void)
{
	int on = 1, size = 100;
	union address peer = peer_at(PORT);
	int fd = datagrams_at(wildcard_at(PORT));
	wait_for(fd, POLLOUT);
	tell();
	wait_for(fd, POLLIN);
	// From here on everything is the kernel's, but what has come already.
	TRY(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on));
	say_received("before", fd);
	tell();
	struct iovec piece = {bytes, 100};
	_Alignas(struct cmsghdr) unsigned char control[64];
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	TRY(recvmsg(fd, &message, 0));
	struct cmsghdr *at = CMSG_FIRSTHDR(&message);
	TRY(at && at->cmsg_level == SOL_SOCKET && at->cmsg_type == SO_TIMESTAMP);
	TRY(sendto(fd, "x", 1, 0, &peer.any, address_len));
	fd = datagrams();
	TRY(connect(fd, &peer.any, address_len));
	TRY(send(fd, "x", 1, 0));
	TRY(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size));
	TRY(send(fd, bytes, 250, 0));
	fd = datagrams();
	TRY(setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on));
	TRY(sendto(fd, "x", 1, 0, &peer.any, address_len));
}

static void send_and_count(void)
{
	int fd = datagrams_at(peer_at(PORT)), sender = datagrams();
	await();
	send_to(sender, ours_at(PORT), "a", 1);
	await();
	send_to(sender, ours_at(PORT), "bc", 2);
	for (int i = 0; i < 6; i++)
		TRY(recv(fd, bytes, sizeof bytes, 0));
}

static void say_batch(const char *label, const struct mmsghdr *messages, int count)
{
	printf("%s:", label);
	for (int i = 0; i < count; i++)
		printf(" %u", messages[i].msg_len);
	printf("\n");
}

static void batches(void)
{
	static char room[8][10];
	struct iovec out[4] = {{"a", 1}, {"bc", 2}, {"", 0}, {"defghijklmn", 11}}, in[8];
	struct mmsghdr sent[4] = {0}, received[8] = {0};
	union address peer = peer_at(PORT), from[8] = {0};
	for (int i = 0; i < 4; i++)
		sent[i].msg_hdr = (struct msghdr){.msg_iov = &out[i], .msg_iovlen = 1, .msg_name = &peer, .msg_namelen = address_len};
	for (int i = 0; i < 8; i++) {
		in[i] = (struct iovec){room[i], sizeof room[i]};
		received[i].msg_hdr = (struct msghdr){.msg_iov = &in[i], .msg_iovlen = 1, .msg_name = &from[i], .msg_namelen = sizeof from[i]};
	}
	await();
	int fd = datagrams();
	TRY(recvmmsg(fd, received, 8, MSG_DONTWAIT, NULL));
	TRY(sendmmsg(fd, sent, 4, 0));
	say_batch("sent", sent, 4);
	await();
	TRY(recvmmsg(fd, received, 8, MSG_WAITFORONE, NULL));
	say_batch("received", received, 4);
	say_address("from", &from[0], received[0].msg_hdr.msg_namelen);
	TRY(received[3].msg_hdr.msg_flags == MSG_TRUNC);
	// The third one cannot be sent.
	sent[2].msg_hdr.msg_namelen = 1;
	TRY(sendmmsg(fd, sent, 4, 0));
	TRY(sendmmsg(fd, sent + 2, 1, 0));
	TRY(sendmmsg(fd, sent, 0, 0));
	await();
	struct timespec none = {0}, wrong = {.tv_nsec = -1};
	TRY(recvmmsg(fd, received, 8, 0, &none));
	TRY(none.tv_sec == 0 && none.tv_nsec == 0);
	TRY(recvmmsg(fd, received, 8, 0, &wrong));
	TRY(recvmmsg(fd, received, 8, MSG_DONTWAIT, NULL));
	TRY(recvmmsg(fd, received, 8, MSG_DONTWAIT, NULL));
	TRY(recvmmsg(fd, received, 0, 0, NULL));
}

static void answer_batches(void)
{
	int fd = datagrams_at(peer_at(PORT));
	tell();
	for (int round = 0; round < 2; round++) {
		for (int i = round ? 2 : 4; i > 0; i--) {
			union address from;
			socklen_t len = sizeof from;
			ssize_t received = TRY(recvfrom(fd, bytes, sizeof bytes, 0, &from.any, &len));
			send_to(fd, from, bytes, received);
		}
		tell();
	}
}

static int sharing(int option)
{
	int fd = datagrams(), on = 1;
	union address address = wildcard_at(PORT);
	setsockopt(fd, SOL_SOCKET, option, &on, sizeof on);
	TRY(bind(fd, &address.any, address_len));
	wait_for(fd, POLLOUT);
	return fd;
}

static int drained(int fd)
{
	int count = 0;
	while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) >= 0)
		count++;
	return count;
}

static void several_at_a_port(void)
{
	int first = sharing(SO_REUSEADDR), second = sharing(SO_REUSEADDR);
	int exact = datagrams(), on = 1;
	tell();
	await();
	TRY(drained(first));
	TRY(drained(second));
	set(exact, SOL_SOCKET, SO_REUSEADDR, on);
	union address ours = ours_at(PORT), peer = peer_at(PORT);
	TRY(bind(exact, &ours.any, address_len));
	tell();
	await();
	TRY(drained(second));
	TRY(drained(exact));
	TRY(connect(exact, &peer.any, address_len));
	tell();
	await();
	TRY(drained(first));
	TRY(drained(second));
	TRY(drained(exact));
	close(first);
	close(second);
	close(exact);
	int shares[4];
	for (int i = 0; i < 4; i++)
		shares[i] = sharing(SO_REUSEPORT);
	int other = datagrams();
	ours = wildcard_at(PORT);
	TRY(bind(other, &ours.any, address_len));
	tell();
	await();
	int all = 0, with_some = 0;
	for (int i = 0; i < 4; i++) {
		int count = drained(shares[i]);
		all += count;
		with_some += count > 0;
	}
	TRY(all);
	TRY(with_some > 1);
}

static void send_from_several(void)
{
	int peer = datagrams_at(peer_at(PORT));
	for (int round = 0; round < 4; round++) {
		await();
		for (int i = 0; i < (round < 3 ? 5 : 64); i++) {
			int fd = datagrams();
			send_to(fd, ours_at(PORT), "x", 1);
			close(fd);
		}
		send_to(peer, ours_at(PORT), "x", 1);
		tell();
	}
}

// As iperf3 does for each of its clients: the socket is connected, and another one takes its place.
static void replaced_at_a_port(void)
{
	union address ours = ours_at(PORT), from;
	socklen_t len = sizeof from;
	int fds[3], on = 1;
	for (int i = 0; i < 3; i++) {
		fds[i] = datagrams();
		set(fds[i], SOL_SOCKET, SO_REUSEADDR, on);
		TRY(bind(fds[i], &ours.any, address_len));
		if (i > 0)
			TRY(send(fds[i - 1], "nnnn", 4, 0));
		else
			tell();
		await();
		TRY(recvfrom(fds[i], bytes, sizeof bytes, MSG_DONTWAIT, &from.any, &len));
		reach(fds[i], from);
		if (i > 0)
			TRY(recv(fds[i - 1], bytes, sizeof bytes, MSG_DONTWAIT));
	}
}

static void come_one_by_one(void)
{
	int fd = -1;
	await();
	for (int i = 0; i < 3; i++) {
		if (i > 0)
			say_received("next", fd);
		fd = datagrams();
		send_to(fd, ours_at(PORT), "x", 1);
		tell();
	}
}

static union address group_at(int port)
{
	union address address = wildcard_at(port);
	if (is_v4())
		inet_pton(AF_INET, "239.7.7.7", &address.v4.sin_addr);
	else
		inet_pton(AF_INET6, "ff05::707", &address.v6.sin6_addr);
	return address;
}

static void become_member(int fd)
{
	union address group = group_at(0);
	struct ip_mreqn v4 = {.imr_multiaddr = group.v4.sin_addr, .imr_ifindex = if_nametoindex("us0")};
	struct ipv6_mreq v6 = {.ipv6mr_multiaddr = group.v6.sin6_addr, .ipv6mr_interface = if_nametoindex("us0")};
	if (is_v4())
		TRY(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &v4, sizeof v4));
	else
		TRY(setsockopt(fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &v6, sizeof v6));
}

static void send_to_group(int fd)
{
	union address group = group_at(PORT);
	int index = if_nametoindex("us0");
	struct ip_mreqn v4 = {.imr_ifindex = index};
	if (is_v4())
		setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &v4, sizeof v4);
	else
		setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof index);
	TRY(sendto(fd, "ggggg", 5, 0, &group.any, address_len));
}

// Every member gets what is sent to a group, beside what is sent to it alone.
static void groups(void)
{
	int first = sharing(SO_REUSEADDR), second = sharing(SO_REUSEADDR);
	become_member(first);
	become_member(second);
	tell();
	await();
	say_received("first", first);
	say_received("second", second);
	// In order only where each has come before the next is sent: this one comes another way.
	tell();
	say_received("second", second);
	TRY(drained(first));
	send_to_group(first);
	say_received("own", first);
	say_received("own", second);
	if (is_v4()) {
		// To everybody on the link.
		tell();
		say_received("first", first);
		say_received("second", second);
	}
}

static void send_to_groups(void)
{
	int member = sharing(SO_REUSEADDR), fd = datagrams();
	become_member(member);
	await();
	memset(bytes, 'g', 5);
	union address group = group_at(PORT);
	int index = if_nametoindex("us0"), off = 0;
	struct ip_mreqn v4 = {.imr_ifindex = index};
	if (is_v4()) {
		setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &v4, sizeof v4);
		set(fd, IPPROTO_IP, IP_MULTICAST_LOOP, off);
	} else {
		setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof index);
		set(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, off);
	}
	TRY(sendto(fd, bytes, 5, 0, &group.any, address_len));
	tell();
	await();
	send_to(fd, ours_at(PORT), "z", 1);
	TRY(recv(member, bytes, sizeof bytes, 0));
	if (is_v4()) {
		await();
		struct sockaddr_in everybody = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = inet_addr("10.7.0.255")};
		set(fd, SOL_SOCKET, SO_BROADCAST, 1);
		TRY(sendto(fd, "b", 1, 0, (void *)&everybody, sizeof everybody));
	}
}

// One socket for both versions of IP.
static void dual(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	union address any = {.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)}}, from;
	TRY(bind(fd, &any.any, sizeof any.v6));
	set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	set(fd, IPPROTO_IP, IP_RECVTTL, 1);
	set(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
	wait_for(fd, POLLOUT);
	tell();
	say_message("received", fd, 100, 512);
	socklen_t len = sizeof from;
	TRY(recvfrom(fd, bytes, sizeof bytes, 0, &from.any, &len));
	say_address("from", &from, len);
	TRY(sendto(fd, "answer", 6, 0, &from.any, len));
	TRY(connect(fd, &from.any, len));
	TRY(send(fd, "connected", 9, 0));
	// Only IPv6, it takes no IPv4 and sends none.
	int only = datagrams_at(ours_at(PORT + 3)), on = 1;
	close(only);
	only = socket(AF_INET6, SOCK_DGRAM, 0);
	TRY(setsockopt(only, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
	any.v6.sin6_port = htons(PORT + 3);
	TRY(bind(only, &any.any, sizeof any.v6));
	TRY(sendto(only, "x", 1, 0, &from.any, len));
	tell();
	await();
	TRY(drained(only));
}

static void talk_to_dual(void)
{
	int fd = datagrams();
	await();
	send_to(fd, ours_at(PORT), "abc", 3);
	send_to(fd, ours_at(PORT), "abcd", 4);
	TRY(recv(fd, bytes, sizeof bytes, 0));
	TRY(recv(fd, bytes, sizeof bytes, 0));
	if (!is_v4())
		TRY(recv(fd, bytes, sizeof bytes, 0));
	await();
	send_to(fd, ours_at(PORT + 3), "x", 1);
	tell();
}

const struct test_case cases[] = {
	{"said_of_received", DATAGRAMS, said_of_received, send_with_ttl},
	{"sent_as_asked", DATAGRAMS, sent_as_asked, say_control_of_all},
	{"for_the_kernel", DATAGRAMS, for_the_kernel, send_and_count},
	{"batches", DATAGRAMS, batches, answer_batches},
	{"several_at_a_port", DATAGRAMS, several_at_a_port, send_from_several},
	{"replaced_at_a_port", DATAGRAMS, replaced_at_a_port, come_one_by_one},
	{"groups", DATAGRAMS, groups, send_to_groups},
	{"dual", DATAGRAMS, dual, talk_to_dual},
	{0},
};
