// getsockname(2), getpeername(2), getsockopt(2), setsockopt(2), ioctl(2).
#include "case.h"

static void say_both_names(const char *label, int fd)
{
	union address name = {0};
	socklen_t len = sizeof name;
	printf("%s\n", label);
	if (TRY(getsockname(fd, &name.any, &len)) == 0)
		say_address("  own", &name, len);
	name = (union address){0};
	len = sizeof name;
	if (TRY(getpeername(fd, &name.any, &len)) == 0)
		say_address("  peer", &name, len);
}

static void names(void)
{
	int fd = stream();
	say_both_names("fresh", fd);
	union address address = wildcard_at(PORT);
	TRY(bind(fd, &address.any, address_len));
	say_both_names("bound", fd);
	TRY(listen(fd, 1));
	say_both_names("listening", fd);
	close(fd);
	fd = stream();
	address = absent_at(PORT);
	set_nonblocking(fd);
	TRY(connect(fd, &address.any, address_len));
	say_both_names("on its way", fd);
	close(fd);
	say_both_names("closed", fd);
	int ends[2];
	if (pipe(ends))
		give_up("pipe");
	say_both_names("a pipe", ends[0]);
}

static void names_of_a_flow(void)
{
	union address name = {0};
	int fd = flow();
	say_both_names("connected", fd);
	socklen_t len = 4;
	TRY(getsockname(fd, &name.any, &len));
	TRY(len);
	TRY(name.any.sa_family);
	len = -1;
	TRY(getsockname(fd, &name.any, &len));
	TRY(getpeername(fd, &name.any, &len));
	tell();
	wait_for(fd, POLLRDHUP);
	say_both_names("the peer has closed", fd);
	TRY(shutdown(fd, SHUT_WR));
	wait_for(fd, POLLHUP);
	say_both_names("both have closed", fd);
}

static void close_when_told(void)
{
	int fd = flow();
	await();
	close(fd);
}

static void say_option(int fd, int level, int option, const char *name)
{
	int value = -1;
	socklen_t len = sizeof value;
	int result = getsockopt(fd, level, option, &value, &len);
	printf("%s: %d %s %d %u\n", name, result, result ? strerrorname_np(errno) : "", value, len);
}

#define SAY_OPTION(fd, level, option) say_option(fd, level, option, #option)

static void say_options(const char *label, int fd)
{
	printf("%s\n", label);
	SAY_OPTION(fd, SOL_SOCKET, SO_ERROR);
	SAY_OPTION(fd, SOL_SOCKET, SO_TYPE);
	SAY_OPTION(fd, SOL_SOCKET, SO_DOMAIN);
	SAY_OPTION(fd, SOL_SOCKET, SO_PROTOCOL);
	SAY_OPTION(fd, SOL_SOCKET, SO_ACCEPTCONN);
	SAY_OPTION(fd, SOL_SOCKET, SO_REUSEADDR);
	SAY_OPTION(fd, SOL_SOCKET, SO_REUSEPORT);
	SAY_OPTION(fd, SOL_SOCKET, SO_KEEPALIVE);
	SAY_OPTION(fd, SOL_SOCKET, SO_BROADCAST);
	SAY_OPTION(fd, SOL_SOCKET, SO_OOBINLINE);
	SAY_OPTION(fd, SOL_SOCKET, SO_RCVLOWAT);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_NODELAY);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_KEEPIDLE);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_KEEPINTVL);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_KEEPCNT);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_CORK);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
	SAY_OPTION(fd, IPPROTO_IP, IP_MTU_DISCOVER);
	SAY_OPTION(fd, IPPROTO_IP, IP_RECVERR);
	SAY_OPTION(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER);
	SAY_OPTION(fd, IPPROTO_IPV6, IPV6_RECVERR);
	struct timeval timeout = {-1, -1};
	socklen_t len = sizeof timeout;
	TRY(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &len));
	printf("%ld.%06ld %u\n", timeout.tv_sec, timeout.tv_usec, len);
	struct linger linger = {-1, -1};
	len = sizeof linger;
	TRY(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len));
	printf("%d %d %u\n", linger.l_onoff, linger.l_linger, len);
}

static void set_options(int fd)
{
	int on = 1, seconds = 77, count = 3;
	struct timeval timeout = {.tv_sec = 3, .tv_usec = 500000};
	struct linger linger = {.l_onoff = 1, .l_linger = 5};
	TRY(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds));
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds));
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count));
	TRY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
	TRY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
	int discovery = IP_PMTUDISC_PROBE;
	TRY(setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discovery, sizeof discovery));
	TRY(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on));
	TRY(setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &discovery, sizeof discovery));
	TRY(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on));
}

static void options_of_a_fresh_socket(void)
{
	int fd = stream();
	say_options("fresh", fd);
	set_options(fd);
	say_options("set", fd);
	int waiting = listener();
	say_options("listening", waiting);
}

