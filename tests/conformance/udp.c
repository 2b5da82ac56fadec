// The frame of the conformance programs: UDP sockets.
#include "udp.h"

int datagrams(void)
{
	int fd = socket(family, SOCK_DGRAM, 0);
	if (fd < 0)
		give_up("socket");
	return fd;
}

int datagrams_at(union address address)
{
	int fd = datagrams();
	if (bind(fd, &address.any, address_len))
		give_up("bind");
	return fd;
}

void reach(int fd, union address address)
{
	if (connect(fd, &address.any, address_len))
		give_up("connect");
}

void send_to(int fd, union address address, const void *bytes, size_t len)
{
	if (sendto(fd, bytes, len, 0, &address.any, address_len) != (ssize_t)len)
		give_up("sendto");
}

void say_received(const char *label, int fd)
{
	static unsigned char bytes[65536];
	union address from = {0};
	socklen_t len = sizeof from;
	ssize_t received = recvfrom(fd, bytes, sizeof bytes, 0, &from.any, &len);
	printf("%s: %zd bytes", label, received);
	if (received < 0)
		printf(" %s\n", strerrorname_np(errno));
	if (received == 0)
		printf("\n");
	if (received > 0)
		printf(" of %02x\n", bytes[0]);
	for (ssize_t i = 1; i < received; i++)
		if (bytes[i] != bytes[0])
			give_up("a byte differs");
	if (received >= 0)
		say_address("  from", &from, len);
}

// The number of an interface differs from run to run.
static int is_interface(unsigned index)
{
	char name[IF_NAMESIZE];
	return if_indextoname(index, name) && !strcmp(name, "us0");
}

static void say_control(const struct cmsghdr *control)
{
	const void *data = CMSG_DATA(control);
	char text[INET6_ADDRSTRLEN];
	printf("  control %d %d, length %zu:", control->cmsg_level, control->cmsg_type, control->cmsg_len);
	if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO && control->cmsg_len >= CMSG_LEN(sizeof(struct in_pktinfo))) {
		struct in_pktinfo info;
		memcpy(&info, data, sizeof info);
		printf(" us0 %d, local %s,", is_interface(info.ipi_ifindex), inet_ntop(AF_INET, &info.ipi_spec_dst, text, sizeof text));
		printf(" to %s\n", inet_ntop(AF_INET, &info.ipi_addr, text, sizeof text));
	} else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO && control->cmsg_len >= CMSG_LEN(sizeof(struct in6_pktinfo))) {
		struct in6_pktinfo info;
		memcpy(&info, data, sizeof info);
		printf(" us0 %d, to %s\n", is_interface(info.ipi6_ifindex), inet_ntop(AF_INET6, &info.ipi6_addr, text, sizeof text));
	} else if (control->cmsg_len == CMSG_LEN(sizeof(int))) {
		int value;
		memcpy(&value, data, sizeof value);
		printf(" %d\n", value);
	} else if (control->cmsg_len == CMSG_LEN(1)) {
		printf(" %d\n", *(const unsigned char *)data);
	} else {
		printf(" something\n");
	}
}

void say_message(const char *label, int fd, size_t room, size_t control_len)
{
	static unsigned char bytes[65536];
	union address from = {0};
	_Alignas(struct cmsghdr) unsigned char control[512] = {0};
	struct iovec pieces[2] = {{bytes, room / 2}, {bytes + room / 2, room - room / 2}};
	struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = pieces, .msg_iovlen = 2,
				 .msg_control = control, .msg_controllen = control_len, .msg_flags = 0x1234};
	ssize_t received = recvmsg(fd, &message, 0);
	if (received < 0) {
		printf("%s: %s\n", label, strerrorname_np(errno));
		return;
	}
	printf("%s: %zd bytes of %02x, flags %x, %zu bytes of control\n", label, received, bytes[0], message.msg_flags, message.msg_controllen);
	say_address("  from", &from, message.msg_namelen);
	for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at))
		say_control(at);
}
