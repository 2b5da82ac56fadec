// What calls for files make of a connection: splice(2) and its like, those for files with positions, ioctl(2).
#include "case.h"

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/xattr.h>

static void connected_and_idle(void)
{
	int fd = flow();
	await();
	close(fd);
}

static void as_a_file(void)
{
	char room[16];
	struct iovec piece = {room, sizeof room};
	struct stat status;
	off_t from = 0;
	int fd = flow(), file = memfd_create("file", 0), ends[2];
	if (pipe(ends) || write(file, "content", 7) != 7)
		give_up("a file");
	TRY(lseek(fd, 0, SEEK_SET));
	TRY(lseek(fd, 0, SEEK_END));
	TRY(pread(fd, room, sizeof room, 0));
	TRY(pwrite(fd, room, sizeof room, 0));
	TRY(preadv(fd, &piece, 1, 0));
	TRY(pwritev(fd, &piece, 1, 0));
	TRY(preadv2(fd, &piece, 1, 5, 0));
	TRY(pwritev2(fd, &piece, 1, 5, 0));
	TRY(pwritev2(fd, &piece, 0, -1, 0));
	TRY(copy_file_range(fd, NULL, file, NULL, 5, 0));
	TRY(copy_file_range(file, NULL, fd, NULL, 5, 0));
	TRY(ftruncate(fd, 0));
	TRY(fallocate(fd, 0, 0, 1));
	TRY(posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL));
	TRY(readahead(fd, 0, 1));
	TRY(fsync(fd));
	TRY(fdatasync(fd));
	TRY(sync_file_range(fd, 0, 1, 0));
	TRY(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
	TRY(fchdir(fd));
	TRY(fchmod(fd, 0600));
	TRY(flock(fd, 0));
	TRY(fstat(fd, &status));
	printf("a socket: %d, size %ld\n", S_ISSOCK(status.st_mode), (long)status.st_size);
	TRY(isatty(fd));
	TRY(fgetxattr(fd, "user.none", room, sizeof room));
	TRY(sendfile(fd, file, &from, 0));
	TRY(sendfile(fd, file, NULL, 0));
	TRY(sendfile(file, fd, NULL, 5));
	TRY(sendfile(fd, fd, NULL, 5));
	from = -1;
	TRY(sendfile(fd, file, &from, 5));
	from = 7;
	TRY(sendfile(fd, file, &from, 5));
	TRY(vmsplice(fd, &piece, 1, 0));
	TRY(tee(fd, ends[1], 5, 0));
	TRY(tee(ends[0], fd, 5, 0));
	TRY(splice(fd, NULL, file, NULL, 5, 0));
	TRY(splice(fd, NULL, fd, NULL, 5, 0));
	TRY(splice(fd, &from, ends[1], NULL, 5, 0));
	TRY(splice(ends[0], NULL, fd, &from, 5, 0));
	TRY(splice(fd, NULL, ends[1], NULL, 0, 0));
	TRY(splice(fd, NULL, ends[0], NULL, 5, 0));
	TRY(splice(ends[1], NULL, fd, NULL, 5, 0));
	set_nonblocking(fd);
	TRY(splice(fd, NULL, ends[1], NULL, 5, SPLICE_F_NONBLOCK));
	TRY(splice(ends[0], NULL, fd, NULL, 5, SPLICE_F_NONBLOCK));
	TRY(splice(fd, NULL, ends[1], NULL, 5, 0x100));
	tell();
}

