/*
 * Load for a milter: SMTP sessions, several at once, each a connection on
 * which mail passes as from Postfix 3.7 (milter8.c): negotiation, CONNECT,
 * HELO, and for every message MAIL, two RCPT, DATA, headers, end of headers,
 * a body of 8 KiB, end of message. What the milter negotiates away is not
 * sent, or its reply not waited for. One thread, epoll.
 *
 * milter_load [-c SESSIONS] [-t SECONDS] [-n MESSAGES] [-g GRACE] [-m MESSAGES]
 *             [-s SIGNATURE] ADDRESS
 *
 * -m: messages a session; a session that has ended is followed by another.
 * -s: the value of the DKIM-Signature, lines of which begin with a tab, instead of one that fails.
 * After SECONDS (or -n messages) none is begun; those under way may take GRACE
 * seconds more. A connection that fails is an error, and its place stays empty.
 */
#include "course.h"
#include "milter_mail.h"
#include "net.h"

#include <errno.h>
#include <libmilter/mfapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_SIZE 65536

/* Postfix writes to a milter whenever its stream's buffer is full (VSTREAM_BUFSIZE); over TCP it
 * makes the buffer as large as the segments. */
#define UNIX_WRITE_SIZE 4096

struct session {
    int fd; /* -1: none */
    bool negotiating;
    bool waiting;
    struct negotiated negotiated;
    struct mail mail; /* its message counts from 0 in each session */
    enum event event;
    unsigned header;
    unsigned refused; /* recipients of this message */
    char skipped;     /* the command whose further events the milter does not want */
    uint64_t begun_ns;
    struct output output;
    size_t have;
    unsigned char input[INPUT_SIZE];
};

struct load {
    struct course course;
    struct address address;
    size_t write_size;
    unsigned messages; /* of a session */
    struct session *sessions;
    unsigned opened;
    uint64_t sent[EVENTS_OF_MAIL];
    struct negotiated negotiated; /* of the latest session */
    struct tally changes;
};

static void close_session(struct load *load, struct session *session)
{
    close(session->fd);
    session->fd = -1;
    load->course.busy--;
}

static void fail(struct load *load, struct session *session, const char *error)
{
    tally_word(&load->course.errors, error);
    close_session(load, session);
}

/* Write what is due; false when the connection failed. */
static bool flush(struct load *load, struct session *session)
{
    struct output *output = &session->output;

    while (output->sent < output->length) {
        size_t size = output->length - output->sent;
        ssize_t sent = send(session->fd, output->octets + output->sent,
                            size < load->write_size ? size : load->write_size, MSG_NOSIGNAL);

        if (sent < 0 && errno == EAGAIN) {
            course_watch(&load->course, session->fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT,
                         session);
            return true;
        }
        if (sent < 0) {
            fail(load, session, "closed");
            return false;
        }
        output->sent += (size_t)sent;
    }
    output->length = output->sent = 0;
    return true;
}

static void begin_message(struct load *load, struct session *session)
{
    load->course.begun++;
    session->begun_ns = now_ns();
    session->header = 0;
    session->refused = 0;
    session->skipped = '\0';
}

static void open_session(struct load *load, struct session *session)
{
    if (!course_may_begin(&load->course))
        return;
    begin_message(load, session);
    session->fd = connect_within(&load->address, course_patience(&load->course));
    if (session->fd < 0) {
        tally_word(&load->course.errors, "connect");
        return;
    }
    load->course.busy++;
    session->mail = (struct mail){.session = load->opened++ % 250, .message = 0};
    session->event = EVENT_CONNECT;
    session->negotiating = session->waiting = true;
    session->have = session->output.length = session->output.sent = 0;
    course_watch(&load->course, session->fd, EPOLL_CTL_ADD, EPOLLIN, session);
    put_offer(&session->output);
    flush(load, session);
}

/* smtpd(8) at the end of a session: helo_reset() aborts once more, then SMFIC_QUIT. */
static void end_session(struct load *load, struct session *session)
{
    put_command(&session->output, SMFIC_ABORT);
    put_command(&session->output, SMFIC_QUIT);
    if (flush(load, session)) {
        close_session(load, session);
        open_session(load, session);
    }
}

static void next_event(struct session *session)
{
    if (session->event == EVENT_HEADER && ++session->header < MAIL_HEADERS)
        return;
    session->event++;
}

/* Send events until one is to be answered. */
static void go_on(struct load *load, struct session *session)
{
    for (;;) {
        enum event event = session->event;
        const struct event_kind *kind = &EVENT_KINDS[event];
        bool reply_due = false;

        if (kind->command != session->skipped) {
            session->skipped = '\0';
            reply_due = put_event(&session->output, &session->negotiated, event, session->header,
                                  session->mail);
            load->sent[event] += (session->negotiated.steps & kind->declined) == 0;
        }
        if (reply_due) {
            session->waiting = true;
            flush(load, session);
            return;
        }
        /* After DATA smtpd(8) hands the connection to cleanup(8) and flushes it. */
        if (event == EVENT_DATA && !flush(load, session))
            return;
        next_event(session);
    }
}

/* mail_reset() in smtpd(8) aborts after every message, however it ended. */
static void end_message(struct load *load, struct session *session, const char *reply)
{
    char answer[TALLY_WORD_SIZE];
    enum event event = session->event;

    snprintf(answer, sizeof(answer), "%s:%s", EVENT_KINDS[event].name, reply);
    course_answer(&load->course, session->begun_ns, answer, strlen(answer));
    put_command(&session->output, SMFIC_ABORT);
    session->mail.message++;
    /* A verdict at CONNECT or HELO is for the session: nothing more would be sent in it. */
    if (event <= EVENT_HELO || session->mail.message >= load->messages ||
        !course_may_begin(&load->course)) {
        end_session(load, session);
        return;
    }
    begin_message(load, session);
    session->event = EVENT_MAIL;
    go_on(load, session);
}

