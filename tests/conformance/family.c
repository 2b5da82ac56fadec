// The frame of the conformance programs: children, and what one says to the peer.
#include "case.h"

// Sends back whatever comes.
void send_back(void)
{
	char bytes[4096];
	int fd = flow();
	for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0;)
		if (write(fd, bytes, n) != n)
			give_up("write");
	TRY(close(fd));
}

void say_echo(const char *label, int fd)
{
	char bytes[8] = {0};
	ssize_t sent = send(fd, "ping", 4, MSG_NOSIGNAL);
	int error = errno;
	ssize_t got = sent > 0 ? recv(fd, bytes, 4, MSG_WAITALL) : -1;
	printf("%s: %zd %zd %s %s\n", label, sent, got, bytes, sent < 0 ? strerrorname_np(error) : "");
}

// Makes a child, which starts with what stands in stdout's buffer written.
pid_t child(void)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0)
		give_up("fork");
	return pid;
}

void leave(int status)
{
	fflush(stdout);
	_exit(status);
}

void join(pid_t pid)
{
	int status;
	if (waitpid(pid, &status, 0) != pid)
		give_up("waitpid");
	printf("the child: %d %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

void say_names(int fd)
{
	union address name;
	socklen_t len = sizeof name;
	if (TRY(getsockname(fd, &name.any, &len)) == 0)
		say_address("ours", &name, len);
	len = sizeof name;
	if (TRY(getpeername(fd, &name.any, &len)) == 0)
		say_address("the peer", &name, len);
}
