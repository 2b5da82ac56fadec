// shutdown(2), close(2), SO_LINGER, resets, and the end of a process.
#include "case.h"

static void half_close(void)
{
	int fd = flow();
	count_signal(SIGPIPE, 0);
	TRY(send(fd, "request", 7, 0));
	TRY(shutdown(fd, SHUT_WR));
	say_readiness("our half is closed", fd);
	TRY(send(fd, "more", 4, 0));
	TRY(signals_seen);
	TRY(send(fd, "more", 4, MSG_NOSIGNAL));
	tell();
	char bytes[16];
	TRY(recv(fd, bytes, 6, MSG_WAITALL));
	TRY(recv(fd, bytes, 6, 0));
	TRY(recv(fd, bytes, 6, 0));
	wait_for(fd, POLLHUP);
	say_readiness("both are closed", fd);
	TRY(shutdown(fd, SHUT_WR));
	TRY(shutdown(fd, SHUT_RDWR));
	union address name;
	socklen_t len = sizeof name;
	TRY(getpeername(fd, &name.any, &len));
	TRY(getsockname(fd, &name.any, &len));
	TRY(close(fd));
}

static void answer_a_half_close(void)
{
	char bytes[16];
	int fd = flow();
	await();
	TRY(recv(fd, bytes, 7, MSG_WAITALL));
	TRY(recv(fd, bytes, 7, 0));
	TRY(send(fd, "answer", 6, 0));
	TRY(close(fd));
}

static void closed_by_the_peer(void)
{
	char bytes[16];
	int fd = flow();
	await();
	wait_for(fd, POLLRDHUP);
	say_readiness("data and then the end", fd);
	TRY(recv(fd, bytes, 16, 0));
	say_readiness("the end", fd);
	TRY(recv(fd, bytes, 16, 0));
	TRY(recv(fd, bytes, 16, MSG_DONTWAIT));
	TRY(send(fd, "still", 5, 0));
	TRY(shutdown(fd, SHUT_WR));
	wait_for(fd, POLLHUP);
	TRY(recv(fd, bytes, 16, 0));
}

static void close_our_half(void)
{
	char bytes[16];
	int fd = flow();
	TRY(send(fd, "data", 4, 0));
	TRY(shutdown(fd, SHUT_WR));
	tell();
	TRY(recv(fd, bytes, 5, MSG_WAITALL));
	TRY(recv(fd, bytes, 5, 0));
}

static void reading_shut_down(void)
{
	char bytes[16];
	int fd = flow();
	TRY(shutdown(fd, SHUT_RD));
	TRY(recv(fd, bytes, 16, 0));
	say_readiness("reading is shut down", fd);
	TRY(send(fd, "data", 4, 0));
	TRY(shutdown(fd, SHUT_RDWR));
	TRY(send(fd, "data", 4, MSG_NOSIGNAL));
}

static void read_four(void)
{
	char bytes[16];
	int fd = flow();
	TRY(recv(fd, bytes, 4, MSG_WAITALL));
	TRY(recv(fd, bytes, 4, 0));
}

static void wrong_arguments(void)
{
	int fd = stream(), ends[2];
	if (pipe(ends))
		give_up("pipe");
	TRY(shutdown(fd, SHUT_WR));
	TRY(shutdown(fd, 3));
	TRY(shutdown(ends[0], SHUT_WR));
	TRY(shutdown(-1, SHUT_WR));
	TRY(close(fd));
	TRY(close(fd));
	TRY(shutdown(fd, SHUT_WR));
	TRY(close(-1));
	fd = flow();
	TRY(shutdown(fd, 3));
	TRY(shutdown(fd, -1));
	TRY(close(fd));
	TRY(close(fd));
	TRY(shutdown(fd, SHUT_WR));
}

static void wait_for_the_end(void)
{
	int fd = flow();
	TRY(read_to_end(fd));
}

static void reset_by_the_peer(void)
{
	char byte;
	int error = -1, fd = flow();
	socklen_t len = sizeof error;
	count_signal(SIGPIPE, 0);
	await();
	wait_for(fd, POLLHUP);
	say_readiness("reset", fd);
	TRY(recv(fd, &byte, 1, 0));
	say_readiness("reset, and said so", fd);
	TRY(recv(fd, &byte, 1, 0));
	TRY(send(fd, &byte, 1, 0));
	TRY(signals_seen);
	TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	TRY(error);
	union address name;
	len = sizeof name;
	TRY(getpeername(fd, &name.any, &len));
	TRY(shutdown(fd, SHUT_WR));
	TRY(close(fd));
}

static void reset_asked_for_first(void)
{
	char byte = 0;
	int error = -1, fd = flow();
	socklen_t len = sizeof error;
	await();
	wait_for(fd, POLLHUP);
	TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	TRY(error);
	TRY(recv(fd, &byte, 1, 0));
	TRY(send(fd, &byte, 1, MSG_NOSIGNAL));
}

static void reset_seen_by_send(void)
{
	char byte = 0;
	int fd = flow();
	await();
	wait_for(fd, POLLHUP);
	TRY(send(fd, &byte, 1, MSG_NOSIGNAL));
	TRY(send(fd, &byte, 1, MSG_NOSIGNAL));
	TRY(recv(fd, &byte, 1, 0));
}

