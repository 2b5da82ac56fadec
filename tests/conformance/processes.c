// fork(2), exec(3), posix_spawn(3), popen(3), unix(7): a flow that goes to another process or another program.
#include "case.h"
#include <spawn.h>

// Sends back whatever comes.
static void echo(void)
{
	char bytes[4096];
	int fd = flow();
	for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0;)
		if (write(fd, bytes, n) != n)
			give_up("write");
	TRY(close(fd));
}

static void say_echo(const char *label, int fd)
{
	char bytes[8] = {0};
	ssize_t sent = send(fd, "ping", 4, MSG_NOSIGNAL);
	int error = errno;
	ssize_t got = sent > 0 ? recv(fd, bytes, 4, MSG_WAITALL) : -1;
	printf("%s: %zd %zd %s %s\n", label, sent, got, bytes, sent < 0 ? strerrorname_np(error) : "");
}

// Makes a child, which starts with what stands in stdout's buffer written.
static pid_t child(void)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0)
		give_up("fork");
	return pid;
}

static void leave(int status)
{
	fflush(stdout);
	_exit(status);
}

static void join(pid_t pid)
{
	int status;
	if (waitpid(pid, &status, 0) != pid)
		give_up("waitpid");
	printf("the child: %d %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static void say_names(int fd)
{
	union address name;
	socklen_t len = sizeof name;
	if (TRY(getsockname(fd, &name.any, &len)) == 0)
		say_address("ours", &name, len);
	len = sizeof name;
	if (TRY(getpeername(fd, &name.any, &len)) == 0)
		say_address("the peer", &name, len);
}

// The way of most servers: the child serves, the parent closes.
static void handed_to_the_child(void)
{
	int fd = flow();
	pid_t pid = child();
	if (pid == 0) {
		say_echo("the child", fd);
		say_names(fd);
		say_readiness("the child's", fd);
		TRY(fcntl(fd, F_GETFL));
		TRY(shutdown(fd, SHUT_WR));
		TRY(read_to_end(fd));
		leave(7);
	}
	TRY(close(fd));
	join(pid);
}

// The parent has closed it before the child begins.
static void closed_by_the_parent_first(void)
{
	int fd = flow(), ends[2];
	char byte;
	if (pipe(ends))
		give_up("pipe");
	pid_t pid = child();
	if (pid == 0) {
		TRY(read(ends[0], &byte, 1));
		say_echo("the child", fd);
		int copy = dup(fd);
		TRY(close(fd));
		say_echo("its copy", copy);
		pid_t grandchild = child();
		if (grandchild == 0) {
			say_echo("the grandchild", copy);
			leave(8);
		}
		TRY(close(copy));
		join(grandchild);
		leave(7);
	}
	TRY(close(fd));
	TRY(write(ends[1], "x", 1));
	join(pid);
}

// The child of a child that has never used it.
static void handed_to_the_grandchild(void)
{
	int fd = flow(), ends[2], alive[2];
	char byte;
	if (pipe(ends) || pipe(alive))
		give_up("pipe");
	pid_t pid = child();
	if (pid == 0) {
		if (child() == 0) {
			TRY(read(ends[0], &byte, 1));
			say_echo("the grandchild", fd);
			leave(8);
		}
		close(fd);
		_exit(7);
	}
	close(fd);
	join(pid);
	TRY(write(ends[1], "x", 1));
	// Until the grandchild has ended.
	close(alive[1]);
	TRY(read(alive[0], &byte, 1));
}

static void used_by_both(void)
{
	int fd = flow(), status;
	say_echo("the parent", fd);
	for (int round = 0; round < 3; round++) {
		pid_t pid = child();
		if (pid == 0) {
			say_echo("the child", fd);
			close(fd);
			leave(round);
		}
		TRY(waitpid(pid, &status, 0) == pid);
		say_echo("the parent again", fd);
	}
	say_names(fd);
	say_readiness("the parent's", fd);
	TRY(fcntl(fd, F_SETFL, O_NONBLOCK));
	char byte;
	TRY(recv(fd, &byte, 1, 0));
	set_nonblocking(fd);
}

// Flags of the description are shared.
static void nonblocking(void)
{
	int fd = flow();
	char byte;
	set_nonblocking(fd);
	pid_t pid = child();
	if (pid == 0) {
		TRY(recv(fd, &byte, 1, 0));
		TRY(fcntl(fd, F_SETFL, 0));
		leave(7);
	}
	join(pid);
	TRY(fcntl(fd, F_GETFL));
	say_echo("the parent", fd);
}

static void watched_by_the_child(void)
{
	int fd = flow(), epfd;
	pid_t pid = child();
	if (pid == 0) {
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = 7};
		char bytes[4];
		TRY_FD(epfd = epoll_create1(0));
		TRY(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
		TRY(epoll_wait(epfd, &event, 1, 0));
		TRY(send(fd, "ping", 4, 0));
		TRY(epoll_wait(epfd, &event, 1, -1));
		say_bits("it", event.events);
		TRY(event.data.u32);
		TRY(recv(fd, bytes, 4, MSG_WAITALL));
		TRY(epoll_wait(epfd, &event, 1, 0));
		leave(7);
	}
	TRY(close(fd));
	join(pid);
}

static void bulk_by_the_child(void)
{
	int fd = flow();
	pid_t pid = child();
	if (pid == 0) {
		write_pattern(fd, 3000000);
		TRY(shutdown(fd, SHUT_WR));
		TRY(read_to_end(fd));
		leave(7);
	}
	TRY(close(fd));
	join(pid);
}

static void bulk_peer(void)
{
	int fd = flow();
	TRY(read_to_end(fd));
	write_pattern(fd, 2000000);
	TRY(close(fd));
}

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

// Runs a program in a child, with the flow on the numbers that it reads from and writes to.
static void run_on(int fd, char *const argv[])
{
	pid_t pid = child();
	if (pid == 0) {
		dup2(fd, 0);
		dup2(fd, 1);
		close(fd);
		execv(argv[0], argv);
		_exit(9);
	}
	join(pid);
}

// As inetd does it, and every way to start a program that does it for the caller.
static void programs(void)
{
	char line[32] = {0};
	int fd = flow(), low = dup2(fd, 9);
	// The peer's lines come back when the program has sent them.
	run_on(fd, (char *[]){"/bin/echo", "from exec", NULL});
	TRY(recv(fd, line, sizeof line, 0));
	TRY(system("echo from system >&9"));
	TRY(recv(fd, line, sizeof line, 0));
	FILE *pipe = popen("cat >&9", "w");
	fputs("from popen\n", pipe);
	TRY(pclose(pipe));
	TRY(recv(fd, line, sizeof line, 0));
	pid_t pid;
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, low, 1);
	TRY(posix_spawn(&pid, "/bin/echo", &actions, NULL, (char *[]){"echo", "from spawn", NULL}, environ));
	join(pid);
	TRY(recv(fd, line, sizeof line, 0));
	fflush(stdout);
	pid = vfork();
	if (pid == 0) {
		dup2(low, 1);
		execl("/bin/echo", "echo", "from", "vfork", "and", "more", "words", "than", "registers", NULL);
		_exit(9);
	}
	join(pid);
	TRY(recv(fd, line, sizeof line, 0));
	puts(line);
	// What closes on exec is not there.
	TRY(fcntl(low, F_SETFD, FD_CLOEXEC));
	TRY(system("echo nowhere 2>/dev/null >&9"));
	say_names(fd);
	TRY(fcntl(fd, F_GETFL));
}

// The C library's own calls.
static void streams(void)
{
	char line[32];
	int fd = flow(), out = dup(1);
	FILE *stream = fdopen(dup(fd), "r+");
	fputs("a line\n", stream);
	fflush(stream);
	puts(fgets(line, sizeof line, stream));
	TRY(fclose(stream));
	TRY(dprintf(fd, "%s %d %.1f %d %d %d\n", "formatted", 1, 2.5, 3, 4, 5));
	TRY(recv(fd, line, sizeof line, 0));
	fflush(stdout);
	dup2(fd, 1);
	puts("on the standard output");
	fflush(stdout);
	dup2(out, 1);
	TRY(recv(fd, line, sizeof line, 0));
	say_echo("afterwards", fd);
}

static void pass(int to, int fd)
{
	char byte = 'x', control[CMSG_SPACE(sizeof fd)] = {0};
	struct iovec piece = {&byte, 1};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	TRY(sendmsg(to, &message, 0));
}

static int take(int from)
{
	int fd = -1;
	char byte, control[CMSG_SPACE(sizeof fd)];
	struct iovec piece = {&byte, 1};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	TRY(recvmsg(from, &message, 0));
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (header)
		memcpy(&fd, CMSG_DATA(header), sizeof fd);
	return fd;
}

// By SCM_RIGHTS, to a process that was there before the flow.
static void passed_on(void)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		give_up("socketpair");
	pid_t pid = child();
	if (pid == 0) {
		close(0);
		int fd = take(ends[0]);
		say_echo("the child", fd);
		say_names(fd);
		leave(TRY(close(fd)));
	}
	int fd = flow();
	say_echo("the parent", fd);
	pass(ends[1], fd);
	TRY(close(fd));
	join(pid);
}

