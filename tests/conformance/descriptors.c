// fcntl(2), dup(2), dup2(2), dup3(2), close(2), close_range(2), closefrom(3), fork(2), exec(3): descriptors and what
// they share.
#include "case.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static void flags(void)
{
	int fd = flow(), copy = TRY_FD(dup(fd));
	TRY(fcntl(fd, F_GETFL));
	TRY(fcntl(fd, F_SETFL, O_NONBLOCK));
	TRY(fcntl(fd, F_GETFL));
	TRY(fcntl(copy, F_GETFL));
	char byte;
	TRY(read(copy, &byte, 1));
	TRY(fcntl(copy, F_SETFL, 0));
	TRY(fcntl(fd, F_GETFL));
	TRY(fcntl(fd, F_GETFD));
	TRY(fcntl(fd, F_SETFD, FD_CLOEXEC));
	TRY(fcntl(fd, F_GETFD));
	TRY(fcntl(copy, F_GETFD));
	TRY(fcntl(fd, F_SETFD, 0));
	TRY(fcntl(fd, F_GETFD));
	TRY(fcntl(fd, 9999));
	TRY(fcntl(-1, F_GETFL));
	struct stat status;
	TRY(fstat(fd, &status));
	TRY(S_ISSOCK(status.st_mode));
}

static void copies(void)
{
	int fd = flow(), copy = TRY_FD(dup(fd));
	say_echo("the copy", copy);
	TRY(close(fd));
	say_echo("the copy alone", copy);
	TRY(dup2(copy, 50));
	say_echo("a chosen number", 50);
	TRY(dup2(50, 50));
	TRY(close(copy));
	copy = TRY(fcntl(50, F_DUPFD, 60));
	TRY(fcntl(copy, F_GETFD));
	copy = TRY(fcntl(50, F_DUPFD_CLOEXEC, 60));
	TRY(fcntl(copy, F_GETFD));
	TRY(dup3(50, 70, O_CLOEXEC));
	TRY(fcntl(70, F_GETFD));
	say_echo("dup3", 70);
	TRY(dup3(50, 50, 0));
	TRY(dup3(50, 71, O_NONBLOCK));
	TRY(dup2(50, -1));
	TRY(dup2(-1, 50));
	TRY(fcntl(50, F_DUPFD, -1));
	say_echo("after the errors", 50);
	TRY(fcntl(51, F_DUPFD, 60));
	TRY(dup(51));
}

// A number of a flow is given to something else, and the other way round.
static void replaced(void)
{
	char byte;
	int fd = flow(), ends[2];
	if (pipe(ends))
		give_up("pipe");
	int copy = dup(fd), target = dup(ends[1]);
	TRY(dup2(ends[0], fd) == fd);
	TRY(write(ends[1], "x", 1));
	TRY(read(fd, &byte, 1));
	TRY(send(fd, &byte, 1, MSG_NOSIGNAL));
	say_echo("the copy", copy);
	TRY(dup2(copy, target) == target);
	say_echo("on the number of the pipe", target);
	TRY(close(copy));
	TRY(dup2(ends[1], target) == target);
	TRY(write(target, "x", 1));
}

// What was a flow's number is nothing, and may then be something else's.
static void used_again(void)
{
	char byte = 0;
	int fd = flow(), ends[2];
	union address name;
	socklen_t len = sizeof name;
	struct pollfd look = {.fd = fd, .events = POLLIN | POLLOUT};
	if (pipe(ends))
		give_up("pipe");
	TRY(close(fd));
	TRY(recv(fd, &byte, 1, 0));
	TRY(send(fd, &byte, 1, 0));
	TRY(read(fd, &byte, 1));
	TRY(fcntl(fd, F_GETFD));
	TRY(dup(fd));
	TRY(getsockname(fd, &name.any, &len));
	TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &name, &len));
	TRY(ioctl(fd, FIONREAD, &name));
	TRY(listen(fd, 1));
	TRY(shutdown(fd, SHUT_RD));
	TRY(poll(&look, 1, 0));
	say_bits("closed", look.revents);
	TRY(dup2(ends[0], fd) == fd);
	TRY(write(ends[1], "x", 1));
	TRY(read(fd, &byte, 1));
	TRY(recv(fd, &byte, 1, 0));
	TRY(close(fd));
	int fresh = stream();
	TRY(recv(fresh, &byte, 1, 0));
	TRY(dup2(fresh, fd) == fd);
	TRY(recv(fd, &byte, 1, 0));
}

