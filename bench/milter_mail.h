/*
 * The mail that milter_load sends, packet by packet, as Postfix 3.7 does
 * (milter8.c): before each event a packet of the macros that the milter asked
 * for, else those of Postfix's milter_*_macros defaults.
 */
#ifndef BENCH_MILTER_MAIL_H
#define BENCH_MILTER_MAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What Postfix offers: all actions, and the optional steps of protocol version 6. */
#define OFFERED_VERSION 6u
#define OFFERED_ACTIONS 0x000001ffu
#define OFFERED_STEPS 0x001fffffu

enum event {
    EVENT_CONNECT,
    EVENT_HELO,
    EVENT_MAIL,
    EVENT_FIRST_RCPT,
    EVENT_SECOND_RCPT,
    EVENT_DATA,
    EVENT_HEADER, /* once for each of MAIL_HEADERS */
    EVENT_EOH,
    EVENT_BODY,
    EVENT_EOM,
    EVENTS_OF_MAIL
};

#define MAIL_HEADERS 11

/* What is the same about an event in every session: its command octet (SMFIC_*), the steps by
 * which a milter declines it or its reply (SMFIP_NO*, SMFIP_NR_*), the place of its macros
 * (SMFIM_*), and its name in reports. */
struct event_kind {
    char command;
    uint32_t declined;
    uint32_t unanswered;
    int macros;
    const char *name;
};

extern const struct event_kind EVENT_KINDS[EVENTS_OF_MAIL];

#define MACRO_STAGES 7
#define MACRO_LIST_SIZE 512

struct negotiated {
    uint32_t version;
    uint32_t actions;
    uint32_t steps;
    char macros[MACRO_STAGES][MACRO_LIST_SIZE]; /* names; empty: Postfix's own */
};

/* Room for a whole mail whose every reply is declined. */
#define OUTPUT_SIZE 65536

struct output {
    size_t length;
    size_t sent;
    char octets[OUTPUT_SIZE];
};

/* Which mail: it varies the client, the sender and the recipients. */
struct mail {
    unsigned session;
    unsigned message;
};

/* Send this value of a DKIM-Signature, and with it a From that is the same in every mail. */
void sign_with(const char *signature);

void put_offer(struct output *output);
void put_command(struct output *output, char command);

/* Append the event (and its macros) as far as the milter wants them; true when a reply is due. */
bool put_event(struct output *output, const struct negotiated *negotiated, enum event event,
               unsigned header, struct mail mail);

/* Read the data of the milter's SMFIC_OPTNEG; false when Postfix would refuse it. */
bool read_negotiated(struct negotiated *negotiated, const unsigned char *data, size_t length);

/* The name of a reply (SMFIR_*) for reports; NULL for an octet that is none. */
const char *reply_name(char reply);

bool is_refusal(char reply);

/* A reply that changes the message and has another one follow it, at end of message alone. */
bool is_change(char reply);

uint32_t read_long(const unsigned char *data);

#endif
