// The frame of the conformance programs: main, reports, addresses and steps.
#include "case.h"

int family;
socklen_t address_len;
volatile sig_atomic_t signals_seen;

static bool is_ours, is_opened_by_us;
static const char *ours_v4, *peer_v4, *ours_v6, *peer_v6;

void give_up(const char *why)
{
	fprintf(stderr, "%s: %m\n", why);
	fflush(NULL);
	_exit(3);
}

long report(const char *call, long result)
{
	int error = errno;
	if (result == -1)
		printf("%s = -1 %s\n", call, strerrorname_np(error));
	else
		printf("%s = %ld\n", call, result);
	errno = error;
	return result;
}

int report_fd(const char *call, int fd)
{
	if (fd < 0)
		return (int)report(call, fd);
	printf("%s = a descriptor\n", call);
	return fd;
}

static union address make_address(int of_family, const char *text, int port)
{
	union address address = {.room = {.ss_family = of_family}};
	void *bytes = of_family == AF_INET ? (void *)&address.v4.sin_addr : (void *)&address.v6.sin6_addr;
	if (inet_pton(of_family, text, bytes) != 1)
		give_up(text);
	// sin_port and sin6_port lie at the same place.
	address.v4.sin_port = htons(port);
	return address;
}

static union address choose(const char *v4, const char *v6, int port)
{
	return make_address(family, family == AF_INET ? v4 : v6, port);
}

union address ours_at(int port) { return choose(ours_v4, ours_v6, port); }
union address peer_at(int port) { return choose(peer_v4, peer_v6, port); }
union address loopback_at(int port) { return choose("127.0.0.1", "::1", port); }
union address wildcard_at(int port) { return choose("0.0.0.0", "::", port); }
union address absent_at(int port) { return choose("10.7.0.99", "fd07::99", port); }
union address nowhere_at(int port) { return choose("198.51.100.1", "2001:db8::1", port); }
union address ours_v4_at(int port) { return make_address(AF_INET, ours_v4, port); }
union address peer_v4_at(int port) { return make_address(AF_INET, peer_v4, port); }

void say_address(const char *label, const union address *address, socklen_t len)
{
	char text[INET6_ADDRSTRLEN] = "?";
	if (address->any.sa_family == AF_INET)
		inet_ntop(AF_INET, &address->v4.sin_addr, text, sizeof text);
	if (address->any.sa_family == AF_INET6)
		inet_ntop(AF_INET6, &address->v6.sin6_addr, text, sizeof text);
	int port = ntohs(address->v4.sin_port);
	const char *kind = port == 0 ? "no port" : port == PORT ? "PORT" : "some port";
	printf("%s: family %d, %s, %s, length %u\n", label, address->any.sa_family, text, kind, len);
}

void tell_number(uint64_t number)
{
	if (write(STDIN_FILENO, &number, sizeof number) != sizeof number)
		give_up("tell");
}

uint64_t await_number(void)
{
	uint64_t number;
	if (read(STDIN_FILENO, &number, sizeof number) != sizeof number)
		give_up("await: the other side has gone");
	return number;
}

void tell(void) { tell_number(0); }
void await(void) { await_number(); }

int stream(void)
{
	int fd = socket(family, SOCK_STREAM, 0);
	if (fd < 0)
		give_up("socket");
	return fd;
}

int unattended_listener(void)
{
	union address address = wildcard_at(PORT);
	int fd = stream(), on = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, &address.any, address_len) || listen(fd, 16))
		give_up("listen");
	return fd;
}

int listener(void)
{
	int fd = unattended_listener();
	// The library takes connections from the first look at the listener on.
	struct pollfd look = {.fd = fd, .events = POLLIN};
	if (poll(&look, 1, 0) < 0)
		give_up("poll");
	return fd;
}

void connect_once(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	await();
}

int flow(void)
{
	int fd;
	if (is_ours == is_opened_by_us) {
		union address address = is_ours ? peer_at(PORT) : ours_at(PORT);
		await();
		fd = stream();
		if (connect(fd, &address.any, address_len))
			give_up("connect");
	} else {
		int waiting = listener();
		tell();
		fd = accept(waiting, NULL, NULL);
		if (fd < 0)
			give_up("accept");
		close(waiting);
	}
	// Whatever happens to the flow from here on happens after both sides have it.
	tell();
	await();
	return fd;
}

void set_nonblocking(int fd)
{
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK))
		give_up("fcntl");
}

void reset_on_close(int fd)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger))
		give_up("SO_LINGER");
}

static void count(int number)
{
	(void)number;
	signals_seen++;
}

void count_signal(int number, int flags)
{
	struct sigaction action = {.sa_handler = count, .sa_flags = flags};
	sigaction(number, &action, NULL);
}

static char **words;

void renew(int fd)
{
	char number[12];
	snprintf(number, sizeof number, "%d", fd);
	setenv("RENEWED", number, 1);
	fflush(stdout);
	execv("/proc/self/exe", words);
	give_up("exec");
}

int renewed(void)
{
	const char *number = getenv("RENEWED");
	return number ? atoi(number) : -1;
}

static int list(void)
{
	static const char *const servings[] = {[FLOW] = "flow", [SERVED] = "served", [DATAGRAMS] = "datagrams", [MIXED] = "mixed", [PASSED] = "passed", [ANYHOW] = "anyhow"};
	for (const struct test_case *at = cases; at->name; at++)
		printf("%s %s\n", at->name, servings[at->serving]);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2)
		return list();
	if (argc != 9)
		give_up("usage: see case.h");
	words = argv;
	is_ours = !strcmp(argv[2], "ours");
	family = *argv[3] == '4' ? AF_INET : AF_INET6;
	address_len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	is_opened_by_us = !strcmp(argv[4], "opened");
	ours_v4 = argv[5], peer_v4 = argv[6], ours_v6 = argv[7], peer_v6 = argv[8];
	const struct test_case *at = cases;
	while (at->name && strcmp(at->name, argv[1]))
		at++;
	if (!at->name)
		give_up("no such case");
	void (*side)(void) = is_ours ? at->ours : at->peer;
	if (side)
		side();
	return 0;
}