static void adopted_anew(int waiting)
{
	int value;
	union address name;
	socklen_t len = sizeof value;
	TRY(getsockopt(waiting, SOL_SOCKET, SO_ACCEPTCONN, &value, &len));
	TRY(value);
	TRY(fcntl(waiting, F_GETFL));
	tell();
	len = sizeof name;
	int fd = TRY_FD(accept(waiting, &name.any, &len));
	say_address("the peer", &name, len);
	say_echo("accepted", fd);
	TRY(close(fd));
	// In an event loop, which is steered all of them from its second wait on.
	int epfd = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};
	TRY(epoll_ctl(epfd, EPOLL_CTL_ADD, waiting, &event));
	for (int round = 0; round < 2; round++) {
		tell();
		TRY(epoll_wait(epfd, &event, 1, -1));
		fd = TRY_FD(accept(waiting, NULL, NULL));
		say_echo("accepted", fd);
		TRY(close(fd));
	}
}

static void adopted(void)
{
	if (renewed() >= 0)
		return adopted_anew(renewed());
	union address address = ours_at(PORT);
	int waiting = stream(), on = 1;
	setsockopt(waiting, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(waiting, &address.any, address_len) || listen(waiting, 16))
		give_up("listen");
	renew(waiting);
}

static void adopted_peer(void)
{
	char bytes[4];
	union address address = ours_at(PORT);
	for (int round = 0; round < 3; round++) {
		await();
		int fd = stream();
		TRY(connect(fd, &address.any, address_len));
		TRY(recv(fd, bytes, 4, MSG_WAITALL));
		TRY(send(fd, bytes, 4, 0));
		TRY(recv(fd, bytes, 4, 0));
		close(fd);
	}
}

const struct test_case cases[] = {
	{"handed_to_the_child", FLOW, handed_to_the_child, echo},
	{"closed_by_the_parent_first", FLOW, closed_by_the_parent_first, echo},
	{"handed_to_the_grandchild", FLOW, handed_to_the_grandchild, echo},
	{"used_by_both", FLOW, used_by_both, echo},
	{"nonblocking", FLOW, nonblocking, echo},
	{"watched_by_the_child", FLOW, watched_by_the_child, echo},
	{"bulk_by_the_child", FLOW, bulk_by_the_child, bulk_peer},
	{"closed_by_one", FLOW, closed_by_one, closed_by_one_peer},
	{"closed_unread", FLOW, closed_unread, closed_unread_peer},
	{"programs", FLOW, programs, echo},
	{"streams", FLOW, streams, echo},
	{"passed_on", FLOW, passed_on, echo},
	{"adopted", MIXED, adopted, adopted_peer},
	{0},
};
