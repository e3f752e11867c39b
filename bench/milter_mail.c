/* Postfix 3.7's side of the milter protocol, as far as it writes; see milter_mail.h. */
#include "milter_mail.h"

#include <arpa/inet.h>
#include <libmilter/mfapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_SIZE 512
#define BODY_SIZE 8192
#define BODY_LINE "The quick brown fox jumps over the lazy dog; the mail is long enough.\r\n"

const struct event_kind EVENT_KINDS[EVENTS_OF_MAIL] = {
    [EVENT_CONNECT] = {SMFIC_CONNECT, SMFIP_NOCONNECT, SMFIP_NR_CONN, SMFIM_CONNECT, "CONNECT"},
    [EVENT_HELO] = {SMFIC_HELO, SMFIP_NOHELO, SMFIP_NR_HELO, SMFIM_HELO, "HELO"},
    [EVENT_MAIL] = {SMFIC_MAIL, SMFIP_NOMAIL, SMFIP_NR_MAIL, SMFIM_ENVFROM, "MAIL"},
    [EVENT_FIRST_RCPT] = {SMFIC_RCPT, SMFIP_NORCPT, SMFIP_NR_RCPT, SMFIM_ENVRCPT, "RCPT"},
    [EVENT_SECOND_RCPT] = {SMFIC_RCPT, SMFIP_NORCPT, SMFIP_NR_RCPT, SMFIM_ENVRCPT, "RCPT"},
    [EVENT_DATA] = {SMFIC_DATA, SMFIP_NODATA, SMFIP_NR_DATA, SMFIM_DATA, "DATA"},
    [EVENT_HEADER] = {SMFIC_HEADER, SMFIP_NOHDRS, SMFIP_NR_HDR, SMFIM_EOH, "HEADER"},
    [EVENT_EOH] = {SMFIC_EOH, SMFIP_NOEOH, SMFIP_NR_EOH, SMFIM_EOH, "EOH"},
    [EVENT_BODY] = {SMFIC_BODY, SMFIP_NOBODY, SMFIP_NR_BODY, SMFIM_EOM, "BODY"},
    [EVENT_EOM] = {SMFIC_BODYEOB, 0, 0, SMFIM_EOM, "EOM"},
};

/* postconf(5): the defaults of milter_connect_macros and its like. */
static const char *const DEFAULT_MACROS[MACRO_STAGES] = {
    [SMFIM_CONNECT] = "j {daemon_name} {daemon_addr} v _",
    [SMFIM_HELO] = "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}",
    [SMFIM_ENVFROM] = "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} "
                      "{mail_mailer}",
    [SMFIM_ENVRCPT] = "i {rcpt_addr} {rcpt_host} {rcpt_mailer}",
    [SMFIM_DATA] = "i",
    [SMFIM_EOH] = "i",
    [SMFIM_EOM] = "i",
};

/* A macro's value is a template in which {s}, {m} and {r} stand for the numbers of the session,
 * of the message and of the recipient; it is known to Postfix from one event to another. */
struct macro {
    const char *name;
    const char *value;
    enum event from;
    enum event to;
};