static void options_of_a_flow(void)
{
	int fd = flow(), on = 0;
	say_options("connected", fd);
	set_options(fd);
	say_options("set", fd);
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
	SAY_OPTION(fd, IPPROTO_TCP, TCP_NODELAY);
	struct tcp_info info = {0};
	socklen_t len = 1;
	TRY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	TRY(len);
	TRY(info.tcpi_state);
	len = sizeof info;
	TRY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	TRY(info.tcpi_state);
	TRY(info.tcpi_pmtu);
	TRY(info.tcpi_snd_mss);
	TRY(info.tcpi_advmss);
	SAY_OPTION(fd, IPPROTO_TCP, TCP_MAXSEG);
	SAY_OPTION(fd, IPPROTO_IP, IP_MTU);
	SAY_OPTION(fd, IPPROTO_IPV6, IPV6_MTU);
	tell();
}

// What is set before the flow begins holds for the flow.
static void options_are_kept(void)
{
	union address address = peer_at(PORT);
	await();
	int fd = stream();
	set_options(fd);
	TRY(connect(fd, &address.any, address_len));
	say_options("connected", fd);
}

static void options_are_inherited(void)
{
	int waiting = listener();
	set_options(waiting);
	tell();
	int fd = TRY_FD(accept(waiting, NULL, NULL));
	say_options("accepted", fd);
}

static void take_one(void)
{
	int waiting = listener();
	tell();
	int fd = accept(waiting, NULL, NULL);
	TRY(read_to_end(fd));
}

static void open_one(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	TRY(read_to_end(fd));
}

static void wrong_options(void)
{
	int fd = flow(), value = 1;
	socklen_t len = sizeof value;
	TRY(setsockopt(fd, SOL_SOCKET, 9999, &value, sizeof value));
	TRY(getsockopt(fd, SOL_SOCKET, 9999, &value, &len));
	TRY(setsockopt(fd, IPPROTO_TCP, 9999, &value, sizeof value));
	TRY(getsockopt(fd, IPPROTO_TCP, 9999, &value, &len));
	TRY(setsockopt(fd, 9999, 1, &value, sizeof value));
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, 1));
	TRY(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 3));
	TRY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value));
	TRY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, sizeof value));
	TRY(setsockopt(fd, SOL_SOCKET, SO_TYPE, &value, sizeof value));
	TRY(setsockopt(fd, SOL_SOCKET, SO_ERROR, &value, sizeof value));
	len = 0;
	TRY(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len));
	TRY(len);
	len = -1;
	TRY(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len));
	value = 0;
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, sizeof value));
	value = IP_PMTUDISC_OMIT + 1;
	TRY(setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &value, sizeof value));
	TRY(setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &value, sizeof value));
	TRY(setsockopt(fd, IPPROTO_IP, IP_MTU, &value, sizeof value));
	TRY(setsockopt(-1, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value));
	TRY(setsockopt(STDOUT_FILENO, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value));
	TRY(getsockopt(STDOUT_FILENO, SOL_SOCKET, SO_TYPE, &value, &len));
	tell();
}

static void controls(void)
{
	int fd = flow(), value = -1, on = 1, off = 0;
	char byte;
	TRY(ioctl(fd, FIONREAD, &value));
	TRY(value);
	tell();
	wait_for(fd, POLLIN);
	TRY(ioctl(fd, FIONREAD, &value));
	TRY(value);
	TRY(recv(fd, &byte, 1, 0));
	TRY(ioctl(fd, FIONREAD, &value));
	TRY(value);
	TRY(ioctl(fd, FIONBIO, &on));
	TRY(fcntl(fd, F_GETFL));
	TRY(recv(fd, &byte, 1, 0));
	TRY(recv(fd, &byte, 1, 0));
	TRY(recv(fd, &byte, 1, 0));
	TRY(ioctl(fd, FIONBIO, &off));
	TRY(fcntl(fd, F_GETFL));
	TRY(ioctl(fd, 0x5401 /* TCGETS */, &(char[64]){0}));
	TRY(isatty(fd));
	TRY(ioctl(-1, FIONREAD, &value));
	int waiting = listener();
	TRY(ioctl(waiting, FIONREAD, &value));
	TRY(ioctl(waiting, FIONBIO, &on));
	TRY_FD(accept(waiting, NULL, NULL));
	tell();
}

static void send_two(void)
{
	int fd = flow();
	await();
	TRY(send(fd, "ab", 2, 0));
	await();
	close(fd);
}

const struct test_case cases[] = {
	{"names", MIXED, names, NULL},
	{"names_of_a_flow", FLOW, names_of_a_flow, close_when_told},
	{"options_of_a_fresh_socket", PASSED, options_of_a_fresh_socket, NULL},
	{"options_of_a_flow", FLOW, options_of_a_flow, close_when_told},
	{"options_are_kept", SERVED, options_are_kept, take_one},
	{"options_are_inherited", SERVED, options_are_inherited, open_one},
	{"wrong_options", FLOW, wrong_options, close_when_told},
	{"controls", FLOW, controls, send_two},
	{0},
};