/* A refused recipient is left out; with both refused there is no message to go on with. */
static bool leaves_recipients(struct session *session, char reply)
{
    if (session->event != EVENT_FIRST_RCPT && session->event != EVENT_SECOND_RCPT)
        return false;
    return is_refusal(reply) && ++session->refused < 2;
}

static void take_reply(struct load *load, struct session *session, char reply)
{
    const char *name = reply_name(reply);
    bool at_end = session->event == EVENT_EOM;
    bool of_connection = session->event <= EVENT_HELO;

    if (reply == SMFIR_PROGRESS)
        return;
    if (name == NULL || (is_change(reply) && !at_end)) {
        fail(load, session, "unexpected-reply");
        return;
    }
    if (is_change(reply)) {
        tally_word(&load->changes, name);
        return;
    }
    session->waiting = false;
    if (reply == SMFIR_SKIP)
        session->skipped = EVENT_KINDS[session->event].command;
    /* Postfix takes DISCARD at CONNECT and HELO for CONTINUE. */
    if (!at_end && (reply == SMFIR_CONTINUE || reply == SMFIR_SKIP ||
                    (of_connection && reply == SMFIR_DISCARD) ||
                    leaves_recipients(session, reply))) {
        next_event(session);
        go_on(load, session);
        return;
    }
    end_message(load, session, name);
}

static void take_negotiation(struct load *load, struct session *session, char reply,
                             const unsigned char *data, size_t length)
{
    if (reply != SMFIC_OPTNEG || !read_negotiated(&session->negotiated, data, length)) {
        fail(load, session, "negotiation");
        return;
    }
    load->negotiated = session->negotiated;
    session->negotiating = session->waiting = false;
    go_on(load, session);
}

static void take_packets(struct load *load, struct session *session)
{
    while (session->fd >= 0 && session->have >= 5) {
        size_t size = read_long(session->input);
        char reply = (char)session->input[4];

        if (size < 1 || size > INPUT_SIZE - 4) {
            fail(load, session, "malformed");
            return;
        }
        if (session->have < 4 + size)
            return;
        if (!session->waiting) {
            fail(load, session, "surplus");
            return;
        }
        if (session->negotiating) {
            session->have = 0;
            take_negotiation(load, session, reply, session->input + 5, size - 1);
            return;
        }
        session->have -= 4 + size;
        memmove(session->input, session->input + 4 + size, session->have);
        take_reply(load, session, reply);
    }
}

static void receive(struct load *load, struct session *session)
{
    ssize_t length = read(session->fd, session->input + session->have,
                          INPUT_SIZE - session->have);

    if (length < 0 && errno == EAGAIN)
        return;
    if (length <= 0) {
        fail(load, session, "closed");
        return;
    }
    session->have += (size_t)length;
    take_packets(load, session);
}

static void handle(void *context, uint32_t events, void *pointer)
{
    struct load *load = context;
    struct session *session = pointer;

    if (events & EPOLLOUT) {
        course_watch(&load->course, session->fd, EPOLL_CTL_MOD, EPOLLIN, session);
        if (!flush(load, session))
            return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(load, session);
}

static void start(void *context)
{
    struct load *load = context;

    for (size_t i = 0; i < load->course.at_once; i++)
        open_session(load, &load->sessions[i]);
}

static void report(const struct load *load, double seconds)
{
    static struct tally events;

    for (size_t i = 0; i < EVENTS_OF_MAIL; i++)
        tally_count(&events, EVENT_KINDS[i].name, load->sent[i]);
    json_open();
    course_report(&load->course, "messages", seconds);
    json_tally("changes", &load->changes);
    json_integer("sessions", load->opened);
    json_integer("version", load->negotiated.version);
    json_integer("actions", load->negotiated.actions);
    json_integer("steps", load->negotiated.steps);
    json_tally("events", &events);
    json_close();
}

static void read_options(struct load *load, int argc, char **argv)
{
    int option;

    load->course.at_once = 1;
    load->course.seconds = 2;
    load->course.grace = 2;
    load->messages = 1;
    while ((option = getopt(argc, argv, COURSE_OPTIONS "m:s:")) != -1) {
        if (option == 'm')
            load->messages = (unsigned)argument_number("-m", optarg, 1, 1e6);
        else if (option == 's')
            sign_with(optarg);
        else
            course_option(&load->course, option, optarg);
    }
    if (optind != argc - 1) {
        fprintf(stderr, "usage: milter_load " COURSE_USAGE " [-m MESSAGES] [-s SIGNATURE] ADDRESS\n");
        exit(2);
    }
    load->address = address_of(argv[optind]);
    load->write_size = load->address.socket.ss_family == AF_UNIX ? UNIX_WRITE_SIZE : OUTPUT_SIZE;
}

int main(int argc, char **argv)
{
    static struct load load;

    read_options(&load, argc, argv);
    load.sessions = calloc(load.course.at_once, sizeof(*load.sessions));
    load.course.poller = epoll_create1(0);
    if (load.sessions == NULL || load.course.poller < 0) {
        fprintf(stderr, "no memory for %zu sessions\n", load.course.at_once);
        return 1;
    }
    report(&load, course_run(&load.course, start, handle, &load));
    return 0;
}