static const struct macro MACROS[] = {
    {"j", "mx.example.org", EVENT_CONNECT, EVENT_EOM},
    {"{daemon_name}", "mx.example.org", EVENT_CONNECT, EVENT_EOM},
    {"{daemon_addr}", "192.0.2.25", EVENT_CONNECT, EVENT_EOM},
    {"{daemon_port}", "25", EVENT_CONNECT, EVENT_EOM},
    {"v", "Postfix 3.7.11", EVENT_CONNECT, EVENT_EOM},
    {"_", "mail.sender{s}.example [198.18.7.{s}]", EVENT_CONNECT, EVENT_EOM},
    {"{client_addr}", "198.18.7.{s}", EVENT_CONNECT, EVENT_EOM},
    {"{client_name}", "mail.sender{s}.example", EVENT_CONNECT, EVENT_EOM},
    {"{client_ptr}", "mail.sender{s}.example", EVENT_CONNECT, EVENT_EOM},
    {"{client_port}", "40{s}", EVENT_CONNECT, EVENT_EOM},
    {"{client_resolve}", "OK", EVENT_CONNECT, EVENT_DATA},
    {"{client_connections}", "1", EVENT_CONNECT, EVENT_DATA},
    {"{tls_version}", "TLSv1.3", EVENT_HELO, EVENT_DATA},
    {"{cipher}", "TLS_AES_256_GCM_SHA384", EVENT_HELO, EVENT_DATA},
    {"{cipher_bits}", "256", EVENT_HELO, EVENT_DATA},
    /* smtpd_delay_open: the queue file, and so its id, is there once a recipient was accepted. */
    {"i", "4Wq{s}Fm{m}zR", EVENT_SECOND_RCPT, EVENT_EOM},
    {"{mail_addr}", "user{m}@sender{s}.example", EVENT_MAIL, EVENT_EOM},
    {"{mail_host}", "sender{s}.example", EVENT_MAIL, EVENT_EOM},
    {"{mail_mailer}", "smtp", EVENT_MAIL, EVENT_EOM},
    {"{rcpt_addr}", "person{r}@example.org", EVENT_FIRST_RCPT, EVENT_SECOND_RCPT},
    {"{rcpt_host}", "example.org", EVENT_FIRST_RCPT, EVENT_SECOND_RCPT},
    {"{rcpt_mailer}", "virtual", EVENT_FIRST_RCPT, EVENT_SECOND_RCPT},
};

#define SIGNATURE 1
#define FROM 2

static const char *HEADERS[MAIL_HEADERS][2] = {
    {"Received", "from laptop.sender{s}.example (unknown [198.51.100.9])\n"
                 "\tby mail.sender{s}.example (Postfix) with ESMTPSA id 4Vp{m}Kz\n"
                 "\tfor <person{m}@example.org>; Sun, 23 Nov 2026 12:00:00 +0000 (UTC)"},
    {"DKIM-Signature", "v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender{s}.example;\n"
                       "\ts=mail; t=1795435200; h=from:to:subject:date:message-id;\n"
                       "\tbh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\n"
                       "\tb=dGhlIHNpZ25hdHVyZSBvZiBhIG1haWwgdGhhdCBub2JvZHkgZXZlciBzaWduZWQg\n"
                       "\t YnV0IHRoYXQgaXMgYXMgbG9uZyBhcyBvbmUgb2YgMTI4IG9jdGV0cyB3b3VsZCBiZQ=="},
    {"From", "User {m} <user{m}@sender{s}.example>"},
    {"To", "person{m}@example.org"},
    {"Cc", "Second Person <person{s}@example.org>"},
    {"Subject", "Minutes of meeting {m}"},
    {"Date", "Sun, 23 Nov 2026 12:00:00 +0000"},
    {"Message-ID", "<{m}.{s}.20261123120000@sender{s}.example>"},
    {"MIME-Version", "1.0"},
    {"Content-Type", "text/plain; charset=us-ascii"},
    {"User-Agent", "Example Mail 4.2"},
};

void sign_with(const char *signature)
{
    HEADERS[SIGNATURE][1] = signature;
    HEADERS[FROM][1] = "User <user@sender.example>";
}

static void put(struct output *output, const void *octets, size_t length)
{
    if (length > OUTPUT_SIZE - output->length)
        abort(); /* OUTPUT_SIZE was chosen too small for the mail above */
    memcpy(output->octets + output->length, octets, length);
    output->length += length;
}

static void put_string(struct output *output, const char *text)
{
    put(output, text, strlen(text) + 1);
}

static void put_long(struct output *output, uint32_t value)
{
    uint32_t wire = htonl(value);

    put(output, &wire, sizeof(wire));
}

static void put_octet(struct output *output, char octet)
{
    put(output, &octet, 1);
}

static size_t open_packet(struct output *output, char command)
{
    size_t start = output->length;

    put_long(output, 0);
    put_octet(output, command);
    return start;
}

