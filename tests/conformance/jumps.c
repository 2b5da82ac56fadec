// Signal handlers that do not return to the call on a socket that they interrupt: they jump out of it (siglongjmp(3)), or end
// their thread (pthread_exit(3)).
#include "case.h"

#include <pthread.h>
#include <setjmp.h>
#include <time.h>

static void set(int number, void (*handler)(int), int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	if (sigaction(number, &action, NULL))
		give_up("sigaction");
}

static void first(int number) { (void)number; }

static sigjmp_buf out;

static void jump(int number) { siglongjmp(out, number); }

static void jumped(void)
{
	char byte;
	int fd = flow();
	struct itimerval soon = {.it_value.tv_usec = 20000};
	set(SIGALRM, jump, 0);
	for (int i = 0; i < 3; i++) {
		int number = sigsetjmp(out, 1);
		if (number == 0) {
			setitimer(ITIMER_REAL, &soon, NULL);
			TRY(recv(fd, &byte, 1, 0));
		}
		printf("signal %d\n", number);
	}
	set(SIGALRM, first, 0);
	tell();
	TRY(recv(fd, &byte, 1, 0));
	TRY(send(fd, &byte, 1, 0));
	TRY(close(fd));
}

static void answer(void)
{
	char byte = 'a';
	int fd = flow();
	await();
	TRY(send(fd, &byte, 1, 0));
	TRY(recv(fd, &byte, 1, 0));
	TRY(close(fd));
}

static void end_thread(int number) { pthread_exit((void *)(long)number); }

static void *receive(void *fd)
{
	char byte;
	recv(*(int *)fd, &byte, 1, 0);
	return NULL;
}

static void thread_ended(void)
{
	void *result;
	pthread_t thread;
	int fd = flow();
	set(SIGUSR1, end_thread, 0);
	if (pthread_create(&thread, NULL, receive, &fd))
		give_up("pthread_create");
	usleep(20000);
	pthread_kill(thread, SIGUSR1);
	TRY(pthread_join(thread, &result));
	TRY(result == (void *)SIGUSR1);
	char byte;
	tell();
	TRY(recv(fd, &byte, 1, 0));
	TRY(send(fd, &byte, 1, 0));
	TRY(close(fd));
}

// How often a handler does not let this call return.
#define LEAVE(call) \
	do { \
		struct itimerval soon = {.it_value.tv_usec = 20000}; \
		if (sigsetjmp(out, 1) == 0) { \
			setitimer(ITIMER_REAL, &soon, NULL); \
			TRY(call); \
		} \
		puts("left: " #call); \
	} while (0)

static void *wait_for_cancel(void *unused)
{
	pause();
	return unused;
}

// Whoever waits in an epoll instance is woken by that, too.
static void cancel_another(void)
{
	pthread_t thread;
	void *result;
	if (pthread_create(&thread, NULL, wait_for_cancel, NULL))
		give_up("pthread_create");
	pthread_cancel(thread);
	TRY(pthread_join(thread, &result));
}

static long processor_time_ms(void)
{
	struct timespec time;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static int left_flow;

static void jump_out_of_second(int number)
{
	// A wait in a handler, in which the next one finds it.
	char byte;
	(void)number;
	struct itimerval soon = {.it_value.tv_usec = 20000};
	set(SIGALRM, jump, SA_NODEFER);
	setitimer(ITIMER_REAL, &soon, NULL);
	recv(left_flow, &byte, 1, 0);
}

// Calls that a handler has left for good keep nothing from being closed, or from sleeping.
static void left(void)
{
	char byte;
	void *result;
	pthread_t thread;
	int fd = left_flow = flow(), waiting = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};
	struct pollfd look = {.fd = fd, .events = POLLIN};
	epoll_ctl(waiting, EPOLL_CTL_ADD, fd, &event);
	set(SIGALRM, jump, 0);
	LEAVE(recv(fd, &byte, 1, 0));
	LEAVE(recv(fd, &byte, 1, 0));
	LEAVE(poll(&look, 1, -1));
	LEAVE(epoll_wait(waiting, &event, 1, -1));
	set(SIGALRM, jump_out_of_second, SA_NODEFER);
	LEAVE(recv(fd, &byte, 1, 0));
	set(SIGUSR1, end_thread, 0);
	if (pthread_create(&thread, NULL, receive, &fd))
		give_up("pthread_create");
	usleep(20000);
	pthread_kill(thread, SIGUSR1);
	TRY(pthread_join(thread, &result));
	cancel_another();
	long start = processor_time_ms();
	TRY(epoll_wait(waiting, &event, 1, 300));
	TRY(processor_time_ms() - start < 150);
	TRY(close(fd));
	// The peer has seen its end.
	await();
}

static void see_end(void)
{
	char byte;
	int fd = flow();
	TRY(recv(fd, &byte, 1, 0));
	tell();
	TRY(close(fd));
}

static void left_accept(void)
{
	set(SIGALRM, jump, 0);
	for (int i = 0; i < 2; i++) {
		int waiting = listener();
		LEAVE(accept(waiting, NULL, NULL));
		TRY(close(waiting));
	}
	tell();
	await();
}

static void find_nobody(void)
{
	union address address = ours_at(PORT);
	await();
	TRY(connect(stream(), &address.any, address_len));
	tell();
}

const struct test_case cases[] = {
	{"jumped", FLOW, jumped, answer},
	{"thread_ended", FLOW, thread_ended, answer},
	{"left", FLOW, left, see_end},
	{"left_accept", PASSED, left_accept, find_nobody},
	{0},
};