// The lowest free number, and what there is when none is.
static void numbers(void)
{
	struct rlimit before, few;
	int waiting = listener(), gap = dup(0), lowest, flag = O_NONBLOCK;
	getrlimit(RLIMIT_NOFILE, &before);
	for (int round = 0; round < 2; round++) {
		tell();
		TRY(accept(waiting, NULL, NULL));
	}
	TRY(close(gap));
	tell();
	TRY(accept(waiting, NULL, NULL) == gap);
	TRY(fcntl(gap, F_SETFL, flag));
	TRY(fcntl(waiting + 2, F_GETFL));
	say_echo("the gap's", gap);
	lowest = dup(0);
	few = before;
	few.rlim_cur = lowest;
	TRY(close(lowest));
	TRY(setrlimit(RLIMIT_NOFILE, &few));
	tell();
	wait_for(waiting, POLLIN);
	TRY(accept(waiting, NULL, NULL));
	TRY(dup(0));
	TRY(close(gap));
	TRY(accept(waiting, NULL, NULL) == gap);
	say_echo("the one that had to wait", gap);
	TRY(dup(gap));
	TRY(setrlimit(RLIMIT_NOFILE, &before));
	// Each knows its own options, whatever they share.
	int value = 8;
	socklen_t len = sizeof value;
	TRY(setsockopt(gap, IPPROTO_IP, IP_TOS, &value, sizeof value));
	TRY(getsockopt(waiting + 2, IPPROTO_IP, IP_TOS, &value, &len));
	TRY(value);
	TRY(dup(gap) == lowest);
	TRY(getsockopt(lowest, IPPROTO_IP, IP_TOS, &value, &len));
	TRY(value);
	say_echo("a copy", lowest);
	// Where the C library reads and writes by itself.
	TRY(close(2));
	tell();
	TRY(accept(waiting, NULL, NULL));
	TRY(dprintf(2, "ping"));
	char bytes[5] = {0};
	TRY(read(2, bytes, 4));
	puts(bytes);
	say_names(2);
}

static void numbers_peer(void)
{
	for (int round = 0; round < 5; round++) {
		union address address = ours_at(PORT);
		int fd = stream();
		char bytes[4];
		await();
		TRY(connect(fd, &address.any, address_len));
		pid_t pid = fork();
		if (pid == 0) {
			while (recv(fd, bytes, 4, MSG_WAITALL) == 4)
				send(fd, bytes, 4, 0);
			_exit(0);
		}
	}
}

static void ranges(void)
{
	int fd = flow(), other = stream();
	TRY(dup2(fd, 100));
	TRY(dup2(fd, 101));
	TRY(close_range(101, 110, 0));
	TRY(fcntl(101, F_GETFL));
	say_echo("below the range", 100);
	TRY(close_range(200, ~0U, 0));
	say_echo("after all above", 100);
	TRY(close_range(100, 100, CLOSE_RANGE_CLOEXEC));
	TRY(fcntl(100, F_GETFD));
	TRY(close_range(5, 4, 0));
	TRY(close_range(0, 1, 99));
	closefrom(100);
	TRY(fcntl(100, F_GETFL));
	say_echo("after closefrom", fd);
	TRY(close_range(3, ~0U, 0));
	TRY(fcntl(fd, F_GETFL));
	TRY(fcntl(other, F_GETFL));
}

// All that an ordinary daemon does at its start: close every number. The library must go on working.
static void everything_closed(void)
{
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	int fd = flow();
	say_echo("afterwards", fd);
	for (int other = 3; other < 1024; other++)
		if (other != fd)
			close(other);
	closefrom(1024);
	say_echo("afterwards, too", fd);
}

static void forked(void)
{
	int fd = flow(), status;
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		close(fd);
		_exit(7);
	}
	TRY(waitpid(child, &status, 0) == child);
	TRY(WEXITSTATUS(status));
	say_echo("the child has closed its copy", fd);
	child = fork();
	if (child == 0)
		exit(8);
	TRY(waitpid(child, &status, 0) == child);
	TRY(WEXITSTATUS(status));
	say_echo("the child has ended", fd);
	child = fork();
	if (child == 0) {
		execl("/bin/true", "true", NULL);
		_exit(9);
	}
	TRY(waitpid(child, &status, 0) == child);
	TRY(WEXITSTATUS(status));
	say_echo("the child was another program", fd);
	TRY(system("exit 3"));
	say_echo("after system()", fd);
}

