// pthread_cancel(3): a thread that blocks in a call ends there, its clean-up handlers run, and what it waited for is there
// for others.
#include "case.h"

#include <pthread.h>

static int fd, set, quiet;
static char byte;

static void say_the_end(void *what)
{
	printf("cleaned up after %s\n", (const char *)what);
}

// Nothing but a cancellation ends a call of which this is said.
static void not_cancelled(const char *call, long result)
{
	printf("%s = %ld, not cancelled\n", call, result);
}

#define BLOCK(name, call)                                  \
	static void *name(void *argument)                  \
	{                                                  \
		(void)argument;                            \
		pthread_cleanup_push(say_the_end, #call);  \
		not_cancelled(#call, (call));              \
		pthread_cleanup_pop(0);                    \
		return NULL;                               \
	}

static struct iovec piece = {&byte, 1};
static char room[64];
static struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
static struct mmsghdr messages[2];
static struct pollfd look;
static struct epoll_event event;
static fd_set bits;
static char many[1 << 20];

BLOCK(in_recv, recv(fd, &byte, 1, 0))
BLOCK(in_read, read(fd, &byte, 1))
BLOCK(in_readv, readv(fd, &piece, 1))
BLOCK(in_recvfrom, recvfrom(fd, &byte, 1, 0, NULL, NULL))
BLOCK(in_recvmsg, recvmsg(fd, &message, 0))
BLOCK(in_recvmmsg, recvmmsg(fd, messages, 2, 0, NULL))
BLOCK(in_poll, poll(&look, 1, -1))
BLOCK(in_ppoll, ppoll(&look, 1, NULL, NULL))
BLOCK(in_select, select(fd + 1, &bits, NULL, NULL, NULL))
BLOCK(in_pselect, pselect(fd + 1, &bits, NULL, NULL, NULL, NULL))
BLOCK(in_epoll_wait, epoll_wait(set, &event, 1, -1))
BLOCK(in_epoll_pwait, epoll_pwait(set, &event, 1, -1, NULL))
BLOCK(in_send, send(fd, many, sizeof many, 0))
BLOCK(in_write, write(fd, many, sizeof many))
BLOCK(in_sendmsg, sendmsg(fd, &message, 0))
BLOCK(in_accept, accept(fd, NULL, NULL))

static pthread_t start(void *(*body)(void *))
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, body, NULL))
		give_up("pthread_create");
	return thread;
}

static void join_one(pthread_t thread)
{
	void *result;
	if (pthread_join(thread, &result))
		give_up("pthread_join");
	printf("%s\n", result == PTHREAD_CANCELED ? "cancelled" : "ended by itself");
}

static void cancel(pthread_t thread)
{
	if (pthread_cancel(thread))
		give_up("pthread_cancel");
	join_one(thread);
}

// Whether the thread blocks already or comes to, it ends in the same call.
static void cancel_in(void *(*body)(void *))
{
	pthread_t thread = start(body);
	usleep(10000);
	cancel(thread);
}

static void watch(int descriptor, short events)
{
	fd = descriptor;
	look = (struct pollfd){.fd = fd, .events = events};
	FD_ZERO(&bits);
	FD_SET(fd, &bits);
	set = epoll_create1(0);
	event = (struct epoll_event){.events = events, .data.u64 = 7};
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
	messages[0].msg_hdr = messages[1].msg_hdr = (struct msghdr){.msg_iov = &piece, .msg_iovlen = 1};
}

static void *(*const waits_to_receive[])(void *) = {
	in_recv, in_read, in_readv, in_recvfrom, in_recvmsg, in_recvmmsg, in_poll, in_ppoll, in_select, in_pselect,
	in_epoll_wait, in_epoll_pwait,
};

enum { WAITS = sizeof waits_to_receive / sizeof *waits_to_receive };

// None of them takes the byte that comes afterwards.
static void receiving(void)
{
	watch(flow(), POLLIN);
	for (int i = 0; i < WAITS; i++)
		cancel_in(waits_to_receive[i]);
	tell();
	TRY(recv(fd, &byte, 1, 0));
	tell();
}

static void send_one(void)
{
	int flow_fd = flow();
	await();
	send(flow_fd, "x", 1, 0);
	await();
	TRY(read_to_end(flow_fd));
}

static void sending(void)
{
	watch(flow(), POLLOUT);
	fill_up(fd);
	TRY(fcntl(fd, F_SETFL, 0));
	cancel_in(in_send);
	cancel_in(in_write);
	piece = (struct iovec){many, sizeof many};
	message.msg_controllen = 0;
	cancel_in(in_sendmsg);
	cancel_in(in_poll);
	cancel_in(in_epoll_wait);
	reset_on_close(fd);
	TRY(close(fd));
	tell();
}

static void do_not_read(void)
{
	flow();
	await();
}

static void accepting(void)
{
	watch(listener(), POLLIN);
	cancel_in(in_accept);
	cancel_in(in_poll);
	cancel_in(in_epoll_wait);
	tell();
	TRY_FD(fd = accept(fd, NULL, NULL));
	TRY(recv(fd, &byte, 1, 0));
}

static void connect_and_send(void)
{
	union address address = ours_at(PORT);
	await();
	int other = stream();
	TRY(connect(other, &address.any, address_len));
	TRY(send(other, "x", 1, 0));
	TRY(read_to_end(other));
}

static void *in_connect(void *argument)
{
	union address nobody = absent_at(PORT);
	(void)argument;
	pthread_cleanup_push(say_the_end, "connect");
	not_cancelled("connect", connect(fd, &nobody.any, address_len));
	pthread_cleanup_pop(0);
	return NULL;
}