/* The length that leads a packet counts the command octet but not itself. */
static void close_packet(struct output *output, size_t start)
{
    uint32_t wire = htonl((uint32_t)(output->length - start - sizeof(wire)));

    memcpy(output->octets + start, &wire, sizeof(wire));
}

void put_command(struct output *output, char command)
{
    close_packet(output, open_packet(output, command));
}

void put_offer(struct output *output)
{
    size_t start = open_packet(output, SMFIC_OPTNEG);

    put_long(output, OFFERED_VERSION);
    put_long(output, OFFERED_ACTIONS);
    put_long(output, OFFERED_STEPS);
    close_packet(output, start);
}

static unsigned recipient_of(enum event event, struct mail mail)
{
    return event == EVENT_FIRST_RCPT ? mail.message : mail.session;
}

/* Append the template with its numbers filled in, and the NUL that ends a string. */
static void put_filled(struct output *output, const char *template, enum event event,
                       struct mail mail)
{
    char text[VALUE_SIZE * 2];
    size_t length = 0;

    for (const char *at = template; *at != '\0' && length < sizeof(text) - 16; at++) {
        unsigned number;

        if (at[0] != '{' || at[1] == '\0' || at[2] != '}') {
            text[length++] = *at;
            continue;
        }
        number = at[1] == 's' ? mail.session : at[1] == 'm' ? mail.message
                                                            : recipient_of(event, mail);
        length += (size_t)snprintf(text + length, sizeof(text) - length, "%u", number);
        at += 2;
    }
    text[length] = '\0';
    put_string(output, text);
}

static const struct macro *macro_of(const char *name, size_t length, enum event event)
{
    for (size_t i = 0; i < sizeof(MACROS) / sizeof(MACROS[0]); i++) {
        const struct macro *macro = &MACROS[i];

        if (strncmp(macro->name, name, length) == 0 && macro->name[length] == '\0')
            return event >= macro->from && event <= macro->to ? macro : NULL;
    }
    return NULL;
}

/* Postfix sends this packet even when no macro of the list has a value. */
static void put_macros(struct output *output, const char *list, enum event event,
                       struct mail mail)
{
    size_t start = open_packet(output, SMFIC_MACRO);

    put_octet(output, EVENT_KINDS[event].command);
    while (*(list += strspn(list, " ,\t")) != '\0') {
        size_t length = strcspn(list, " ,\t");
        const struct macro *macro = macro_of(list, length, event);

        if (macro != NULL) {
            put_string(output, macro->name);
            put_filled(output, macro->value, event, mail);
        }
        list += length;
    }
    close_packet(output, start);
}

static void put_body(struct output *output)
{
    size_t line = sizeof(BODY_LINE) - 1;

    for (size_t left = BODY_SIZE; left > 0; left -= line) {
        if (line > left)
            line = left;
        put(output, BODY_LINE, line);
    }
}

static void put_data(struct output *output, const struct negotiated *negotiated, enum event event,
                     unsigned header, struct mail mail)
{
    uint16_t port = htons((uint16_t)(40000 + mail.session % 1000));

    switch (event) {
    case EVENT_CONNECT:
        put_filled(output, "mail.sender{s}.example", event, mail);
        put_octet(output, '4'); /* SMFIA_INET */
        put(output, &port, sizeof(port));
        put_filled(output, "198.18.7.{s}", event, mail);
        break;
    case EVENT_HELO:
        put_filled(output, "mail.sender{s}.example", event, mail);
        break;
    case EVENT_MAIL:
        put_filled(output, "<user{m}@sender{s}.example>", event, mail);
        put_string(output, "SIZE=9500");
        put_string(output, "BODY=8BITMIME");
        break;
    case EVENT_FIRST_RCPT:
    case EVENT_SECOND_RCPT:
        put_filled(output, "<person{r}@example.org>", event, mail);
        break;
    case EVENT_HEADER:
        put_string(output, HEADERS[header][0]);
        if (negotiated->steps & SMFIP_HDR_LEADSPC)
            put_octet(output, ' ');
        put_filled(output, HEADERS[header][1], event, mail);
        break;
    case EVENT_BODY:
        put_body(output);
        break;
    default: /* DATA, EOH and EOM carry nothing */
        break;
    }
}

