// Random calls: from a seed (RANDOM_SEED, and RANDOM_STEPS of them), any call on any descriptor, in step with a peer that
// does what it is told. After each step both sides wait until nothing is under way, so that what is printed depends on the
// seed alone.
#include "told.h"

enum {
	SLOTS = 10,  // descriptors of sockets
	SETS = 3,    // epoll instances
	PORTS = 3,   // from PORT on, where this side listens
};

static uint64_t state;

static uint32_t random_number(void)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return state >> 32;
}

static unsigned below(unsigned bound) { return random_number() % bound; }
static bool one_in(unsigned bound) { return below(bound) == 0; }

// --- This side: what stands behind its descriptors.

// One for each socket, however many descriptors it has.
struct object {
	int copies;
	int conn;         // the peer's number, or -1
	int port;         // where it listens, or -1
	int received;     // bytes that the peer has sent and nobody has read
	int sent;         // bytes that the peer has not read
	bool is_opening;  // connect has begun
	bool is_over;     // the peer has reset, or everything has ended
	int queue[CONNS]; // of a listener: the peer's connections, in order
	int queued;
};

static struct { int fd; struct object *object; } slots[SLOTS];
static int sets[SETS], ends[2], next_conn;
static bool peer_has[CONNS], peer_has_ended[CONNS];

static int free_slot(void)
{
	for (int i = 0; i < SLOTS; i++)
		if (slots[i].fd < 0)
			return i;
	return -1;
}

static int put(int slot, int fd, struct object *object)
{
	slots[slot].fd = fd, slots[slot].object = object;
	object->copies++;
	return slot;
}

static struct object *new_object(void)
{
	struct object *object = calloc(1, sizeof *object);
	object->conn = object->port = -1;
	return object;
}

static void say(const char *call, int slot, long result)
{
	int error = errno;
	printf("  %s(%d) = %ld %s\n", call, slot, result, result < 0 ? strerrorname_np(error) : "");
}

static void peer_sees_end(int conn)
{
	if (conn >= 0 && peer_has[conn] && !peer_has_ended[conn]) {
		printf("  the peer sees the end of %d: %d\n", conn, (int)order(SEE_END, conn, 0));
		peer_has_ended[conn] = true;
	}
}

// A descriptor goes: with the last one of a connection the peer sees its end.
static void drop(int slot)
{
	struct object *object = slots[slot].object;
	slots[slot].fd = -1;
	if (--object->copies > 0)
		return;
	peer_sees_end(object->conn);
	for (int i = 0; i < object->queued; i++)
		peer_sees_end(object->queue[i]);
	free(object);
}

// --- The steps.

static void make_socket(void)
{
	int slot = free_slot();
	if (slot >= 0) {
		int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		put(slot, fd, new_object());
		printf("  socket = %d\n", slot);
	}
}

static void listen_at(int slot)
{
	struct object *object = slots[slot].object;
	int port = below(PORTS);
	union address address = wildcard_at(PORT + port);
	// The library does not let go of the port of a connection that has died.
	if (object->port < 0 && object->conn < 0 && !object->is_opening)
		say("bind", slot, bind(slots[slot].fd, &address.any, address_len));
	int result = listen(slots[slot].fd, 8);
	say("listen", slot, result);
	if (result == 0 && object->port < 0) {
		union address name;
		socklen_t len = sizeof name;
		getsockname(slots[slot].fd, &name.any, &len);
		object->port = ntohs(name.v4.sin_port) - PORT;
		// The library takes connections from the first look at the listener on.
		poll(&(struct pollfd){.fd = slots[slot].fd, .events = POLLIN}, 1, 0);
	}
}

static void connect_to(int slot)
{
	struct object *object = slots[slot].object;
	bool refused = one_in(4);
	union address address = peer_at(refused ? CLOSED_PORT : PEER_PORT);
	errno = 0;
	int result = connect(slots[slot].fd, &address.any, address_len);
	say(refused ? "connect to nobody" : "connect", slot, result);
	if (result == 0 || errno != EINPROGRESS)
		return;
	object->is_opening = true;
	say_bits("  opened", look_for(slots[slot].fd, POLLOUT));
	if (!refused) {
		object->conn = next_conn;
		printf("  the peer accepts %d: %d\n", next_conn, (int)order(ACCEPT, next_conn, 0));
		peer_has[next_conn++] = true;
	}
}

