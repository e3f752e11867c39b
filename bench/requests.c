/* Postfix 3.7's RCPT requests; see requests.h. */
#include "requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_SIZE 2048
#define FIELD_SIZE 80

struct client {
    char address[FIELD_SIZE];
    char name[FIELD_SIZE];
    char helo[FIELD_SIZE];
};

static const char *const RECIPIENT_DOMAINS[] = {"example.org", "example.net", "lists.example.org"};

static struct client client_of(unsigned i)
{
    struct client client;
    unsigned host = i * 7919u;

    if (i % 16 == 3)
        snprintf(client.address, FIELD_SIZE, "203.0.113.%u", host % 250 + 1);
    else if (i % 8 == 7)
        snprintf(client.address, FIELD_SIZE, "2001:db8:%x:%x::%x", host % 512, i % 64, i % 9 + 1);
    else
        snprintf(client.address, FIELD_SIZE, "198.%u.%u.%u", 18 + host / 65536 % 2,
                 host / 256 % 256, host % 256);
    if (i % 10 == 9)
        snprintf(client.name, FIELD_SIZE, "unknown");
    else
        snprintf(client.name, FIELD_SIZE, "mail%u.sender%u.example", i % 5, i % 211);
    if (i % 40 == 39)
        snprintf(client.helo, FIELD_SIZE, "[198.18.%u.%u]", host / 256 % 256, host % 256);
    else
        snprintf(client.helo, FIELD_SIZE, "mail%u.sender%u.example", i % 5, i % 211);
    return client;
}

static bool has_login(unsigned i)
{
    return i % 12 == 5;
}

static bool has_sender(unsigned i)
{
    return i % 29 != 28;
}

static size_t print_request(char *text, unsigned i, bool strangers)
{
    struct client client = client_of(i);
    bool login = has_login(i);
    bool encrypted = login || i % 4 != 0;
    char sender[FIELD_SIZE] = "";
    char username[FIELD_SIZE] = "";
    char queue_id[FIELD_SIZE] = "";
    char person[FIELD_SIZE];

    snprintf(person, FIELD_SIZE, strangers ? "person%08x" : "person%u", i / 3);
    if (has_sender(i))
        snprintf(sender, FIELD_SIZE, "user%u@sender%u.example", i, i % 211);
    if (login)
        snprintf(username, FIELD_SIZE, "user%u", i % 300);
    if (i % 3 == 2) /* Postfix knows it from a message's second recipient on */
        snprintf(queue_id, FIELD_SIZE, "4Wq%04X%02Xz9", i & 0xffff, i % 251);
    return (size_t)snprintf(
        text, REQUEST_SIZE,
        "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n"
        "client_address=%s\nclient_name=%s\nclient_port=%u\nreverse_client_name=%s\n"
        "server_address=192.0.2.25\nserver_port=%u\nhelo_name=%s\n"
        "sender=%s\nrecipient=%s@%s\nrecipient_count=0\n"
        "queue_id=%s\ninstance=%x.%x.%x.%x\nsize=%u\netrn_domain=\nstress=\n"
        "sasl_method=%s\nsasl_username=%s\nsasl_sender=\n"
        "ccert_subject=\nccert_issuer=\nccert_fingerprint=\nccert_pubkey_fingerprint=\n"
        "encryption_protocol=%s\nencryption_cipher=%s\nencryption_keysize=%u\n"
        "policy_context=\n\n",
        client.address, client.name, 1024 + i % 60000, client.name, login ? 587u : 25u,
        client.helo, sender, person, RECIPIENT_DOMAINS[i % 3], queue_id, 4000 + i % 97,
        0x6741a000 + i / 50, i * 17 % 1000000, i % 7, 1200 + i * 7919u % 200000,
        login ? "PLAIN" : "", username, encrypted ? "TLSv1.3" : "",
        encrypted ? "TLS_AES_256_GCM_SHA384" : "", encrypted ? 256u : 0u);
}

/* Where the value of an attribute stands. */
static size_t place_of(const char *text, const char *attribute)
{
    return (size_t)(strstr(text, attribute) - text) + strlen(attribute);
}

static bool fill_request(struct request *request, unsigned i, bool strangers)
{
    char text[REQUEST_SIZE];
    size_t instance;

    request->length = print_request(text, i, strangers);
    instance = place_of(text, "\ninstance=");
    request->instance = instance + strcspn(text + instance, ".") + 1;
    request->recipient = place_of(text, "\nrecipient=person");
    request->text = strdup(text);
    return request->text != NULL;
}

struct request *make_requests(size_t count, bool strangers)
{
    struct request *requests = calloc(count, sizeof(*requests));
    unsigned i = 0;

    for (size_t made = 0; requests != NULL && made < count; i++) {
        if (strangers && (has_login(i) || !has_sender(i)))
            continue;
        if (!fill_request(&requests[made++], i, strangers))
            requests = NULL;
    }
    if (requests == NULL) {
        fprintf(stderr, "no memory for %zu requests\n", count);
        exit(1);
    }
    return requests;
}

static void renumber(char *place, uint32_t number)
{
    char digits[9];

    snprintf(digits, sizeof(digits), "%08x", number);
    memcpy(place, digits, 8);
}

void renumber_message(struct request *request, uint32_t number)
{
    renumber(request->text + request->instance, number);
}

void renumber_recipient(struct request *request, uint32_t number)
{
    renumber(request->text + request->recipient, number);
}
