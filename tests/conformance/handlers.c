// Signal handlers beside calls on sockets: what they may call, which of them ends a call (signal(7)), what they are told,
// and what the functions that set them say.
#include "case.h"

#include <pthread.h>
#include <sys/syscall.h>

// SIGUSR1 and SIGUSR2 come to the main thread, the first some times before the second.
static volatile sig_atomic_t firsts, seconds, is_over;
static pthread_t main_thread;

static void first(int number) { (void)number, firsts++; }
static void second(int number) { (void)number, seconds++; }

static void set(int number, void (*handler)(int), int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	if (sigaction(number, &action, NULL))
		give_up("sigaction");
}

static void *send_signals(void *unused)
{
	for (int i = 0; !is_over; i++) {
		usleep(2000);
		pthread_kill(main_thread, i < 10 ? SIGUSR1 : SIGUSR2);
	}
	return unused;
}

// What ends a call that is interrupted by a handler with SA_RESTART first, and by one without it then.
#define ENDED(call) \
	do { \
		pthread_t sender; \
		firsts = seconds = is_over = 0; \
		main_thread = pthread_self(); \
		if (pthread_create(&sender, NULL, send_signals, NULL)) \
			give_up("pthread_create"); \
		TRY(call); \
		int by = seconds ? 2 : 1; \
		is_over = 1; \
		pthread_join(sender, NULL); \
		printf("ended by a handler %s\n", by == 2 ? "without SA_RESTART" : "whatever its flags"); \
	} while (0)

static void which_handler(void)
{
	char byte = 0;
	int fd = flow(), set_of_one = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};
	epoll_ctl(set_of_one, EPOLL_CTL_ADD, fd, &event);
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	struct pollfd look = {.fd = fd, .events = POLLIN};
	fd_set in;
	FD_ZERO(&in);
	FD_SET(fd, &in);
	set(SIGUSR1, first, SA_RESTART);
	set(SIGUSR2, second, 0);
	ENDED(recv(fd, &byte, 1, 0));
	ENDED(read(fd, &byte, 1));
	ENDED(recvmsg(fd, &message, 0));
	// These are never started again, so that the first handler ends them.
	ENDED(poll(&look, 1, -1));
	ENDED(select(fd + 1, &in, NULL, NULL, NULL));
	ENDED(epoll_wait(set_of_one, &event, 1, -1));
	struct timeval limit = {.tv_sec = 60};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	ENDED(recv(fd, &byte, 1, 0));
	ENDED(recvmsg(fd, &message, 0));
	fill_up(fd);
	TRY(fcntl(fd, F_SETFL, 0));
	ENDED(send(fd, &byte, 1, 0));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	ENDED(send(fd, &byte, 1, 0));
	tell();
}

static void stay(void)
{
	int fd = flow();
	await();
	TRY(close(fd));
}