static void accept_from(int slot)
{
	struct object *listening = slots[slot].object;
	int into = free_slot();
	if (into < 0)
		return;
	int fd = accept4(slots[slot].fd, NULL, NULL, SOCK_NONBLOCK);
	say("accept", slot, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	struct object *object = new_object();
	object->conn = listening->queue[0];
	listening->queued--;
	memmove(listening->queue, listening->queue + 1, sizeof *listening->queue * listening->queued);
	put(into, fd, object);
}

static void receive_at(int slot)
{
	static const int flags[] = {0, 0, 0, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, MSG_DONTWAIT, MSG_OOB, MSG_PEEK | MSG_TRUNC};
	char bytes[300] = {0};
	unsigned len = one_in(6) ? 0 : 1 + below(one_in(2) ? 20 : sizeof bytes - 1), flag = flags[below(9)];
	struct iovec parts[3] = {{bytes, len / 3}, {bytes + len / 3, 0}, {bytes + len / 3, len - len / 3}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = below(4), .msg_flags = -1};
	ssize_t n = 0;
	switch (below(4)) {
	case 0: n = recv(slots[slot].fd, bytes, len, flag); break;
	case 1: n = read(slots[slot].fd, bytes, len); break;
	case 2: n = readv(slots[slot].fd, parts, below(4)); break;
	case 3:
		n = recvmsg(slots[slot].fd, &message, flag);
		printf("  flags %x, control %zu\n", n < 0 ? 0 : message.msg_flags, message.msg_controllen);
		break;
	}
	printf("  of %u, flags %x: %.*s\n", len, flag, (int)(n > 0 ? n > 300 ? 300 : n : 0), bytes);
	say("receive", slot, n);
}

static void send_at(int slot)
{
	static const int flags[] = {0, 0, 0, MSG_DONTWAIT, MSG_MORE, MSG_EOR, MSG_OOB, MSG_CONFIRM};
	char bytes[200];
	unsigned len = one_in(6) ? 0 : 1 + below(sizeof bytes - 1), flag = flags[below(6)] | MSG_NOSIGNAL;
	memset(bytes, 'A' + len % 26, sizeof bytes);
	struct iovec parts[2] = {{bytes, len / 2}, {bytes, len - len / 2}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	struct object *object = slots[slot].object;
	ssize_t n = 0;
	switch (below(3)) {
	case 0: n = send(slots[slot].fd, bytes, len, flag); break;
	case 1: n = sendmsg(slots[slot].fd, &message, flag); break;
	case 2: n = sendto(slots[slot].fd, bytes, len, flag & ~MSG_MORE, NULL, 0); break;
	}
	printf("  of %u, flags %x\n", len, flag);
	say("send", slot, n);
	if (n > 0 && object->conn >= 0 && !peer_has_ended[object->conn]) {
		object->sent += n;
		until_all_is_acknowledged(slots[slot].fd);
		printf("  the peer sees %d\n", (int)order(SEE_DATA, object->conn, object->sent));
	}
}

static void shut(int slot)
{
	struct object *object = slots[slot].object;
	int how = below(4), result = shutdown(slots[slot].fd, how);
	printf("  how %d\n", how);
	say("shutdown", slot, result);
	if (result == 0 && object->port >= 0 && how != SHUT_WR) {
		for (int i = 0; i < object->queued; i++)
			peer_sees_end(object->queue[i]);
		object->queued = 0;
	}
	if (result == 0 && how != SHUT_RD)
		peer_sees_end(object->conn);
}

static void close_slot(int slot)
{
	say("close", slot, close(slots[slot].fd));
	drop(slot);
}

static void copy(int slot)
{
	int into = below(2) ? free_slot() : (int)below(SLOTS);
	if (into < 0 || into == slot)
		return;
	struct object *object = slots[slot].object;
	object->copies++;
	if (slots[into].fd < 0) {
		slots[into].fd = one_in(2) ? dup(slots[slot].fd) : fcntl(slots[slot].fd, F_DUPFD_CLOEXEC, 3);
	} else {
		int fd = slots[into].fd;
		say("dup2", slot, dup2(slots[slot].fd, fd) == fd ? 0 : -1);
		drop(into);
		slots[into].fd = fd;
	}
	slots[into].object = object;
	printf("  %d is a copy of %d, close on exec %d\n", into, slot, fcntl(slots[into].fd, F_GETFD));
}

static void name_of(int slot)
{
	union address name = {0};
	socklen_t len = sizeof name;
	int result = getsockname(slots[slot].fd, &name.any, &len), is_own = name.v4.sin_port != 0;
	say("getsockname", slot, result);
	printf("  family %d, length %u, has a port %d\n", name.any.sa_family, len, is_own);
	result = getpeername(slots[slot].fd, &name.any, &len);
	say("getpeername", slot, result);
	if (result == 0)
		say_address("  peer", &name, len);
}

static void option_of(int slot)
{
	static const struct { int level, name; } options[] = {
		{SOL_SOCKET, SO_ERROR}, {SOL_SOCKET, SO_ERROR}, {SOL_SOCKET, SO_ACCEPTCONN}, {SOL_SOCKET, SO_KEEPALIVE},
		{SOL_SOCKET, SO_LINGER}, {SOL_SOCKET, SO_RCVTIMEO}, {SOL_SOCKET, SO_OOBINLINE}, {IPPROTO_TCP, TCP_NODELAY},
		{IPPROTO_TCP, TCP_KEEPCNT}, {IPPROTO_TCP, TCP_USER_TIMEOUT}, {IPPROTO_IP, IP_TTL}, {SOL_SOCKET, SO_TYPE},
		{IPPROTO_IPV6, IPV6_V6ONLY}, {IPPROTO_TCP, TCP_SYNCNT},
	};
	unsigned which = below(sizeof options / sizeof *options), values[4] = {below(3), below(100), 0, 0};
	socklen_t len = 1 + below(16);
	bool sets_it = one_in(3) && options[which].name != SO_LINGER;
	int result = sets_it ? setsockopt(slots[slot].fd, options[which].level, options[which].name, values, len)
	                     : getsockopt(slots[slot].fd, options[which].level, options[which].name, values, &len);
	printf("  option %u, %u bytes: %u %u\n", which, len, values[0], values[1]);
	say(sets_it ? "setsockopt" : "getsockopt", slot, result);
}

static void control_of(int slot)
{
	int value = 0, result;
	switch (below(3)) {
	case 0:
		result = ioctl(slots[slot].fd, FIONREAD, &value);
		printf("  FIONREAD %d\n", value);
		break;
	case 1:
		value = 1;
		result = ioctl(slots[slot].fd, FIONBIO, &value);
		break;
	default: result = fcntl(slots[slot].fd, F_GETFL);
	}
	say("control", slot, result);
}

static void register_at(int slot)
{
	static const uint32_t modes[] = {0, 0, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT, EPOLLEXCLUSIVE, EPOLLEXCLUSIVE | EPOLLET};
	static const uint32_t wishes[] = {EPOLLIN, EPOLLIN | EPOLLOUT, EPOLLOUT, EPOLLIN | EPOLLRDHUP, EPOLLRDHUP, 0, EPOLLPRI};
	int set = below(SETS), operation = 1 + below(3);
	struct epoll_event event = {.events = modes[below(7)] | wishes[below(7)], .data.u64 = slot};
	bool is_nested = one_in(12);
	int fd = is_nested ? sets[(set + 1) % SETS] : one_in(12) ? ends[0] : slots[slot].fd;
	if (is_nested)
		event.data.u64 = 20 + set;
	printf("  set %d, operation %d, events %x\n", set, operation, event.events);
	say("epoll_ctl", slot, epoll_ctl(sets[set], operation, fd, &event));
}

static void wait_in_sets(void)
{
	for (int set = 0; set < SETS; set++) {
		struct epoll_event events[32];
		// Beside sockets of its own, the library asks the kernel for others now and then.
		usleep(100);
		int n = epoll_wait(sets[set], events, 32, 0);
		printf("  set %d: %d\n", set, n);
		for (uint64_t data = 0; data < 32; data++)
			for (int i = 0; i < n; i++)
				if (events[i].data.u64 == data) {
					printf("    %d", (int)data);
					say_bits("", events[i].events);
				}
	}
}

static void poll_all(void)
{
	struct pollfd looks[SLOTS + SETS];
	fd_set in, out, except;
	int highest = -1;
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&except);
	for (int i = 0; i < SLOTS + SETS; i++) {
		int fd = i < SLOTS ? slots[i].fd : sets[i - SLOTS];
		looks[i] = (struct pollfd){.fd = fd, .events = one_in(2) ? POLLIN | POLLOUT | POLLRDHUP | POLLPRI : POLLIN};
		if (fd >= 0) {
			FD_SET(fd, &in);
			FD_SET(fd, &out);
			FD_SET(fd, &except);
			highest = fd > highest ? fd : highest;
		}
	}
	printf("  poll: %d\n", poll(looks, SLOTS + SETS, 0));
	printf("  select: %d\n", select(highest + 1, &in, &out, &except, &(struct timeval){0}));
	for (int i = 0; i < SLOTS + SETS; i++) {
		int fd = looks[i].fd;
		if (fd >= 0) {
			printf("    %d %d%d%d", i, FD_ISSET(fd, &in) != 0, FD_ISSET(fd, &out) != 0, FD_ISSET(fd, &except) != 0);
			say_bits("", looks[i].revents);
		}
	}
}

// --- What the peer does.

static void peer_connects(void)
{
	int slot = below(SLOTS);
	if (slots[slot].fd < 0 || slots[slot].object->port < 0 || next_conn == CONNS)
		return;
	struct object *object = slots[slot].object;
	int error = order(CONNECT, next_conn, object->port);
	printf("  the peer connects to %d: %s\n", slot, error ? strerrorname_np(error) : "done");
	if (error == 0) {
		peer_has[next_conn] = true;
		object->queue[object->queued++] = next_conn++;
		say_bits("  listener", look_for(slots[slot].fd, POLLIN));
	}
}

static void peer_acts(int slot)
{
	struct object *object = slots[slot].object;
	int conn = object->conn, amount = 1 + below(100);
	if (conn < 0 || !peer_has[conn] || object->is_over)
		return;
	switch (below(7)) {
	case 0:
	case 1:
	case 2: {
		int queued = 0, error = order(SEND, conn, amount);
		printf("  the peer sends %d: %s\n", amount, error ? strerrorname_np(error) : "done");
		for (int i = 0; i < 20 && ioctl(slots[slot].fd, FIONREAD, &queued) == 0 && queued == 0; i++)
			usleep(1000);
		break;
	}
	case 3: {
		int n = order(RECEIVE, conn, 4000);
		printf("  the peer receives: %d\n", n);
		object->sent = n > 0 && n <= object->sent ? object->sent - n : object->sent;
		break;
	}
	case 4:
		printf("  the peer shuts: %d\n", (int)order(SHUT, conn, SHUT_WR));
		say_bits("  seen", look_for(slots[slot].fd, POLLRDHUP));
		break;
	default:
		printf("  the peer closes: %d\n", (int)order(one_in(2) ? CLOSE : RESET, conn, 0));
		say_bits("  seen", look_for(slots[slot].fd, POLLRDHUP));
		peer_has[conn] = false;
		object->is_over = true;
	}
}

static void step(void)
{
	static void (*const calls[])(int) = {
		listen_at, connect_to, accept_from, accept_from, receive_at, receive_at, send_at, send_at, shut, close_slot, copy,
		name_of, option_of, control_of, register_at, register_at, register_at, peer_acts, peer_acts, peer_acts, peer_acts,
	};
	int slot = below(SLOTS);
	if (one_in(5))
		peer_connects();
	else if (slots[slot].fd < 0)
		make_socket();
	else
		calls[below(sizeof calls / sizeof *calls)](slot);
	if (one_in(2))
		wait_in_sets();
	if (one_in(4))
		poll_all();
}

static void any_calls(void)
{
	const char *seed = getenv("RANDOM_SEED"), *steps = getenv("RANDOM_STEPS");
	if (!seed || !steps)
		give_up("RANDOM_SEED, RANDOM_STEPS");
	state = 0x9e3779b97f4a7c15 ^ (strtoull(seed, NULL, 10) * 0xbf58476d1ce4e5b9);
	await();
	for (int i = 0; i < SLOTS; i++)
		slots[i].fd = -1;
	for (int i = 0; i < SETS; i++)
		sets[i] = epoll_create1(0);
	if (pipe(ends))
		give_up("pipe");
	for (int i = 0; i < atoi(steps) && next_conn < CONNS; i++) {
		printf("%d\n", i);
		step();
	}
	tell_number((uint64_t)QUIT << 32);
}

const struct test_case cases[] = {
	{"any_calls", ANYHOW, any_calls, do_as_told},
	{0},
};
