/*
 * The course of one measured run: exchanges are begun until the time (or a
 * number of them) is reached; what is then owed may take a grace period more;
 * so every run is bounded. Both load generators are this, with a protocol each.
 */
#ifndef BENCH_COURSE_H
#define BENCH_COURSE_H

#include "measure.h"

#include <stdbool.h>
#include <sys/epoll.h>

#define COURSE_OPTIONS "c:g:n:t:"
#define COURSE_USAGE "[-c AT_ONCE] [-t SECONDS] [-n NUMBER] [-g GRACE]"

struct course {
    size_t at_once;   /* connections */
    double seconds;   /* after which nothing is begun */
    double grace;     /* seconds for connecting, and again for what is owed at the end */
    uint64_t limit;   /* exchanges to begin; 0: no limit */
    int poller;       /* epoll, whose events carry the pointers that `handle` is given */
    uint64_t over_ns; /* on the clock of now_ns(): when the run ends whatever is owed */
    bool stopping;
    size_t busy;      /* connections that a reply is owed to */
    uint64_t begun;
    uint64_t answered;
    uint64_t last_answer_ns;
    struct latencies latencies;
    struct tally answers;
    struct tally errors;
};

/* Take one of COURSE_OPTIONS; any other option ends the program with status 2. */
void course_option(struct course *course, int option, const char *value);

/* May an exchange be begun? If not, none may from now on. */
bool course_may_begin(struct course *course);

/* How long one connection may take to be made, in seconds. */
double course_patience(const struct course *course);

void course_answer(struct course *course, uint64_t begun_ns, const char *word, size_t length);

/* Poll until no reply is owed or the time is over; returns the seconds that the answers took. */
double course_run(struct course *course, void (*start)(void *load),
                  void (*handle)(void *load, uint32_t events, void *connection), void *load);

void course_watch(const struct course *course, int fd, int operation, uint32_t events,
                  void *connection);

/* The members of the printed JSON object that every load has; the begun are called `name`. */
void course_report(const struct course *course, const char *name, double seconds);

#endif