static void connecting(void)
{
	fd = stream();
	cancel_in(in_connect);
	TRY(close(fd));
}

static void datagrams(void)
{
	union address address = ours_at(PORT);
	watch(socket(family, SOCK_DGRAM, 0), POLLIN);
	TRY(bind(fd, &address.any, address_len));
	for (int i = 0; i < WAITS; i++)
		cancel_in(waits_to_receive[i]);
	tell();
	TRY(recv(fd, &byte, 1, 0));
}

static void send_a_datagram(void)
{
	union address address = ours_at(PORT);
	int other = socket(family, SOCK_DGRAM, 0);
	await();
	// The first one to a new neighbour may be lost with its question.
	TRY(sendto(other, "x", 1, 0, &address.any, address_len));
}

// What is the kernel's is a cancellation point, too.
static void passed_through(void)
{
	int ends[2], local[2];
	if (pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, local))
		give_up("others");
	watch(ends[0], POLLIN);
	cancel_in(in_read);
	cancel_in(in_poll);
	watch(local[0], POLLIN);
	for (int i = 0; i < WAITS; i++)
		cancel_in(waits_to_receive[i]);
	TRY(write(local[1], "x", 1));
	TRY(read(fd, &byte, 1));
}

static void *disabled_for_a_byte(void *argument)
{
	int before;
	pthread_cleanup_push(say_the_end, "the state was enabled");
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	tell_number(0);
	TRY(recv(fd, &byte, 1, 0));
	TRY(poll(&look, 1, 0));
	TRY(epoll_wait(set, &event, 1, 0));
	pthread_setcancelstate(before, NULL);
	in_recv(argument);
	pthread_cleanup_pop(0);
	return NULL;
}

static void disabled(void)
{
	watch(flow(), POLLIN);
	pthread_t thread = start(disabled_for_a_byte);
	pthread_cancel(thread);
	cancel(thread);
	tell_number(1);
}

static void *cancel_itself(void *body)
{
	(void)body;
	pthread_cancel(pthread_self());
	return ((void *(*)(void *))body)(NULL);
}

// What is there already is not taken by a thread that has been cancelled before.
static void pending(void)
{
	watch(flow(), POLLIN);
	tell();
	wait_for(fd, POLLIN);
	for (int i = 0; i < WAITS; i++) {
		pthread_t thread;
		pthread_create(&thread, NULL, cancel_itself, waits_to_receive[i]);
		join_one(thread);
	}
	TRY(recv(fd, &byte, 1, 0));
	tell_number(1);
}

static void *at_any_time(void *argument)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	return in_recv(argument);
}

static void *in_no_call(void *argument)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
	for (volatile unsigned n = 0;; n++)
		;
	return argument;
}

static void asynchronous(void)
{
	watch(flow(), POLLIN);
	cancel_in(at_any_time);
	cancel_in(in_no_call);
	tell();
	TRY(recv(fd, &byte, 1, 0));
	tell();
}

static void say_good_bye(void *argument)
{
	(void)argument;
	write_pattern(fd, 3);
	tell();
	TRY(recv(fd, &byte, 1, 0));
	TRY(poll(&look, 1, 0));
	TRY(shutdown(fd, SHUT_WR));
}

static void *polite(void *argument)
{
	(void)argument;
	pthread_cleanup_push(say_good_bye, NULL);
	for (;;)
		TRY(read(quiet, &byte, 1));
	pthread_cleanup_pop(0);
	return NULL;
}

// A clean-up handler's calls are not cancelled again, whether ours or the kernel's was.
static void calls_in_a_handler(void)
{
	int ends[2];
	watch(flow(), POLLIN);
	if (pipe(ends))
		give_up("pipe");
	quiet = ends[0];
	cancel_in(polite);
	tell();
}

static void *receive_one(void *argument)
{
	TRY(recv(fd, &byte, 1, 0));
	return argument;
}

// A thread that waits beside those that are cancelled, and one that comes after them, with what was one of theirs.
static void others(void)
{
	watch(flow(), POLLIN);
	pthread_t waiting = start(receive_one);
	for (int i = 0; i < WAITS; i++)
		cancel_in(waits_to_receive[i]);
	tell();
	join_one(waiting);
	waiting = start(receive_one);
	tell();
	join_one(waiting);
	tell_number(1);
}

static void *wait_for_event(void *argument)
{
	struct epoll_event seen;
	TRY(epoll_wait(set, &seen, 1, -1));
	return argument;
}

// Of several threads that sleep on a set, one is cancelled, and another has the event.
static void one_of_several_on_a_set(void)
{
	watch(flow(), POLLIN);
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		threads[i] = start(in_epoll_wait);
	pthread_t waiting = start(wait_for_event);
	usleep(10000);
	for (int i = 0; i < 4; i++)
		cancel(threads[i]);
	tell();
	join_one(waiting);
	tell_number(1);
}

const struct test_case cases[] = {
	{"receiving", FLOW, receiving, send_one},
	{"sending", FLOW, sending, do_not_read},
	{"accepting", SERVED, accepting, connect_and_send},
	{"connecting", ANYHOW, connecting, NULL},
	{"datagrams", ANYHOW, datagrams, send_a_datagram},
	{"passed_through", PASSED, passed_through, NULL},
	{"disabled", FLOW, disabled, send_bytes},
	{"pending", FLOW, pending, send_bytes},
	{"asynchronous", FLOW, asynchronous, send_one},
	{"calls_in_a_handler", FLOW, calls_in_a_handler, send_one},
	{"others", FLOW, others, send_bytes},
	{"one_of_several_on_a_set", FLOW, one_of_several_on_a_set, send_bytes},
	{0},
};