static void which_handler_of_accept(void)
{
	int waiting = listener();
	struct timeval limit = {.tv_sec = 60};
	set(SIGUSR1, first, SA_RESTART);
	set(SIGUSR2, second, 0);
	ENDED(accept(waiting, NULL, NULL));
	setsockopt(waiting, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	ENDED(accept(waiting, NULL, NULL));
}

static void which_handler_of_connect(void)
{
	union address address = absent_at(PORT);
	set(SIGUSR1, first, SA_RESTART);
	set(SIGUSR2, second, 0);
	ENDED(connect(stream(), &address.any, address_len));
}

// A signal that is blocked but for the time of a wait ends that, whenever it comes: each is one EINTR.
static volatile sig_atomic_t asked, answered;

static void *send_one_at_any_time(void *unused)
{
	unsigned seed = 1;
	for (int i = 0; i < 300; i++) {
		while (asked == answered)
			;
		for (volatile int spin = rand_r(&seed) % 30000; spin > 0; spin--)
			;
		answered++;
		pthread_kill(main_thread, SIGUSR1);
	}
	return unused;
}

static void at_any_time(void)
{
	pthread_t sender;
	sigset_t usual, none;
	int fd = flow(), set_of_one = epoll_create1(0), ended = 0;
	struct epoll_event event = {.events = EPOLLIN};
	epoll_ctl(set_of_one, EPOLL_CTL_ADD, fd, &event);
	struct pollfd look = {.fd = fd, .events = POLLIN};
	fd_set in;
	set(SIGUSR1, first, SA_RESTART);
	sigemptyset(&none);
	sigemptyset(&usual);
	sigaddset(&usual, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usual, NULL);
	main_thread = pthread_self();
	if (pthread_create(&sender, NULL, send_one_at_any_time, NULL))
		give_up("pthread_create");
	for (int i = 0; i < 300; i++) {
		int result = 0;
		FD_ZERO(&in);
		FD_SET(fd, &in);
		asked++;
		switch (i % 3) {
		case 0: result = ppoll(&look, 1, NULL, &none); break;
		case 1: result = pselect(fd + 1, &in, NULL, NULL, NULL, &none); break;
		case 2: result = epoll_pwait(set_of_one, &event, 1, -1, &none); break;
		}
		ended += result == -1 && errno == EINTR && firsts == i + 1;
	}
	TRY(ended);
	pthread_join(sender, NULL);
	tell();
}

// Calls on the flow that the interrupted thread uses at the same moment, too.
static int storm_fd, storm_listener;
static volatile sig_atomic_t sent_in_handler, wrong_in_handler;

static void call_much(int number)
{
	int error = errno;
	(void)number;
	struct pollfd look = {.fd = storm_fd, .events = POLLOUT};
	struct sockaddr_storage name;
	socklen_t len = sizeof name;
	wrong_in_handler += poll(&look, 1, 0) < 0;
	wrong_in_handler += accept(storm_listener, NULL, NULL) != -1 || errno != EAGAIN;
	wrong_in_handler += getpeername(storm_fd, (struct sockaddr *)&name, &len) != 0;
	int fd = socket(family, SOCK_STREAM, 0), copy = dup(storm_fd);
	wrong_in_handler += fd < 0 || copy < 0 || close(fd) || close(copy);
	if (sent_in_handler < 200) {
		ssize_t sent = send(storm_fd, "h", 1, MSG_DONTWAIT);
		wrong_in_handler += sent != 1 && errno != EAGAIN;
		sent_in_handler += sent == 1;
	}
	signals_seen++;
	errno = error;
}

static void storm(void)
{
	struct itimerval every = {.it_value.tv_usec = 500, .it_interval.tv_usec = 500}, never = {0};
	char bytes[64];
	storm_listener = listener();
	set_nonblocking(storm_listener);
	tell();
	wait_for(storm_listener, POLLIN);
	storm_fd = TRY_FD(accept(storm_listener, NULL, NULL));
	set(SIGALRM, call_much, SA_RESTART);
	setitimer(ITIMER_REAL, &every, NULL);
	long sent = 0, received = 0, wrong = 0;
	void *memory[100] = {0};
	while (sent < 2000 || sent_in_handler < 200) {
		// The handler may find the program anywhere.
		free(memory[sent % 100]);
		memory[sent % 100] = malloc(sent * 7919 % 3000);
		ssize_t now = send(storm_fd, "m", 1, 0);
		wrong += now != 1;
		sent += now == 1;
		now = recv(storm_fd, bytes, sizeof bytes, MSG_DONTWAIT);
		wrong += now < 0 && errno != EAGAIN;
		received += now > 0 ? now : 0;
	}
	// Until the last byte has come the handler goes on, and so do blocking calls.
	while (received < sent + sent_in_handler) {
		ssize_t now = recv(storm_fd, bytes, sizeof bytes, 0);
		wrong += now <= 0;
		received += now > 0 ? now : 0;
	}
	setitimer(ITIMER_REAL, &never, NULL);
	TRY(wrong);
	TRY(wrong_in_handler);
	TRY(sent_in_handler);
	TRY(received == sent + sent_in_handler);
	TRY(shutdown(storm_fd, SHUT_WR));
	TRY(recv(storm_fd, bytes, sizeof bytes, 0));
}

static void echo_to_storm(void)
{
	union address address = ours_at(PORT);
	await();
	int fd = stream();
	TRY(connect(fd, &address.any, address_len));
	char bytes[4096];
	for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, 0)) > 0;)
		send(fd, bytes, n, 0);
	TRY(close(fd));
}