// The parent opens a flow, the child opens nothing and uses other sockets.
static void forked_and_used(void)
{
	int fd = flow(), status, ends[2];
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		int waiting = stream(), local = stream();
		union address address = loopback_at(PORT + 5);
		bool works = !bind(waiting, &address.any, address_len) && !listen(waiting, 1) &&
			     !connect(local, &address.any, address_len) && accept(waiting, NULL, NULL) >= 0 && !pipe(ends);
		_exit(works ? 7 : 8);
	}
	TRY(waitpid(child, &status, 0) == child);
	TRY(WEXITSTATUS(status));
	say_echo("the parent", fd);
}

// Every call by its number, as libuv closes and a static runtime reads.
static void by_number(void)
{
	char bytes[8] = {0};
	int fd = flow(), copy = TRY_FD((int)syscall(SYS_dup, fd)), error = -1;
	struct iovec piece = {bytes, 2};
	socklen_t len = sizeof error;
	TRY(syscall(SYS_write, fd, "pi", 2L));
	TRY(syscall(SYS_sendto, copy, "ngpong", 6L, MSG_NOSIGNAL, 0L, 0L));
	wait_for(fd, POLLIN);
	TRY(syscall(SYS_recvfrom, fd, bytes, 2L, MSG_PEEK, 0L, 0L));
	TRY(syscall(SYS_read, fd, bytes, 2L));
	TRY(syscall(SYS_readv, copy, &piece, 1L));
	TRY(syscall(SYS_fcntl, fd, F_GETFL, 0L));
	TRY(syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &error, &len));
	TRY(error);
	TRY(syscall(SYS_getpeername, -1L, 0L, 0L));
	int epoll = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLOUT, .data.u64 = 7};
	TRY(syscall(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fd, &event));
	TRY(syscall(SYS_epoll_wait, epoll, &event, 1L, 1000L));
	TRY(event.data.u64);
	// The C library's functions, unlike the calls, may read a time that is not there.
	struct pollfd looks[] = {{.fd = fd, .events = POLLOUT}, {.fd = STDIN_FILENO, .events = POLLOUT}};
	void *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct {
		const sigset_t *set;
		size_t len;
	} mask = {NULL, 8};
	fd_set out;
	for (int i = 0; i < 2; i++) {
		FD_ZERO(&out);
		FD_SET(looks[i].fd, &out);
		TRY(syscall(SYS_poll, &looks[i], 1L, 1000L));
		TRY(syscall(SYS_ppoll, &looks[i], 1L, 0L, 0L, 8L));
		TRY(syscall(SYS_ppoll, &looks[i], 1L, nowhere, 0L, 8L));
		TRY(syscall(SYS_select, fd + 1L, 0L, &out, 0L, 0L));
		TRY(syscall(SYS_select, fd + 1L, 0L, &out, 0L, nowhere));
		TRY(syscall(SYS_pselect6, fd + 1L, 0L, &out, 0L, 0L, &mask));
		TRY(syscall(SYS_pselect6, fd + 1L, 0L, &out, 0L, nowhere, 0L));
		TRY(syscall(SYS_pselect6, fd + 1L, 0L, &out, 0L, 0L, nowhere));
	}
	TRY(syscall(SYS_close, copy));
	TRY(syscall(SYS_write, copy, "x", 1L));
	say_echo("not closed yet", fd);
	TRY(syscall(SYS_shutdown, fd, SHUT_WR));
	TRY(syscall(SYS_close, fd));
	// The number may be a file's now, and then it is the file's alone.
	int file = open("/proc/self/comm", O_RDONLY);
	TRY(read(file, bytes, 4) > 0);
	TRY(syscall(SYS_close, file));
	TRY(syscall(SYS_close, 9999L));
}

const struct test_case cases[] = {
	{"flags", FLOW, flags, send_back},
	{"copies", FLOW, copies, send_back},
	{"replaced", FLOW, replaced, send_back},
	{"used_again", FLOW, used_again, send_back},
	{"numbers", SERVED, numbers, numbers_peer},
	{"ranges", FLOW, ranges, send_back},
	{"everything_closed", FLOW, everything_closed, send_back},
	{"forked", FLOW, forked, send_back},
	{"forked_and_used", MIXED, forked_and_used, send_back},
	{"by_number", FLOW, by_number, send_back},
	{0},
};
