// UDP in the conformance programs.
#pragma once

#include "case.h"

#include <linux/udp.h>
#include <sys/uio.h>

int datagrams(void);                                   // a new UDP socket
int datagrams_at(union address address);               // bound
void reach(int fd, union address address);             // connect(2) that must succeed
void send_to(int fd, union address address, const void *bytes, size_t len); // sendto(2) that must succeed
// Receives one datagram, and prints its length, its first byte and its sender.
void say_received(const char *label, int fd);
// The same by recvmsg(2), with its flags and its control messages, into `room` bytes and `control_len` of control.
void say_message(const char *label, int fd, size_t room, size_t control_len);
