/*
 * Sockets by Postfix's notation: inet:HOST:PORT (a numeric address, IPv6 in
 * brackets) and unix:/path.
 */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include <sys/socket.h>

struct address {
    struct sockaddr_storage socket;
    socklen_t length;
};

/* Read `text`; if it is no such address the program ends with status 2. */
struct address address_of(const char *text);

/* A connected non-blocking socket, or -1 when there is none within `seconds`. */
int connect_within(const struct address *address, double seconds);

/* A non-blocking listening socket; an existing unix socket is replaced. Ends the program if it
 * cannot be had. */
int listen_on(const struct address *address);

void make_nonblocking(int fd);

#endif
