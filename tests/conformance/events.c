// What several programs do with epoll instances.
#include "case.h"

void say_events(const char *label, int set)
{
	struct epoll_event events[8];
	int n = epoll_wait(set, events, 8, 0);
	printf("%s: %d\n", label, n);
	for (uint64_t data = 0; data < 16; data++)
		for (int i = 0; i < n; i++)
			if (events[i].data.u64 == data) {
				printf("  %d", (int)data);
				say_bits("", events[i].events);
			}
}

int control(int set, int operation, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};
	return epoll_ctl(set, operation, fd, &event);
}

void send_bytes(void)
{
	int fd = flow(), on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	while (await_number() == 0)
		send(fd, "x", 1, 0);
	TRY(close(fd));
}

void next_byte(int fd, int expected)
{
	int queued;
	tell();
	// FIONREAD tells of a new byte where readiness was true before.
	do
		if (ioctl(fd, FIONREAD, &queued))
			give_up("FIONREAD");
	while (queued < expected && usleep(1000) == 0);
}