bool put_event(struct output *output, const struct negotiated *negotiated, enum event event,
               unsigned header, struct mail mail)
{
    const struct event_kind *kind = &EVENT_KINDS[event];
    bool declined = (negotiated->steps & kind->declined) != 0;
    bool of_content = event == EVENT_HEADER || event == EVENT_EOH || event == EVENT_BODY;
    const char *list = negotiated->macros[kind->macros];
    size_t start;

    /* milter8_message() does not even look at declined content; the macros of declined SMTP
     * commands are sent all the same (milter8_event()). */
    if (declined && of_content)
        return false;
    put_macros(output, list[0] != '\0' ? list : DEFAULT_MACROS[kind->macros], event, mail);
    if (declined)
        return false;
    start = open_packet(output, kind->command);
    put_data(output, negotiated, event, header, mail);
    close_packet(output, start);
    return (negotiated->steps & kind->unanswered) == 0;
}

uint32_t read_long(const unsigned char *data)
{
    uint32_t wire;

    memcpy(&wire, data, sizeof(wire));
    return ntohl(wire);
}

bool read_negotiated(struct negotiated *negotiated, const unsigned char *data, size_t length)
{
    size_t at = 12;

    memset(negotiated, 0, sizeof(*negotiated));
    if (length < at)
        return false;
    negotiated->version = read_long(data);
    negotiated->actions = read_long(data + 4);
    negotiated->steps = read_long(data + 8);
    if (negotiated->version > OFFERED_VERSION || negotiated->actions & ~OFFERED_ACTIONS)
        return false;
    /* smfi_setsymlist(): a stage and the names of the macros wanted there. */
    while (at < length) {
        const void *end = at + 4 < length ? memchr(data + at + 4, '\0', length - at - 4) : NULL;
        uint32_t stage;
        size_t size;

        if (end == NULL)
            return false;
        stage = read_long(data + at);
        size = (size_t)((const unsigned char *)end - (data + at + 4)) + 1;
        if (stage >= MACRO_STAGES || size > MACRO_LIST_SIZE)
            return false;
        memcpy(negotiated->macros[stage], data + at + 4, size);
        at += 4 + size;
    }
    return true;
}

const char *reply_name(char reply)
{
    switch (reply) {
    case SMFIR_ACCEPT: return "ACCEPT";
    case SMFIR_ADDHEADER: return "ADDHEADER";
    case SMFIR_ADDRCPT: return "ADDRCPT";
    case SMFIR_ADDRCPT_PAR: return "ADDRCPT_PAR";
    case SMFIR_CHGFROM: return "CHGFROM";
    case SMFIR_CHGHEADER: return "CHGHEADER";
    case SMFIR_CONTINUE: return "CONTINUE";
    case SMFIR_DELRCPT: return "DELRCPT";
    case SMFIR_DISCARD: return "DISCARD";
    case SMFIR_INSHEADER: return "INSHEADER";
    case SMFIR_QUARANTINE: return "QUARANTINE";
    case SMFIR_REJECT: return "REJECT";
    case SMFIR_REPLBODY: return "REPLBODY";
    case SMFIR_REPLYCODE: return "REPLYCODE";
    case SMFIR_SHUTDOWN: return "SHUTDOWN";
    case SMFIR_SKIP: return "SKIP";
    case SMFIR_TEMPFAIL: return "TEMPFAIL";
    default: return NULL;
    }
}

bool is_refusal(char reply)
{
    return reply == SMFIR_REJECT || reply == SMFIR_TEMPFAIL || reply == SMFIR_REPLYCODE;
}

bool is_change(char reply)
{
    switch (reply) {
    case SMFIR_ADDHEADER:
    case SMFIR_ADDRCPT:
    case SMFIR_ADDRCPT_PAR:
    case SMFIR_CHGFROM:
    case SMFIR_CHGHEADER:
    case SMFIR_DELRCPT:
    case SMFIR_INSHEADER:
    case SMFIR_QUARANTINE:
    case SMFIR_REPLBODY:
        return true;
    default:
        return false;
    }
}
