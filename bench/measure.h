/*
 * What the load generators count and time, and how they print it: a clock,
 * latencies, tallies of words, and one JSON object on standard output.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stddef.h>
#include <stdint.h>

/* 128 buckets an octave of nanoseconds: a percentile is right within 0.8 %. */
#define LATENCY_BUCKETS (57 * 128 + 128)

struct latencies {
    uint64_t count[LATENCY_BUCKETS];
    uint64_t total;
    uint64_t max_ns;
};

#define TALLY_WORDS 32
#define TALLY_WORD_SIZE 48

/* How often each word was seen; words beyond the last place count as "(other)". */
struct tally {
    char word[TALLY_WORDS][TALLY_WORD_SIZE];
    uint64_t count[TALLY_WORDS];
    size_t words;
    uint64_t total;
};

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now_ns(void);

uint64_t ns_of_seconds(double seconds);
double seconds_of_ns(uint64_t ns);

void latency_add(struct latencies *latencies, uint64_t ns);

/* The latency in milliseconds below which the given share (0 to 1) lies. */
double latency_ms(const struct latencies *latencies, double share);

/* Count one sighting of the first `length` octets of `word`; of `word`; `count` of them. */
void tally_add(struct tally *tally, const char *word, size_t length);
void tally_word(struct tally *tally, const char *word);
void tally_count(struct tally *tally, const char *word, uint64_t count);

/* Members of the printed JSON object, each after a comma but the first. */
void json_open(void);
void json_integer(const char *name, uint64_t value);
void json_number(const char *name, double value);
void json_tally(const char *name, const struct tally *tally);
void json_latencies(const char *name, const struct latencies *latencies);
void json_close(void);

/* A number of the command line between the bounds; else the program ends with status 2. */
double argument_number(const char *option, const char *text, double least, double most);

#endif
