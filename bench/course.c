/* The course of one measured run; see course.h. */
#include "course.h"

#include <stdlib.h>

#define POLLED 256

void course_option(struct course *course, int option, const char *value)
{
    if (option == 'c')
        course->at_once = (size_t)argument_number("-c", value, 1, 1000);
    else if (option == 'g')
        course->grace = argument_number("-g", value, 0, 60);
    else if (option == 'n')
        course->limit = (uint64_t)argument_number("-n", value, 1, 1e9);
    else if (option == 't')
        course->seconds = argument_number("-t", value, 0.01, 3600);
    else
        exit(2);
}

bool course_may_begin(struct course *course)
{
    if (course->limit != 0 && course->begun >= course->limit)
        course->stopping = true;
    return !course->stopping;
}

double course_patience(const struct course *course)
{
    uint64_t now = now_ns();
    double left = now < course->over_ns ? seconds_of_ns(course->over_ns - now) : 0;

    return left < course->grace ? left : course->grace;
}

void course_answer(struct course *course, uint64_t begun_ns, const char *word, size_t length)
{
    uint64_t now = now_ns();

    tally_add(&course->answers, word, length);
    latency_add(&course->latencies, now - begun_ns);
    course->last_answer_ns = now;
    course->answered++;
}

double course_run(struct course *course, void (*start)(void *load),
                  void (*handle)(void *load, uint32_t events, void *connection), void *load)
{
    struct epoll_event events[POLLED];
    uint64_t begin = now_ns();
    uint64_t end = begin + ns_of_seconds(course->seconds);
    uint64_t now = begin;

    course->last_answer_ns = begin;
    course->over_ns = end + ns_of_seconds(course->grace);
    start(load);
    while (course->busy > 0 && now < course->over_ns) {
        uint64_t bound = now < end ? end : course->over_ns;
        int wait_ms = (int)((bound - now) / 1000000) + 1;
        int ready = epoll_wait(course->poller, events, POLLED, wait_ms);

        now = now_ns();
        if (now >= end)
            course->stopping = true;
        for (int i = 0; i < ready; i++)
            handle(load, events[i].events, events[i].data.ptr);
    }
    /* A rate is of the time in which the server owed answers: an idle end does not count. */
    if (course->busy > 0)
        return seconds_of_ns((now < end ? now : end) - begin);
    return seconds_of_ns(course->last_answer_ns - begin);
}

void course_watch(const struct course *course, int fd, int operation, uint32_t events,
                  void *connection)
{
    epoll_ctl(course->poller, operation, fd,
              &(struct epoll_event){.events = events, .data.ptr = connection});
}

void course_report(const struct course *course, const char *name, double seconds)
{
    json_integer(name, course->begun);
    json_integer("answered", course->answered);
    json_integer("unanswered", course->begun - course->answered);
    json_number("seconds", seconds);
    json_number("rate", seconds > 0 ? (double)course->answered / seconds : 0);
    json_latencies("latency_ms", &course->latencies);
    json_tally("answers", &course->answers);
    json_integer("errors", course->errors.total);
    json_tally("error_kinds", &course->errors);
}
