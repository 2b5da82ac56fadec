// exec(3), posix_spawn(3), popen(3), stdio(3), unix(7): flows and listeners that go to another program, a stream or
// another process, and come from there.
#include "case.h"
#include <spawn.h>

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

// A program is started while the answer to a SYN is awaited, which goes on.
static void on_its_way(void)
{
	union address address = absent_at(PORT);
	int fd = stream();
	set_nonblocking(fd);
	TRY(connect(fd, &address.any, address_len));
	TRY(system("true"));
	TRY(connect(fd, &address.any, address_len));
	say_readiness("on its way", fd);
	TRY(close(fd));
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

// By exec in the process that has the flow: the program is this one's successor.
static void replaced(void)
{
	int fd = flow();
	TRY(fcntl(fd, F_SETFD, FD_CLOEXEC));
	TRY(execl("/absent", "absent", NULL));
	say_echo("after a failed exec", fd);
	say_names(fd);
	fflush(stdout);
	dup2(fd, 0);
	dup2(fd, 1);
	execl("/bin/cat", "cat", NULL);
	give_up("exec");
}

static void replaced_peer(void)
{
	char bytes[4];
	int fd = flow();
	TRY(recv(fd, bytes, 4, MSG_WAITALL));
	TRY(send(fd, bytes, 4, 0));
	for (int round = 0; round < 3; round++) {
		TRY(send(fd, "ping", 4, 0));
		TRY(recv(fd, bytes, 4, MSG_WAITALL));
	}
	TRY(shutdown(fd, SHUT_WR));
	TRY(recv(fd, bytes, 4, 0));
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

// Several at once, looked at before they are taken.
static void passed_on_together(void)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
		give_up("socketpair");
	struct iovec pieces[2] = {{"xy", 2}, {"z", 1}};
	union { char bytes[CMSG_SPACE(2 * sizeof(int))]; struct cmsghdr header; } controls[2];
	struct mmsghdr messages[2] = {0};
	for (int at = 0; at < 2; at++)
		messages[at].msg_hdr = (struct msghdr){.msg_iov = &pieces[at], .msg_iovlen = 1, .msg_control = &controls[at], .msg_controllen = sizeof controls[at]};
	pid_t pid = child();
	if (pid == 0) {
		char bytes[2];
		pieces[0].iov_base = pieces[1].iov_base = bytes;
		TRY(recvmsg(ends[0], &messages[0].msg_hdr, MSG_PEEK | MSG_CMSG_CLOEXEC));
		int fds[2];
		memcpy(fds, CMSG_DATA(&controls[0].header), sizeof fds);
		TRY(fcntl(fds[0], F_GETFD));
		say_echo("the one that was looked at", fds[0]);
		close(fds[0]), close(fds[1]);
		messages[0].msg_hdr.msg_controllen = sizeof controls[0];
		TRY(recvmmsg(ends[0], messages, 2, 0, NULL));
		TRY(messages[1].msg_len);
		memcpy(fds, CMSG_DATA(&controls[1].header), sizeof fds);
		TRY(fcntl(fds[0], F_GETFD));
		say_echo("the second message's", fds[0]);
		say_names(fds[1]);
		say_echo("its other one", fds[1]);
		leave(7);
	}
	int fd = flow();
	say_echo("the parent", fd);
	for (int at = 0; at < 2; at++) {
		int fds[2] = {fd, fd};
		controls[at].header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fds)};
		memcpy(CMSG_DATA(&controls[at].header), fds, sizeof fds);
	}
	TRY(sendmmsg(ends[1], messages, 2, 0));
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

// What a process leaves at a listener that goes to one that was there before the listener: that one hears of clients only.
static void left_to_a_stranger(void)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		give_up("socketpair");
	pid_t stranger = child();
	if (stranger == 0) {
		char bytes[4];
		int fd = TRY_FD(accept(take(ends[0]), NULL, NULL));
		TRY(recv(fd, bytes, 4, MSG_WAITALL));
		TRY(send(fd, bytes, 4, 0));
		leave(TRY(close(fd)));
	}
	int waiting = unattended_listener(), epfd;
	pid_t pid = child();
	if (pid == 0) {
		struct epoll_event event = {.events = EPOLLIN};
		TRY_FD(epfd = epoll_create1(0));
		TRY(epoll_ctl(epfd, EPOLL_CTL_ADD, waiting, &event));
		for (int round = 0; round < 2; round++) {
			tell();
			TRY(epoll_wait(epfd, &event, 1, -1));
			if (round == 0)
				TRY(close(TRY_FD(accept(waiting, NULL, NULL))));
		}
		leave(7);
	}
	join(pid);
	pass(ends[1], waiting);
	TRY(close(waiting));
	join(stranger);
}

static void left_to_a_stranger_peer(void)
{
	char bytes[4];
	union address address = ours_at(PORT);
	await();
	int first = stream();
	TRY(connect(first, &address.any, address_len));
	TRY(recv(first, bytes, 1, 0));
	await();
	// It may be reset once, by the close.
	for (;;) {
		int fd = stream();
		connect(fd, &address.any, address_len);
		send(fd, "ping", 4, MSG_NOSIGNAL);
		if (recv(fd, bytes, 4, MSG_WAITALL) == 4)
			break;
		close(fd);
	}
}

static int is_unix(int fd)
{
	struct stat stat;
	char line[512];
	unsigned long inode;
	int found = 0;
	FILE *sockets = fopen("/proc/net/unix", "r");
	if (!sockets || fstat(fd, &stat))
		give_up("/proc/net/unix");
	while (fgets(line, sizeof line, sockets))
		found |= sscanf(line, "%*s %*s %*s %*s %*s %*s %lu", &inode) == 1 && inode == stat.st_ino;
	fclose(sockets);
	return found;
}

// A process that has much to do, and that nobody else accepts beside.
static void late_and_alone(void)
{
	int waiting = unattended_listener(), epfd;
	pid_t pid = child();
	if (pid == 0) {
		struct epoll_event event = {.events = EPOLLIN};
		TRY_FD(epfd = epoll_create1(0));
		TRY(epoll_ctl(epfd, EPOLL_CTL_ADD, waiting, &event));
		for (int round = 0; round < 3; round++) {
			tell();
			TRY(epoll_wait(epfd, &event, 1, -1));
			if (round == 2)
				poll(NULL, 0, 500);
			int fd = TRY_FD(accept(waiting, NULL, NULL));
			TRY(is_unix(fd));
			TRY(close(fd));
		}
		leave(7);
	}
	join(pid);
}

static void late_and_alone_peer(void)
{
	char byte;
	union address address = ours_at(PORT);
	for (int round = 0; round < 3; round++) {
		await();
		int fd = stream();
		TRY(connect(fd, &address.any, address_len));
		TRY(recv(fd, &byte, 1, 0));
		close(fd);
	}
}

const struct test_case cases[] = {
	{"programs", FLOW, programs, send_back},
	{"on_its_way", SERVED, on_its_way, NULL},
	{"streams", FLOW, streams, send_back},
	{"replaced", FLOW, replaced, replaced_peer},
	{"passed_on", FLOW, passed_on, send_back},
	{"passed_on_together", FLOW, passed_on_together, send_back},
	{"adopted", MIXED, adopted, adopted_peer},
	{"left_to_a_stranger", MIXED, left_to_a_stranger, left_to_a_stranger_peer},
	{"late_and_alone", MIXED, late_and_alone, late_and_alone_peer},
	{0},
};
