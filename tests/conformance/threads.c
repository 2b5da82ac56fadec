// Several threads of one process: on flows of their own, on one flow, and waking each other.
#include "case.h"

#include <pthread.h>
#include <sys/resource.h>

enum { THREADS = 4, ROUNDS = 50 };

static pthread_t start(void *(*body)(void *), void *argument)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, body, argument))
		give_up("pthread_create");
	return thread;
}

static void *ping(void *argument)
{
	int fd = *(int *)argument;
	for (int round = 0; round < ROUNDS; round++) {
		char bytes[100];
		memset(bytes, round, sizeof bytes);
		if (send(fd, bytes, sizeof bytes, 0) != sizeof bytes)
			give_up("send");
		if (recv(fd, bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes || bytes[99] != round)
			give_up("recv");
	}
	return NULL;
}

static void flows_of_their_own(void)
{
	int waiting = listener(), fds[THREADS];
	pthread_t threads[THREADS];
	tell();
	for (int i = 0; i < THREADS; i++) {
		fds[i] = TRY_FD(accept(waiting, NULL, NULL));
		threads[i] = start(ping, &fds[i]);
	}
	for (int i = 0; i < THREADS; i++)
		TRY(pthread_join(threads[i], NULL));
	for (int i = 0; i < THREADS; i++)
		TRY(close(fds[i]));
}

static void *echo(void *argument)
{
	int fd = *(int *)argument;
	char bytes[1000];
	for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, 0)) > 0;)
		send(fd, bytes, n, 0);
	return NULL;
}

static void echo_on_four(void)
{
	union address address = ours_at(PORT);
	int fds[THREADS];
	pthread_t threads[THREADS];
	await();
	for (int i = 0; i < THREADS; i++) {
		fds[i] = stream();
		TRY(connect(fds[i], &address.any, address_len));
		threads[i] = start(echo, &fds[i]);
	}
	for (int i = 0; i < THREADS; i++)
		TRY(pthread_join(threads[i], NULL));
}

static void *read_two_megabytes(void *argument)
{
	read_exactly(*(int *)argument, 2000000);
	return NULL;
}

// One thread reads while another writes.
static void both_directions_at_once(void)
{
	int fd = flow();
	pthread_t reader = start(read_two_megabytes, &fd);
	write_pattern(fd, 2000000);
	TRY(pthread_join(reader, NULL));
	TRY(shutdown(fd, SHUT_WR));
	TRY(read_to_end(fd));
}

static void *receive_one(void *argument)
{
	char byte;
	TRY(recv(*(int *)argument, &byte, 1, 0));
	return NULL;
}

// The main thread waits too, for something else, while the other one is woken.
static void woken_by_data(void)
{
	int fd = flow();
	pthread_t reader = start(receive_one, &fd);
	tell();
	TRY(pthread_join(reader, NULL));
}

static void send_one_slowly(void)
{
	int fd = flow();
	await();
	usleep(20000);
	send(fd, "x", 1, 0);
	TRY(read_to_end(fd));
}

// Without one more descriptor, threads wait all the same, in recv(2) and in poll(2).
static void woken_without_descriptors(void)
{
	int fd = flow();
	struct pollfd look = {.fd = fd, .events = POLLIN};
	struct rlimit before, few;
	pthread_t readers[THREADS];
	if (getrlimit(RLIMIT_NOFILE, &before))
		give_up("getrlimit");
	few = before;
	few.rlim_cur = 64;
	if (setrlimit(RLIMIT_NOFILE, &few))
		give_up("setrlimit");
	while (dup(fd) >= 0)
		;
	for (int i = 0; i < THREADS; i++)
		readers[i] = start(receive_one, &fd);
	tell();
	if (poll(&look, 1, -1) != 1)
		give_up("poll");
	for (int i = 0; i < THREADS; i++)
		pthread_join(readers[i], NULL);
	receive_one(&fd);
	closefrom(STDERR_FILENO + 1);
	setrlimit(RLIMIT_NOFILE, &before);
}

static void send_one_to_each(void)
{
	int fd = flow();
	struct pollfd look = {.fd = fd, .events = POLLIN};
	await();
	TRY(poll(&look, 1, 50));
	// One more, so that poll(2) has something to see whoever comes first.
	for (int i = 0; i < THREADS + 1; i++)
		send(fd, "x", 1, 0);
	TRY(read_to_end(fd));
}

static void woken_by_shutdown(void)
{
	int fd = flow();
	pthread_t reader = start(receive_one, &fd);
	usleep(20000);
	if (shutdown(fd, SHUT_RDWR))
		give_up("shutdown");
	TRY(pthread_join(reader, NULL));
}

static void read_the_end(void)
{
	int fd = flow();
	TRY(read_to_end(fd));
}

static void *accept_one(void *argument)
{
	TRY_FD(accept(*(int *)argument, NULL, NULL));
	return NULL;
}

static void accept_woken_by_shutdown(void)
{
	int waiting = listener();
	pthread_t accepting = start(accept_one, &waiting);
	usleep(20000);
	shutdown(waiting, SHUT_RDWR);
	TRY(pthread_join(accepting, NULL));
}

