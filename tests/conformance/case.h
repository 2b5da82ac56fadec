// The frame of the conformance programs: a case is what one process does on the host under test and what its peer does
// on the other, in step with each other. Both print what every call returned; the transcripts of a run on the kernel
// and of a preloaded run have to be equal.
//
//   PROGRAM list                        the cases, and how each is to be served
//   PROGRAM CASE ours|peer 4|6 opened|accepted OURS_V4 PEER_V4 OURS_V6 PEER_V6
//                                       one side of a case; standard input is a stream to the other side
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum serving {
	FLOW,   // Over one flow that flow() opens: run with either side opening it, and served by the library.
	SERVED, // Opens its own flows; the kernel's TCP sees none of their segments.
	DATAGRAMS, // Sends or receives UDP datagrams through the rings.
	MIXED,  // Opens flows, and has the kernel serve something too.
	PASSED, // The library opens no flow.
	ANYHOW, // It depends on the family.
};

struct test_case {
	const char *name;
	enum serving serving;
	void (*ours)(void);
	void (*peer)(void); // NULL: the peer does nothing.
};

// Each program has one such table, ended by a name of NULL.
extern const struct test_case cases[];

// Prints the call and what it returned, with the name of errno where that is -1; the value of the expression.
#define TRY(call) (errno = 0, report(#call, (long)(call)))
// The same for a call that returns a descriptor, whose number may differ.
#define TRY_FD(call) ((int)(errno = 0, report_fd(#call, (call))))

long report(const char *call, long result);
int report_fd(const char *call, int fd);

// Ends the program because the case itself, not what it tests, went wrong.
void give_up(const char *why) __attribute__((noreturn));

// A socket address of the family that the case runs over (address_len bytes).
union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_storage room;
};

extern int family;            // AF_INET or AF_INET6
extern socklen_t address_len; // sizeof a sockaddr of that family

#define PORT 7000         // where cases listen
#define CLOSED_PORT 7001  // where nobody does

union address ours_at(int port);
union address peer_at(int port);
union address loopback_at(int port);
union address wildcard_at(int port);
union address absent_at(int port);  // on the link, but nobody has it
union address nowhere_at(int port); // there is no route
// The hosts' addresses of a family that is not the case's.
union address ours_v4_at(int port);
union address peer_v4_at(int port);

// Prints an address: which one it is, and its port if that is PORT or 0.
void say_address(const char *label, const union address *address, socklen_t len);

// Steps: tell() lets the other side's next await() return; tell_number() carries a number.
void tell(void);
void await(void);
void tell_number(uint64_t number);
uint64_t await_number(void);

int stream(void);                                       // a new TCP socket
int unattended_listener(void);                          // on the wildcard address and PORT
int listener(void);                                     // the same, already attended to
void connect_once(void);                                // the peer of a listener: connects when told, and stays until told again
int flow(void);                                         // this side's end of the one flow
void set_nonblocking(int fd);
void reset_on_close(int fd);                            // SO_LINGER of 0 seconds
short wait_for(int fd, short events);                   // poll(2) that must succeed; its revents
void read_exactly(int fd, size_t len);                  // reads the next bytes of the pattern
void write_pattern(int fd, size_t len);                 // writes the next bytes of the pattern
uint64_t read_to_end(int fd);                           // reads the pattern up to the end; how many bytes
uint64_t fill_up(int fd);                                 // sends zeros until nothing more fits; how many
void count_signal(int number, int flags);               // installs a handler that only counts
extern volatile sig_atomic_t signals_seen;

// Runs this program anew, in the same process; the same case begins again, and is told of a descriptor.
void renew(int fd) __attribute__((noreturn));
int renewed(void); // the descriptor, or -1 the first time

// Prints what poll, ppoll, select, pselect and epoll say of the descriptor without waiting.
void say_readiness(const char *label, int fd);
// Prints the names of poll's bits.
void say_bits(const char *label, unsigned bits);

void send_back(void);                        // the peer of a flow that sends back whatever comes
void say_echo(const char *label, int fd);    // sends something, and what comes back
pid_t child(void);                           // fork(2)
void leave(int status) __attribute__((noreturn)); // ends a child
void join(pid_t pid);                        // waits for a child, and says how it ended
void say_names(int fd);                      // getsockname(2) and getpeername(2)

// Prints what an epoll instance reports without waiting, in the order of the registrations' data (below 16).
void say_events(const char *label, int set);
int control(int set, int operation, int fd, uint32_t events, uint64_t data); // epoll_ctl(2)
void send_bytes(void);                       // the peer of a flow that sends a byte at each step, and ends at a number
void next_byte(int fd, int expected);        // has it send one, until so many are there