// What comes with a signal, and in which order; some of them come in the middle of a call.
static volatile sig_atomic_t next_value, wrong_values;

static void note_value(int number, siginfo_t *info, void *context)
{
	bool as_sent = number == SIGRTMIN + 1 && info->si_code == SI_QUEUE && info->si_pid == getpid();
	wrong_values += !as_sent || context == NULL || info->si_value.sival_int != next_value;
	next_value++;
}

static void *queue_values(void *unused)
{
	for (int i = 0; i < 500;) {
		// It may be queued RLIMIT_SIGPENDING times.
		i += sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}) == 0;
		usleep(i % 3 ? 0 : 100);
	}
	return unused;
}

static void values(void)
{
	char byte = 0;
	int fd = flow();
	pthread_t sender;
	sigset_t all, usual;
	struct sigaction action = {.sa_sigaction = note_value, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigaction(SIGRTMIN + 1, &action, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &usual);
	if (pthread_create(&sender, NULL, queue_values, NULL))
		give_up("pthread_create");
	pthread_sigmask(SIG_SETMASK, &usual, NULL);
	while (next_value < 500)
		recv(fd, &byte, 1, MSG_DONTWAIT);
	pthread_join(sender, NULL);
	TRY(wrong_values);
	tell();
}

static char alternate[1 << 16];
static volatile sig_atomic_t is_on_alternate, is_blocked, depth, depth_max, raises_again;

static void look_around(int number)
{
	sigset_t now;
	char here;
	depth++;
	if (depth_max < depth)
		depth_max = depth;
	is_on_alternate = &here >= alternate && &here < alternate + sizeof alternate;
	pthread_sigmask(SIG_BLOCK, NULL, &now);
	is_blocked = sigismember(&now, SIGUSR2) * 10 + sigismember(&now, number);
	if (depth == 1 && raises_again)
		raise(number);
	depth--;
}

static void say_action(const char *label, int number)
{
	struct sigaction action;
	if (sigaction(number, NULL, &action))
		give_up("sigaction");
	const char *handler = action.sa_handler == SIG_DFL ? "SIG_DFL"
		: action.sa_handler == SIG_IGN                ? "SIG_IGN"
		: action.sa_handler == first                  ? "first"
		: action.sa_handler == second                 ? "second"
		: action.sa_handler == look_around            ? "look_around"
		                                              : "another";
	printf("%s: %s %#x %d\n", label, handler, (unsigned)action.sa_flags, sigismember(&action.sa_mask, SIGUSR2));
}

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" // The old functions are tested, too.
#pragma GCC diagnostic ignored "-Wrestrict"

// The flags, and what the functions say of the handler before, before a socket is used and after.
static void say_actions(int number)
{
	struct sigaction action = {.sa_handler = first, .sa_flags = SA_RESTART}, old;
	say_action("inherited", number);
	TRY(sigaction(number, &action, &old));
	TRY(old.sa_handler == SIG_DFL);
	say_action("sigaction", number);
	struct sigaction *same = &action;
	TRY(sigaction(number, &action, same));
	TRY(action.sa_handler == first && action.sa_flags);
	TRY(signal(number, second) == first);
	say_action("signal", number);
	TRY(siginterrupt(number, 1));
	say_action("siginterrupt", number);
	TRY(signal(number, first) == second);
	say_action("signal after it", number);
	TRY(siginterrupt(number, 0));
	say_action("siginterrupt back", number);
	TRY(sigignore(number));
	say_action("sigignore", number);
	TRY(sigset(number, second) == SIG_IGN);
	say_action("sigset", number);
	TRY(sigset(number, SIG_HOLD) == second);
	TRY(sigset(number, first) == SIG_HOLD);
	TRY(sysv_signal(number, second) == first);
	say_action("sysv_signal", number);
	raise(number);
	say_action("after it was called", number);
	action = (struct sigaction){.sa_handler = look_around, .sa_flags = SA_ONSTACK | SA_RESETHAND};
	sigaddset(&action.sa_mask, SIGUSR2);
	TRY(sigaction(number, &action, NULL));
	say_action("SA_RESETHAND", number);
	raise(number);
	TRY(is_on_alternate);
	TRY(is_blocked);
	say_action("after it was called", number);
	action = (struct sigaction){.sa_handler = look_around, .sa_flags = SA_NODEFER};
	TRY(sigaction(number, &action, NULL));
	raises_again = true;
	raise(number);
	raises_again = false;
	TRY(is_on_alternate);
	TRY(is_blocked);
	TRY(depth_max);
	TRY(signal(number, SIG_DFL) == look_around);
	say_action("signal", number);
}

// By the system call, whose sigaction is another one.
static void say_raw(int number)
{
	struct { void (*handler)(int); unsigned long flags; void *restorer; uint64_t mask; } old;
	TRY(syscall(SYS_rt_sigaction, number, NULL, &old, sizeof old.mask));
	printf("raw: %d %#lx\n", old.handler == first ? 1 : old.handler == SIG_DFL ? 0 : -1, old.flags);
}

static void actions(void)
{
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
	sigaltstack(&stack, NULL);
	set(SIGUSR1, first, SA_RESTART | SA_NODEFER);
	say_actions(SIGRTMIN + 2);
	int fd = listener();
	say_action("of before", SIGUSR1);
	say_actions(SIGRTMIN + 3);
	say_actions(SIGCHLD);
	struct sigaction action = {.sa_handler = first};
	say_raw(SIGUSR1);
	say_raw(SIGTERM);
	for (int number = -1; number < 67; number++) {
		int failed = sigaction(number, &action, NULL);
		printf("%d: %d %d\n", number, failed, failed ? errno : 0);
	}
	TRY(signal(SIGKILL, first) == SIG_ERR);
	TRY(signal(SIGTERM, SIG_ERR) == SIG_ERR);
	TRY(close(fd));
}

// Two threads set the same signal at once: what each of them replaces says who was last.
static volatile sig_atomic_t round_of_other, done_by_other;
static void (*replaced_by_other)(int);

static void *ignore_many_times(void *unused)
{
	for (int i = 1; i <= 3000; i++) {
		while (round_of_other != i)
			;
		for (volatile int spin = i % 1000; spin > 0; spin--)
			;
		replaced_by_other = signal(SIGUSR1, SIG_IGN);
		done_by_other = i;
	}
	return unused;
}

static void two_at_once(void)
{
	pthread_t other;
	int fd = listener(), wrong = 0;
	if (pthread_create(&other, NULL, ignore_many_times, NULL))
		give_up("pthread_create");
	for (int i = 1; i <= 3000; i++) {
		signal(SIGUSR1, SIG_DFL);
		round_of_other = i;
		void (*replaced)(int) = signal(SIGUSR1, first);
		while (done_by_other != i)
			;
		struct sigaction now;
		sigaction(SIGUSR1, NULL, &now);
		if (replaced_by_other == first)
			wrong += replaced != SIG_DFL || now.sa_handler != SIG_IGN;
		else
			wrong += replaced_by_other != SIG_DFL || replaced != SIG_IGN || now.sa_handler != first;
	}
	TRY(wrong);
	TRY(pthread_join(other, NULL));
	TRY(close(fd));
}

const struct test_case cases[] = {
	{"which_handler", FLOW, which_handler, stay},
	{"which_handler_of_accept", PASSED, which_handler_of_accept, NULL},
	{"which_handler_of_connect", SERVED, which_handler_of_connect, NULL},
	{"at_any_time", FLOW, at_any_time, stay},
	{"storm", SERVED, storm, echo_to_storm},
	{"values", FLOW, values, stay},
	{"actions", PASSED, actions, NULL},
	{"two_at_once", PASSED, two_at_once, NULL},
	{0},
};