// close(2) ends nothing that another thread does with the descriptor: that goes on, and then the socket is closed.
static void closed_while_receiving(void)
{
	int fd = flow();
	pthread_t reader = start(receive_one, &fd);
	usleep(20000);
	TRY(close(fd));
	TRY(recv(fd, NULL, 0, 0));
	tell();
	TRY(pthread_join(reader, NULL));
}

static void closed_while_accepting(void)
{
	int waiting = listener();
	pthread_t accepting = start(accept_one, &waiting);
	usleep(20000);
	TRY(close(waiting));
	tell();
	TRY(pthread_join(accepting, NULL));
	tell();
}

static void connect_twice(void)
{
	union address address = ours_at(PORT);
	await();
	TRY(connect(stream(), &address.any, address_len));
	await();
	TRY(connect(stream(), &address.any, address_len));
}

static void *send_one(void *argument)
{
	TRY(send(*(int *)argument, "x", 1, 0));
	return NULL;
}

// Another descriptor takes the number.
static void replaced_while_sending(void)
{
	int fd = flow();
	uint64_t filled = fill_up(fd);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	pthread_t sender = start(send_one, &fd);
	usleep(20000);
	TRY(dup2(eventfd(0, 0), fd) == fd);
	tell_number(filled + 1);
	TRY(pthread_join(sender, NULL));
}

static void read_what_was_filled(void)
{
	char bytes[65536];
	int fd = flow();
	uint64_t expected = await_number(), got = 0;
	for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, 0)) > 0;)
		got += n;
	printf("all of it: %d\n", got == expected);
}

static void closed_while_receiving_datagrams(void)
{
	union address address = ours_at(PORT);
	int fd = socket(family, SOCK_DGRAM, 0);
	TRY(bind(fd, &address.any, address_len));
	pthread_t reader = start(receive_one, &fd);
	usleep(20000);
	TRY(close(fd));
	tell();
	TRY(pthread_join(reader, NULL));
	fd = socket(family, SOCK_DGRAM, 0);
	TRY(bind(fd, &address.any, address_len));
}

static void send_a_datagram(void)
{
	union address address = ours_at(PORT);
	int fd = socket(family, SOCK_DGRAM, 0);
	await();
	TRY(sendto(fd, "x", 1, 0, &address.any, address_len));
}

static void *look_for_a_while(void *argument)
{
	struct pollfd look = {.fd = *(int *)argument, .events = POLLIN};
	int n = poll(&look, 1, 200);
	printf("poll: %d\n", n);
	say_bits("  ", look.revents);
	return NULL;
}

static void closed_under(void *(*wait)(void *))
{
	int fd = flow(), copy = fd;
	pthread_t looking = start(wait, &copy);
	usleep(20000);
	close(fd);
	usleep(20000);
	printf("closed\n");
	pthread_join(looking, NULL);
	tell();
}

static void closed_under_a_poll(void)
{
	closed_under(look_for_a_while);
}

static void *select_for_a_while(void *argument)
{
	fd_set in;
	FD_ZERO(&in);
	FD_SET(*(int *)argument, &in);
	TRY(select(*(int *)argument + 1, &in, NULL, NULL, &(struct timeval){.tv_usec = 200000}));
	TRY(FD_ISSET(*(int *)argument, &in));
	return NULL;
}

static void closed_under_a_select(void)
{
	closed_under(select_for_a_while);
}

static void read_the_end_later(void)
{
	int fd = flow();
	await();
	TRY(read_to_end(fd));
}

static void *wait_on_set(void *argument)
{
	struct epoll_event event;
	TRY(epoll_wait(*(int *)argument, &event, 1, -1));
	TRY(event.data.u64);
	return NULL;
}

// A registration is made while another thread sleeps on the set.
static void added_to_a_set_in_use(void)
{
	int fd = flow(), set = epoll_create1(0);
	pthread_t waiting = start(wait_on_set, &set);
	usleep(20000);
	struct epoll_event event = {.events = EPOLLOUT, .data.u64 = 3};
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
	TRY(pthread_join(waiting, NULL));
}

const struct test_case cases[] = {
	{"flows_of_their_own", SERVED, flows_of_their_own, echo_on_four},
	{"both_directions_at_once", FLOW, both_directions_at_once, both_directions_at_once},
	{"woken_by_data", FLOW, woken_by_data, send_one_slowly},
	{"woken_without_descriptors", FLOW, woken_without_descriptors, send_one_to_each},
	{"woken_by_shutdown", FLOW, woken_by_shutdown, read_the_end},
	{"accept_woken_by_shutdown", PASSED, accept_woken_by_shutdown, NULL},
	{"closed_while_receiving", FLOW, closed_while_receiving, send_one_slowly},
	{"closed_while_accepting", SERVED, closed_while_accepting, connect_twice},
	{"closed_while_receiving_datagrams", ANYHOW, closed_while_receiving_datagrams, send_a_datagram},
	{"replaced_while_sending", FLOW, replaced_while_sending, read_what_was_filled},
	{"closed_under_a_poll", FLOW, closed_under_a_poll, read_the_end_later},
	{"closed_under_a_select", FLOW, closed_under_a_select, read_the_end_later},
	{"added_to_a_set_in_use", FLOW, added_to_a_set_in_use, read_the_end},
	{0},
};