static void reset_the_flow(void)
{
	int fd = flow();
	reset_on_close(fd);
	TRY(close(fd));
	tell();
}

static void data_before_a_reset(void)
{
	char bytes[16];
	int fd = flow();
	await();
	wait_for(fd, POLLIN);
	tell();
	wait_for(fd, POLLHUP);
	TRY(recv(fd, bytes, 16, 0));
	TRY(recv(fd, bytes, 16, 0));
	TRY(recv(fd, bytes, 16, 0));
}

static void send_and_reset(void)
{
	int fd = flow();
	TRY(send(fd, "hello", 5, 0));
	tell();
	await();
	reset_on_close(fd);
	TRY(close(fd));
}

static void see_a_reset(void)
{
	char byte;
	int fd = flow();
	await();
	wait_for(fd, POLLHUP);
	TRY(recv(fd, &byte, 1, 0));
}

static void close_with_unread_data(void)
{
	int fd = flow();
	await();
	wait_for(fd, POLLIN);
	TRY(close(fd));
	tell();
}

static void send_what_nobody_reads(void)
{
	char byte;
	int fd = flow();
	TRY(send(fd, "unread", 6, 0));
	tell();
	await();
	wait_for(fd, POLLHUP);
	TRY(recv(fd, &byte, 1, 0));
}

// The peer writes to a flow whose reader has gone.
static void broken_pipe(void)
{
	char byte = 0;
	int fd = flow();
	count_signal(SIGPIPE, 0);
	await();
	wait_for(fd, POLLRDHUP);
	TRY(recv(fd, &byte, 1, 0));
	TRY(send(fd, &byte, 1, 0));
	wait_for(fd, POLLHUP);
	say_readiness("broken", fd);
	TRY(send(fd, &byte, 1, 0));
	TRY(signals_seen);
	TRY(write(fd, &byte, 1));
	TRY(signals_seen);
	TRY(send(fd, &byte, 1, MSG_NOSIGNAL));
	TRY(signals_seen);
	TRY(recv(fd, &byte, 1, 0));
}

static void close_at_once(void)
{
	int fd = flow();
	TRY(close(fd));
	tell();
}

static void return_with_queued_data(void)
{
	int fd = flow();
	write_pattern(fd, 1000000);
	TRY(close(fd));
}

static void end_without_closing(void)
{
	int fd = flow();
	write_pattern(fd, 1000000);
}

// As much as the queue takes, so that the process ends long before the peer has read it.
static void end_with_a_full_queue(void)
{
	int fd = flow();
	tell_number(fill_up(fd));
}

static void count_what_comes(void)
{
	char bytes[65536];
	int fd = flow();
	uint64_t sent = await_number(), received = 0;
	for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0;)
		received += n;
	TRY(sent == received);
}

// What the peer does not take keeps a lingering close for its whole time, on a flow that does not block, too.
static void linger(void)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 1};
	struct timespec before, after;
	int fd = flow();
	TRY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
	tell_number(fill_up(fd));
	clock_gettime(CLOCK_MONOTONIC, &before);
	TRY(close(fd));
	clock_gettime(CLOCK_MONOTONIC, &after);
	long passed_ns = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
	TRY(passed_ns >= 1000000000);
	tell();
}

static void count_later(void)
{
	char bytes[65536];
	int fd = flow();
	uint64_t sent = await_number(), received = 0;
	await();
	for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0;)
		received += n;
	TRY(sent == received);
}

// One that the peer takes all of ends long before its time: the case would hang otherwise.
static void linger_until_delivered(void)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 10000};
	int fd = flow();
	TRY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
	write_pattern(fd, 1000000);
	TRY(close(fd));
}

const struct test_case cases[] = {
	{"half_close", FLOW, half_close, answer_a_half_close},
	{"closed_by_the_peer", FLOW, closed_by_the_peer, close_our_half},
	{"reading_shut_down", FLOW, reading_shut_down, read_four},
	{"wrong_arguments", FLOW, wrong_arguments, wait_for_the_end},
	{"reset_by_the_peer", FLOW, reset_by_the_peer, reset_the_flow},
	{"reset_asked_for_first", FLOW, reset_asked_for_first, reset_the_flow},
	{"reset_seen_by_send", FLOW, reset_seen_by_send, reset_the_flow},
	{"data_before_a_reset", FLOW, data_before_a_reset, send_and_reset},
	{"reset_by_us", FLOW, reset_the_flow, see_a_reset},
	{"close_with_unread_data", FLOW, close_with_unread_data, send_what_nobody_reads},
	{"broken_pipe", FLOW, broken_pipe, close_at_once},
	{"linger", FLOW, linger, count_later},
	{"linger_until_delivered", FLOW, linger_until_delivered, wait_for_the_end},
	{"return_with_queued_data", FLOW, return_with_queued_data, wait_for_the_end},
	{"end_without_closing", FLOW, end_without_closing, wait_for_the_end},
	{"end_with_a_full_queue", FLOW, end_with_a_full_queue, count_what_comes},
	{0},
};
