/* Clock, latencies, tallies and their JSON; see measure.h. */
#include "measure.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t ns_of_seconds(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

double seconds_of_ns(uint64_t ns)
{
    return (double)ns / 1e9;
}

/* Values below 256 have a bucket each; above, the eight leading bits choose it. */
static size_t bucket_of(uint64_t ns)
{
    unsigned shift = ns < 256 ? 0 : (unsigned)(63 - __builtin_clzll(ns)) - 7;

    return (size_t)shift * 128 + (size_t)(ns >> shift);
}

static double middle_of(size_t bucket)
{
    unsigned shift = bucket < 256 ? 0 : (unsigned)(bucket / 128) - 1;
    uint64_t low = (uint64_t)(bucket - (size_t)shift * 128) << shift;

    return (double)low + (double)((UINT64_C(1) << shift) - 1) / 2;
}

void latency_add(struct latencies *latencies, uint64_t ns)
{
    latencies->count[bucket_of(ns)]++;
    latencies->total++;
    if (ns > latencies->max_ns)
        latencies->max_ns = ns;
}

double latency_ms(const struct latencies *latencies, double share)
{
    double wanted = share * (double)latencies->total;
    uint64_t seen = 0;

    for (size_t bucket = 0; bucket < LATENCY_BUCKETS; bucket++) {
        seen += latencies->count[bucket];
        if (seen > 0 && (double)seen >= wanted)
            return middle_of(bucket) / 1e6;
    }
    return 0;
}

static void count_word(struct tally *tally, const char *word, size_t length, uint64_t count)
{
    char kept[TALLY_WORD_SIZE];
    size_t place;

    if (length >= TALLY_WORD_SIZE)
        length = TALLY_WORD_SIZE - 1;
    for (size_t i = 0; i < length; i++) {
        bool plain = word[i] > ' ' && word[i] < 0x7f && word[i] != '"' && word[i] != '\\';

        kept[i] = plain ? word[i] : '?';
    }
    kept[length] = '\0';
    tally->total += count;
    for (place = 0; place < tally->words; place++)
        if (strcmp(tally->word[place], kept) == 0)
            break;
    if (place == TALLY_WORDS) {
        place = TALLY_WORDS - 1;
        strcpy(tally->word[place], "(other)");
    } else if (place == tally->words) {
        strcpy(tally->word[place], kept);
        tally->words++;
    }
    tally->count[place] += count;
}

void tally_add(struct tally *tally, const char *word, size_t length)
{
    count_word(tally, word, length, 1);
}

void tally_word(struct tally *tally, const char *word)
{
    count_word(tally, word, strlen(word), 1);
}

void tally_count(struct tally *tally, const char *word, uint64_t count)
{
    count_word(tally, word, strlen(word), count);
}

static bool first_member;

static void member(const char *name)
{
    printf("%s\"%s\": ", first_member ? "" : ", ", name);
    first_member = false;
}

void json_open(void)
{
    putchar('{');
    first_member = true;
}

void json_integer(const char *name, uint64_t value)
{
    member(name);
    printf("%" PRIu64, value);
}

void json_number(const char *name, double value)
{
    member(name);
    printf("%.4f", value);
}

void json_tally(const char *name, const struct tally *tally)
{
    member(name);
    putchar('{');
    for (size_t i = 0; i < tally->words; i++)
        printf("%s\"%s\": %" PRIu64, i == 0 ? "" : ", ", tally->word[i], tally->count[i]);
    putchar('}');
}

void json_latencies(const char *name, const struct latencies *latencies)
{
    member(name);
    json_open();
    json_number("p50", latency_ms(latencies, 0.50));
    json_number("p90", latency_ms(latencies, 0.90));
    json_number("p99", latency_ms(latencies, 0.99));
    json_number("max", (double)latencies->max_ns / 1e6);
    putchar('}');
}

void json_close(void)
{
    puts("}");
}

double argument_number(const char *option, const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value >= least && value <= most)) {
        fprintf(stderr, "%s: need a number from %g to %g, not \"%s\"\n", option, least, most,
                text);
        exit(2);
    }
    return value;
}
