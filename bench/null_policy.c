/*
 * The least a policy delegation server can do: it finds the empty line that
 * ends each request (SMTPD_POLICY_README) and answers DUNNO. One thread,
 * epoll. What it answers in a second is what the machine, the kernel and the
 * load generator allow.
 *
 * null_policy ADDRESS
 */
#include "net.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MAX_FD 4096
#define EVENTS 256

static const char ANSWER[] = "action=DUNNO\n\n";

/* By file descriptor: did the octets read so far end in a line feed? */
static bool line_ended[MAX_FD];

static void accept_all(int poller, int listener)
{
    int fd;

    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        make_nonblocking(fd);
        line_ended[fd] = false;
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

/* Answer each empty line among the octets read; false when the connection cannot go on. */
static bool answer(int fd, const char *octets, size_t length)
{
    bool ended = line_ended[fd];

    for (size_t i = 0; i < length; i++) {
        bool line_feed = octets[i] == '\n';

        if (line_feed && ended) {
            /* 14 octets into a buffer that the client empties before it asks again. */
            if (send(fd, ANSWER, sizeof(ANSWER) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(ANSWER) - 1)
                return false;
            ended = false;
        } else {
            ended = line_feed;
        }
    }
    line_ended[fd] = ended;
    return true;
}

int main(int argc, char **argv)
{
    static char octets[65536];
    struct epoll_event events[EVENTS];
    struct address address;
    int poller = epoll_create1(0);
    int listener;

    if (argc != 2) {
        fprintf(stderr, "usage: null_policy ADDRESS\n");
        return 2;
    }
    address = address_of(argv[1]);
    listener = listen_on(&address);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener,
              &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);

        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            ssize_t length;

            if (fd == listener) {
                accept_all(poller, listener);
                continue;
            }
            length = read(fd, octets, sizeof(octets));
            if (length <= 0 || !answer(fd, octets, (size_t)length))
                close(fd);
        }
    }
}
