// The peer that does what it is told.
#include "told.h"

uint64_t order(enum order what, unsigned conn, unsigned amount)
{
	tell_number((uint64_t)what << 32 | conn << 16 | amount);
	return await_number();
}

short look_for(int fd, short events)
{
	struct pollfd look = {.fd = fd, .events = events};
	return poll(&look, 1, WAIT_MS) == 1 ? look.revents : 0;
}

void until_all_is_acknowledged(int fd)
{
	int queued = 1;
	for (int i = 0; i < WAIT_MS && ioctl(fd, TIOCOUTQ, &queued) == 0 && queued > 0; i++)
		usleep(1000);
}

static uint64_t obey(enum order what, unsigned conn, unsigned amount, int waiting, int *conns)
{
	char bytes[4096];
	int *fd = &conns[conn];
	union address address = ours_at(PORT + amount);
	switch (what) {
	case CONNECT:
		*fd = stream();
		return connect(*fd, &address.any, address_len) ? errno : 0;
	case ACCEPT:
		*fd = look_for(waiting, POLLIN) ? accept(waiting, NULL, NULL) : -1;
		return *fd < 0;
	case SEND:
		memset(bytes, 'a' + amount % 26, amount);
		if (send(*fd, bytes, amount, MSG_NOSIGNAL) < 0)
			return errno;
		until_all_is_acknowledged(*fd);
		return 0;
	case RECEIVE: {
		ssize_t n = recv(*fd, bytes, amount, MSG_DONTWAIT);
		return n < 0 ? 10000 + errno : n;
	}
	case SHUT: return shutdown(*fd, amount) ? errno : 0;
	case CLOSE: return close(*fd);
	case RESET:
		reset_on_close(*fd);
		return close(*fd);
	case SEE_END: return look_for(*fd, POLLRDHUP) ? 0 : 1;
	case SEE_DATA: {
		int queued = 0;
		for (int i = 0; i < WAIT_MS && ioctl(*fd, FIONREAD, &queued) == 0 && queued < (int)amount; i++)
			usleep(1000);
		return queued;
	}
	case QUIT: break;
	}
	return 0;
}

void do_as_told(void)
{
	int conns[CONNS], waiting = stream(), on = 1;
	union address address = wildcard_at(PEER_PORT);
	setsockopt(waiting, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(waiting, &address.any, address_len) || listen(waiting, 16))
		give_up("listen");
	tell();
	for (;;) {
		uint64_t told = await_number();
		if (told >> 32 == QUIT)
			return;
		tell_number(obey(told >> 32, told >> 16 & 0xffff, told & 0xffff, waiting, conns));
	}
}
