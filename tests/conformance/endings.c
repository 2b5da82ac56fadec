// How a flow ends that several processes have had: by closes, by resets, by the ends of processes.
#include "case.h"
#include <linux/sockios.h>
#include <sys/resource.h>

// A child's close sends no FIN while the parent has the flow, nor does the parent's while a child has it.
static void closed_by_one(void)
{
	int fd = flow(), ends[2];
	char byte;
	if (pipe(ends))
		give_up("pipe");
	pid_t pid = child();
	if (pid == 0)
		leave(TRY(close(fd)));
	join(pid);
	tell();
	await();
	pid = child();
	if (pid == 0) {
		say_echo("the child", fd);
		leave(TRY(close(fd)));
	}
	join(pid);
	tell();
	await();
	pid = child();
	if (pid == 0) {
		// It has the flow, and never uses it.
		close(ends[1]);
		leave(read(ends[0], &byte, 1));
	}
	TRY(close(fd));
	tell();
	await();
	close(ends[1]);
	join(pid);
}

static void closed_by_one_peer(void)
{
	int fd = flow();
	char bytes[4];
	struct pollfd look = {.fd = fd, .events = POLLIN};
	await();
	TRY(poll(&look, 1, 50));
	tell();
	TRY(recv(fd, bytes, 4, MSG_WAITALL));
	TRY(send(fd, bytes, 4, 0));
	await();
	TRY(poll(&look, 1, 50));
	tell();
	await();
	TRY(poll(&look, 1, 50));
	tell();
	TRY(recv(fd, bytes, 4, 0));
}

// It ends with the last that has it, though one lives that was born after it had been used, and has closed its copy.
static void closed_by_all(void)
{
	// With another flow, which they all have.
	int fd = flow(), other = flow(), ends[2], alive[2];
	char byte;
	if (pipe(ends) || pipe(alive))
		give_up("pipe");
	pid_t waiting = child();
	if (waiting == 0) {
		close(ends[1]);
		leave(read(ends[0], &byte, 1));
	}
	pid_t pid = child();
	if (pid == 0) {
		say_echo("the child", fd);
		leave(7);
	}
	join(pid);
	pid_t later = child();
	if (later == 0) {
		close(fd);
		close(ends[1]);
		close(alive[1]);
		leave(read(alive[0], &byte, 1));
	}
	TRY(close(fd));
	close(ends[1]);
	join(waiting);
	await();
	close(alive[1]);
	join(later);
	TRY(close(other));
}

static void closed_by_all_peer(void)
{
	int fd = flow(), other = flow();
	char bytes[4];
	TRY(recv(fd, bytes, 4, MSG_WAITALL));
	TRY(send(fd, bytes, 4, 0));
	TRY(recv(fd, bytes, 4, 0));
	tell();
	TRY(recv(other, bytes, 4, 0));
}

// What the last owner has not read makes its close a reset.
static void closed_unread(void)
{
	int fd = flow();
	pid_t pid = child();
	if (pid == 0) {
		say_bits("it", wait_for(fd, POLLIN));
		leave(7);
	}
	TRY(close(fd));
	join(pid);
}

static void closed_unread_peer(void)
{
	int fd = flow();
	char byte;
	TRY(send(fd, "unread", 6, 0));
	TRY(recv(fd, &byte, 1, 0));
}

// A reset is one in whatever process, after what came before it: for who reads, who writes and who asks.
static void reset(void)
{
	for (int round = 0; round < 4; round++) {
		int fd = flow();
		char byte;
		count_signal(SIGPIPE, 0);
		pid_t pid = child();
		if (pid == 0) {
			say_echo("the child", fd);
			tell();
			if (round == 0) {
				say_bits("it", wait_for(fd, 0));
				say_readiness("the child's", fd);
				TRY(recv(fd, &byte, 1, 0));
			}
			if (round < 2) {
				TRY(recv(fd, &byte, 1, 0));
				TRY(recv(fd, &byte, 1, 0));
			}
			if (round == 2) {
				int error = 0;
				socklen_t len = sizeof error;
				wait_for(fd, 0);
				TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
				TRY(error);
			}
			if (round == 3) {
				// The peer's end comes first, and stays what a reader hears of.
				TRY(recv(fd, &byte, 1, 0));
				tell();
				wait_for(fd, 0);
				TRY(recv(fd, &byte, 1, 0));
			}
			TRY(send(fd, "x", 1, 0));
			TRY(signals_seen);
			leave(round);
		}
		TRY(close(fd));
		join(pid);
	}
}

