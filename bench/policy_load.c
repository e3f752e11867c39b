/*
 * Load for a policy delegation server (SMTPD_POLICY_README): connections that
 * each ask, wait for the answer and ask again, as Postfix's smtpd processes
 * do. One thread, epoll.
 *
 * policy_load [-c CONNECTIONS] [-t SECONDS] [-n REQUESTS] [-g GRACE] [-d TRIPLETS]
 *             [-u] [-i NUMBER] [-r NUMBER] ADDRESS
 *
 * With -u all requests are of strangers: none has logged in or comes from the
 * null sender. With -i each request is of a message of its own as well, with
 * instances counted from NUMBER; with -r it has also a recipient of its own.
 *
 * After SECONDS (or REQUESTS) nothing more is asked; answers still owed may
 * take GRACE seconds more. A connection that is closed, or answers what no
 * Postfix would take for an answer, is an error and is not replaced. So a run
 * ends after SECONDS + GRACE at the latest, plus GRACE for connecting.
 */
#include "course.h"
#include "net.h"
#include "requests.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_SIZE 8192

struct connection {
    int fd; /* -1: not or no longer connected */
    bool waiting;
    const struct request *request;
    size_t sent;
    uint64_t asked_ns;
    uint64_t answered;
    size_t have;
    char answer[ANSWER_SIZE];
};

struct load {
    struct course course;
    struct address address;
    size_t triplets;
    bool strangers;
    bool new_messages;
    bool new_recipients;
    uint32_t number;
    struct request *requests;
    struct connection *connections;
};

/* The connection is of no more use; `error`: why, or NULL when that is no error. */
static void drop(struct load *load, struct connection *connection, const char *error)
{
    if (error != NULL)
        tally_word(&load->course.errors, error);
    if (connection->waiting)
        load->course.busy--;
    connection->waiting = false;
    close(connection->fd);
    connection->fd = -1;
}

static void send_rest(struct load *load, struct connection *connection)
{
    const struct request *request = connection->request;
    bool was_blocked = connection->sent > 0;
    ssize_t sent = send(connection->fd, request->text + connection->sent,
                        request->length - connection->sent, MSG_NOSIGNAL);

    if (sent < 0 && errno != EAGAIN) {
        drop(load, connection, "closed");
        return;
    }
    connection->sent += sent < 0 ? 0 : (size_t)sent;
    if (connection->sent < request->length)
        course_watch(&load->course, connection->fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT,
                     connection);
    else if (was_blocked)
        course_watch(&load->course, connection->fd, EPOLL_CTL_MOD, EPOLLIN, connection);
}

/* The next request; it is used again when all others have been. */
static const struct request *next_request(struct load *load)
{
    struct request *request = &load->requests[load->course.begun % load->triplets];

    if (load->new_messages)
        renumber_message(request, load->number);
    if (load->new_recipients)
        renumber_recipient(request, load->number);
    load->number++;
    return request;
}

static void ask(struct load *load, struct connection *connection)
{
    if (!course_may_begin(&load->course))
        return;
    connection->request = next_request(load);
    connection->sent = 0;
    connection->have = 0;
    connection->waiting = true;
    connection->asked_ns = now_ns();
    load->course.begun++;
    load->course.busy++;
    send_rest(load, connection);
}

/* The text after "action=" at the start of a line; NULL when the answer has none. Postfix skips
 * other attributes and takes the first action. */
static const char *action_of(const char *answer)
{
    const char *found;

    if (strncmp(answer, "action=", 7) == 0)
        return answer + 7;
    found = strstr(answer, "\naction=");
    return found == NULL ? NULL : found + 8;
}

static void take_answer(struct load *load, struct connection *connection, const char *end)
{
    const char *action = action_of(connection->answer);

    if (action == NULL) {
        drop(load, connection, "no-action");
        return;
    }
    course_answer(&load->course, connection->asked_ns, action, strcspn(action, " \t\r\n"));
    connection->answered++;
    connection->waiting = false;
    load->course.busy--;
    if (*end != '\0')
        drop(load, connection, "surplus");
    else
        ask(load, connection);
}

