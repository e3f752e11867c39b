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

#include <stddef.h>

struct request {
    char *text;
    size_t length;
};

/* `count` requests, each with a triplet (client, sender, recipient) and an instance of its own. */
struct request *make_requests(size_t count);

#endif