static void reset_peer(void)
{
	for (int round = 0; round < 4; round++) {
		char bytes[4];
		int fd = flow(), on = 1;
		// No byte is to wait for an ACK of one before.
		TRY(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
		TRY(recv(fd, bytes, 4, MSG_WAITALL));
		TRY(send(fd, bytes, 4, 0));
		await();
		if (round == 0)
			TRY(send(fd, "x", 1, 0));
		if (round == 3) {
			TRY(shutdown(fd, SHUT_WR));
			await();
		}
		reset_on_close(fd);
		TRY(close(fd));
	}
}

// Much that was not read before a reset.
static void reset_after_bulk(void)
{
	int fd = flow(), room = 200000;
	TRY(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room));
	pid_t pid = child();
	if (pid == 0) {
		say_echo("the child", fd);
		tell();
		await();
		wait_for(fd, POLLIN);
		read_exactly(fd, 150000);
		char byte;
		TRY(recv(fd, &byte, 1, 0));
		TRY(recv(fd, &byte, 1, 0));
		leave(7);
	}
	TRY(close(fd));
	join(pid);
}

static void reset_after_bulk_peer(void)
{
	char bytes[4];
	int fd = flow(), unsent = 1;
	TRY(recv(fd, bytes, 4, MSG_WAITALL));
	TRY(send(fd, bytes, 4, 0));
	await();
	write_pattern(fd, 150000);
	while (ioctl(fd, SIOCOUTQ, &unsent) == 0 && unsent)
		usleep(1000);
	reset_on_close(fd);
	TRY(close(fd));
	tell();
}

// As daemon(3) does it: the process that has the flow ends, and its child goes on.
static void outlived(void)
{
	char bytes[4];
	int alive[2];
	if (pipe(alive))
		give_up("pipe");
	pid_t parent = child();
	if (parent == 0) {
		int fd = flow();
		parent = getpid();
		if (child())
			exit(7);
		while (getppid() == parent)
			usleep(1000);
		say_echo("the child", fd);
		TRY(recv(fd, bytes, 4, MSG_WAITALL));
		leave(8);
	}
	join(parent);
	// Until the child has ended, too.
	close(alive[1]);
	TRY(read(alive[0], bytes, 1));
}

static void outlived_peer(void)
{
	char bytes[4];
	int fd = flow();
	TRY(recv(fd, bytes, 4, MSG_WAITALL));
	TRY(send(fd, "pongping", 8, 0));
	TRY(recv(fd, bytes, 4, 0));
}

// However a process ends, what it has written goes out, and an end after it.
static void ends(void)
{
	for (int how = 0; how < 4; how++) {
		pid_t pid = child();
		if (pid == 0) {
			struct rlimit none = {0, 0};
			setrlimit(RLIMIT_CORE, &none);
			int fd = flow();
			write_pattern(fd, 50000);
			switch (how) {
			case 0: _exit(how);
			case 1: _Exit(how);
			case 2: quick_exit(how);
			default: abort();
			}
		}
		join(pid);
	}
}

static void ends_peer(void)
{
	for (int how = 0; how < 4; how++) {
		pid_t pid = child();
		if (pid == 0) {
			TRY(read_to_end(flow()));
			leave(how);
		}
		join(pid);
	}
}

const struct test_case cases[] = {
	{"closed_by_one", FLOW, closed_by_one, closed_by_one_peer},
	{"closed_by_all", FLOW, closed_by_all, closed_by_all_peer},
	{"closed_unread", FLOW, closed_unread, closed_unread_peer},
	{"reset", FLOW, reset, reset_peer},
	{"reset_after_bulk", FLOW, reset_after_bulk, reset_after_bulk_peer},
	{"ends", FLOW, ends, ends_peer},
	{"outlived", FLOW, outlived, outlived_peer},
	{0},
};
