// sendfile(2).
#include "case.h"

#include <sys/mman.h>

// A file of the pattern's first bytes.
static int file_of(size_t len)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	write_pattern(fd, len);
	return fd;
}

static void read_three_hundred_thousand(void)
{
	int fd = flow();
	read_exactly(fd, 300000);
	TRY(read_to_end(fd));
}

static void whole(void)
{
	int fd = flow(), file = file_of(300000);
	off_t offset = 0;
	while (offset < 300000)
		if (sendfile(fd, file, &offset, 300000 - offset) <= 0)
			give_up("sendfile");
	TRY(offset);
	TRY(lseek(file, 0, SEEK_CUR));
	TRY(sendfile(fd, file, &offset, 10));
	TRY(offset);
}

static void at_the_position_of_the_file(void)
{
	int fd = flow(), file = file_of(300000);
	TRY(lseek(file, 0, SEEK_SET));
	TRY(sendfile(fd, file, NULL, 1000));
	TRY(lseek(file, 0, SEEK_CUR));
	size_t left = 299000;
	for (ssize_t n; left > 0 && (n = sendfile(fd, file, NULL, 500000)) > 0;)
		left -= n;
	TRY(left);
	TRY(lseek(file, 0, SEEK_CUR));
	TRY(sendfile(fd, file, NULL, 10));
}

// What does not fit is not lost.
static void without_waiting(void)
{
	int fd = flow(), file = file_of(20000000);
	off_t offset = 0;
	set_nonblocking(fd);
	ssize_t n;
	while ((n = sendfile(fd, file, &offset, 20000000)) > 0)
		;
	TRY(n);
	TRY(errno == EAGAIN);
	TRY(lseek(file, 0, SEEK_CUR));
	tell();
	while (offset < 20000000) {
		wait_for(fd, POLLOUT);
		if (sendfile(fd, file, &offset, 20000000 - offset) < 0 && errno != EAGAIN)
			give_up("sendfile");
	}
	TRY(offset);
}

static void read_all_when_told(void)
{
	int fd = flow();
	await();
	TRY(read_to_end(fd));
}

static void wrong_arguments(void)
{
	int fd = flow(), file = file_of(10), ends[2];
	off_t offset = -1;
	if (pipe(ends))
		give_up("pipe");
	TRY(sendfile(fd, file, &offset, 10));
	offset = 0;
	TRY(sendfile(fd, file, &offset, 0));
	TRY(sendfile(fd, -1, &offset, 10));
	TRY(sendfile(-1, file, &offset, 10));
	TRY(sendfile(fd, ends[0], &offset, 10));
	TRY(sendfile(fd, ends[1], NULL, 10));
	TRY(sendfile(fd, fd, NULL, 10));
	TRY(sendfile(ends[1], file, &offset, 10));
	TRY(offset);
	TRY(shutdown(fd, SHUT_WR));
	offset = 0;
	count_signal(SIGPIPE, 0);
	TRY(sendfile(fd, file, &offset, 10));
	TRY(signals_seen);
	TRY(offset);
}

static void read_nothing(void)
{
	int fd = flow();
	TRY(read_to_end(fd));
}

const struct test_case cases[] = {
	{"whole", FLOW, whole, read_three_hundred_thousand},
	{"at_the_position_of_the_file", FLOW, at_the_position_of_the_file, read_three_hundred_thousand},
	{"without_waiting", FLOW, without_waiting, read_all_when_told},
	{"wrong_arguments", FLOW, wrong_arguments, read_nothing},
	{0},
};