static void requests(void)
{
	static const struct { unsigned long request; const char *name; } all[] = {
		{FIONREAD, "FIONREAD"}, {TIOCOUTQ, "SIOCOUTQ"}, {0x894b, "SIOCOUTQNSD"}, {0x8905, "SIOCATMARK"},
		{0x8906, "SIOCGSTAMP"}, {0x8907, "SIOCGSTAMPNS"}, {0x8903, "FIOGETOWN"}, {0x8904, "SIOCGPGRP"},
		{TCGETS, "TCGETS"}, {TIOCGWINSZ, "TIOCGWINSZ"}, {0x8900, "nothing"}, {0x8912, "SIOCGIFCONF"}, {FIOQSIZE, "FIOQSIZE"},
	};
	char room[16] = "12345";
	int fd = flow(), value;
	for (int round = 0; round < 2; round++) {
		for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
			long values[32] = {0};
			errno = 0;
			int result = ioctl(fd, all[i].request, values);
			printf("%s: %d %s %d\n", all[i].name, result, result ? strerrorname_np(errno) : "", (int)values[0]);
		}
		TRY(ioctl(fd, FIONREAD, NULL));
		TRY(ioctl(fd, FIONBIO, NULL));
		TRY(ioctl(fd, FIONREAD, (void *)1));
		if (round)
			break;
		tell();
		wait_for(fd, POLLIN);
		while (ioctl(fd, FIONREAD, &value) == 0 && value < 5)
			;
	}
	value = 1;
	TRY(ioctl(fd, FIONBIO, &value));
	TRY(read(fd, room, 5));
	TRY(read(fd, room, 5));
	TRY(fcntl(fd, F_GETFL) & O_NONBLOCK ? 1 : 0);
	value = 0;
	TRY(ioctl(fd, FIONBIO, &value));
	TRY(ioctl(fd, FIOCLEX));
	TRY(fcntl(fd, F_GETFD));
	TRY(ioctl(fd, FIONCLEX));
	TRY(fcntl(fd, F_GETFD));
	struct ifreq request = {.ifr_name = "us0"};
	TRY(ioctl(fd, SIOCGIFMTU, &request));
	TRY(request.ifr_mtu);
	TRY(ioctl(fd, SIOCGIFADDR, &request));
	TRY(fcntl(fd, F_SETPIPE_SZ, 4096));
	TRY(fcntl(fd, F_GETOWN));
	TRY(fcntl(fd, F_GET_SEALS));
	tell();
}

static void send_five(void)
{
	int fd = flow();
	await();
	TRY(send(fd, "12345", 5, 0));
	await();
	close(fd);
}

// Through pipes of several sizes, a piece at a time, until all has come; and back to the peer.
static void spliced(void)
{
	static const int sizes[] = {4096, 65536, 1 << 20};
	int fd = flow();
	for (int i = 0; i < 3; i++) {
		int ends[2];
		if (pipe(ends) || fcntl(ends[1], F_SETPIPE_SZ, sizes[i]) < 0)
			give_up("a pipe");
		tell();
		for (size_t left = 300000; left > 0;) {
			ssize_t in = splice(fd, NULL, ends[1], NULL, left, SPLICE_F_MOVE | SPLICE_F_MORE);
			if (in <= 0 || in > sizes[i])
				give_up("splice from the connection");
			left -= in;
			while (in > 0) {
				ssize_t out = splice(ends[0], NULL, fd, NULL, in, left > 0 ? SPLICE_F_MORE : 0);
				if (out <= 0)
					give_up("splice to the connection");
				in -= out;
			}
		}
		// A pipe with no room.
		tell();
		wait_for(fd, POLLIN);
		set_nonblocking(ends[1]);
		static char zeros[1 << 20];
		while (write(ends[1], zeros, sizeof zeros) > 0)
			;
		TRY(splice(fd, NULL, ends[1], NULL, 10, 0));
		TRY(splice(fd, NULL, ends[1], NULL, 10, SPLICE_F_NONBLOCK));
		close(ends[0]);
		signal(SIGPIPE, SIG_IGN);
		TRY(splice(fd, NULL, ends[1], NULL, 10, 0));
		close(ends[1]);
		char byte;
		TRY(recv(fd, &byte, 1, 0));
		if (pipe(ends))
			give_up("a pipe");
		TRY(splice(ends[0], NULL, fd, NULL, 10, SPLICE_F_NONBLOCK));
		close(ends[1]);
		TRY(splice(ends[0], NULL, fd, NULL, 10, 0));
		close(ends[0]);
	}
	int ends[2];
	if (pipe(ends))
		give_up("a pipe");
	tell();
	TRY(splice(fd, NULL, ends[1], NULL, 10, 0));
	if (write(ends[1], "last", 4) != 4)
		give_up("a pipe");
	TRY(shutdown(fd, SHUT_WR));
	TRY(splice(ends[0], NULL, fd, NULL, 10, 0));
}

static void send_and_take_back(void)
{
	int fd = flow();
	for (int i = 0; i < 3; i++) {
		await();
		for (int left = 300000; left > 0; left -= 30000) {
			write_pattern(fd, 30000);
			read_exactly(fd, 30000);
		}
		await();
		if (write(fd, "!", 1) != 1)
			give_up("write");
	}
	await();
	shutdown(fd, SHUT_WR);
	TRY(read_to_end(fd));
}

const struct test_case cases[] = {
	{"as_a_file", FLOW, as_a_file, connected_and_idle},
	{"spliced", FLOW, spliced, send_and_take_back},
	{"requests", FLOW, requests, send_five},
	{0},
};