static void receive(struct load *load, struct connection *connection)
{
    ssize_t length = read(connection->fd, connection->answer + connection->have,
                          ANSWER_SIZE - 1 - connection->have);
    char *end;

    if (length < 0 && errno == EAGAIN)
        return;
    if (length <= 0) {
        drop(load, connection, connection->waiting ? "closed" : NULL);
        return;
    }
    if (!connection->waiting) {
        drop(load, connection, "surplus");
        return;
    }
    connection->have += (size_t)length;
    connection->answer[connection->have] = '\0';
    end = strstr(connection->answer, "\n\n");
    if (end != NULL)
        take_answer(load, connection, end + 2);
    else if (connection->have == ANSWER_SIZE - 1)
        drop(load, connection, "oversized");
}

static void handle(void *context, uint32_t events, void *pointer)
{
    struct load *load = context;
    struct connection *connection = pointer;

    if (events & EPOLLOUT)
        send_rest(load, connection);
    if (connection->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(load, connection);
}

static void connect_all(struct load *load)
{
    uint64_t end = now_ns() + ns_of_seconds(load->course.grace);

    for (size_t i = 0; i < load->course.at_once; i++) {
        struct connection *connection = &load->connections[i];
        uint64_t now = now_ns();
        double left = now < end ? seconds_of_ns(end - now) : 0;

        connection->fd = connect_within(&load->address, left);
        if (connection->fd < 0)
            tally_word(&load->course.errors, "connect");
        else
            course_watch(&load->course, connection->fd, EPOLL_CTL_ADD, EPOLLIN, connection);
    }
}

static void start(void *context)
{
    struct load *load = context;

    for (size_t i = 0; i < load->course.at_once; i++)
        if (load->connections[i].fd >= 0)
            ask(load, &load->connections[i]);
}

static void report(const struct load *load, double seconds)
{
    uint64_t unserved = 0;

    for (size_t i = 0; i < load->course.at_once; i++)
        unserved += load->connections[i].answered == 0;
    json_open();
    course_report(&load->course, "requests", seconds);
    json_integer("unserved_connections", unserved);
    json_close();
}

static void count_from(struct load *load, int option, double number)
{
    load->strangers = load->new_messages = true;
    load->new_recipients = option == 'r';
    load->number = (uint32_t)number;
}

static void read_options(struct load *load, int argc, char **argv)
{
    int option;

    load->course.at_once = 1;
    load->course.seconds = 2;
    load->course.grace = 1;
    load->triplets = 2000;
    while ((option = getopt(argc, argv, COURSE_OPTIONS "d:i:r:u")) != -1) {
        if (option == 'd')
            load->triplets = (size_t)argument_number("-d", optarg, 1, 200000);
        else if (option == 'u')
            load->strangers = true;
        else if (option == 'i' || option == 'r')
            count_from(load, option, argument_number(option == 'i' ? "-i" : "-r", optarg, 0, 4e9));
        else
            course_option(&load->course, option, optarg);
    }
    if (optind != argc - 1) {
        fprintf(stderr, "usage: policy_load " COURSE_USAGE
                        " [-d TRIPLETS] [-u] [-i NUMBER] [-r NUMBER] ADDRESS\n");
        exit(2);
    }
    load->address = address_of(argv[optind]);
}

int main(int argc, char **argv)
{
    static struct load load;

    read_options(&load, argc, argv);
    load.requests = make_requests(load.triplets, load.strangers);
    load.connections = calloc(load.course.at_once, sizeof(*load.connections));
    load.course.poller = epoll_create1(0);
    if (load.connections == NULL || load.course.poller < 0) {
        fprintf(stderr, "no memory for %zu connections\n", load.course.at_once);
        return 1;
    }
    connect_all(&load);
    report(&load, course_run(&load.course, start, handle, &load));
    return 0;
}
