/*
 * Policy delegation requests as Postfix 3.7 sends them at RCPT, with TLS and
 * SASL compiled in: all attributes, in the order of check_policy_service() in
 * smtpd_check.c.
 *
 * The population that they describe (bench/policy.toml is written for it):
 *   clients     198.18.0.0/15 (RFC 2544), every eighth 2001:db8::/32, every
 *               sixteenth the partner network 203.0.113.0/24
 *   senders     userN@senderN.example of 211 domains; every 29th the null sender
 *   recipients  personN@ one of three domains
 *   HELO        mostly the client's name; at times an address literal
 *   TLS         three of four
 *   logins      one of twelve, on port 587
 */
#ifndef BENCH_REQUESTS_H
#define BENCH_REQUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request {
    char *text;
    size_t length;
    size_t instance;  /* where a number of eight hexadecimal digits stands in the text, */
    size_t recipient; /* and in the recipients that strangers have */
};

/* `count` requests, each with a triplet (client, sender, recipient) and an instance of its own;
 * `strangers`: none of those who have logged in, or of the null sender. */
struct request *make_requests(size_t count, bool strangers);

/* Make it a request of another message, or for another recipient: `number` is in its name. */
void renumber_message(struct request *request, uint32_t number);
void renumber_recipient(struct request *request, uint32_t number);

#endif
