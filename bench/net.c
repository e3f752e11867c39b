/* Sockets by Postfix's notation; see net.h. */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static void refuse(const char *text)
{
    fprintf(stderr, "need inet:HOST:PORT or unix:/path, not \"%s\"\n", text);
    exit(2);
}

static struct address inet_address(const char *text, const char *endpoint)
{
    struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *found;
    struct address address;
    char host[64];
    const char *colon = strrchr(endpoint, ':');
    size_t length = colon == NULL ? sizeof(host) : (size_t)(colon - endpoint);

    if (length > 2 && endpoint[0] == '[' && endpoint[length - 1] == ']') {
        endpoint++;
        length -= 2;
    }
    if (length >= sizeof(host))
        refuse(text);
    memcpy(host, endpoint, length);
    host[length] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        refuse(text);
    memset(&address, 0, sizeof(address));
    memcpy(&address.socket, found->ai_addr, found->ai_addrlen);
    address.length = found->ai_addrlen;
    freeaddrinfo(found);
    return address;
}

static struct address unix_address(const char *text, const char *path)
{
    struct address address;
    struct sockaddr_un local = {.sun_family = AF_UNIX};

    if (path[0] != '/' || strlen(path) >= sizeof(local.sun_path))
        refuse(text);
    strcpy(local.sun_path, path);
    memset(&address, 0, sizeof(address));
    memcpy(&address.socket, &local, sizeof(local));
    address.length = sizeof(local);
    return address;
}

struct address address_of(const char *text)
{
    struct address none = {.length = 0};

    if (strncmp(text, "inet:", 5) == 0)
        return inet_address(text, text + 5);
    if (strncmp(text, "unix:", 5) == 0)
        return unix_address(text, text + 5);
    refuse(text);
    return none;
}

void make_nonblocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int connect_within(const struct address *address, double seconds)
{
    struct timeval limit = {
        .tv_sec = (time_t)seconds,
        .tv_usec = (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6),
    };
    int fd = socket(address->socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (limit.tv_sec == 0 && limit.tv_usec == 0)
        limit.tv_usec = 1; /* 0 would be no limit */
    /* socket(7): connect(2) observes SO_SNDTIMEO; a non-blocking connect to a unix socket whose
     * backlog is full would fail at once. */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address->socket, address->length) != 0) {
        close(fd);
        return -1;
    }
    make_nonblocking(fd);
    return fd;
}

int listen_on(const struct address *address)
{
    const struct sockaddr *name = (const struct sockaddr *)&address->socket;
    int fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;

    if (name->sa_family == AF_UNIX)
        unlink(((const struct sockaddr_un *)name)->sun_path);
    else
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (fd < 0 || bind(fd, name, address->length) != 0 || listen(fd, SOMAXCONN) != 0) {
        fprintf(stderr, "cannot listen: %s\n", strerror(errno));
        exit(1);
    }
    make_nonblocking(fd);
    return fd;
}
