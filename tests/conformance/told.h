// A peer that does what it is told, and says how that went.
#pragma once

#include "case.h"

enum {
	CONNS = 64, // connections that it can have had
	PEER_PORT = PORT + 10,
	WAIT_MS = 3000,
};

// What the peer can be told: the order, and which connection below it, and how much below that.
enum order { CONNECT = 1, ACCEPT, SEND, RECEIVE, SHUT, CLOSE, RESET, SEE_END, SEE_DATA, QUIT };

// Tells it, and returns its answer.
uint64_t order(enum order what, unsigned conn, unsigned amount);

// Obeys until it is told to quit.
void do_as_told(void);

// Waits for one of the events; which, or 0 when that takes too long.
short look_for(int fd, short events);

void until_all_is_acknowledged(int fd);
