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

static size_t print_request(char *text, unsigned i)
{
    struct client client = client_of(i);
    int login = i % 12 == 5;
    int encrypted = login || i % 4 != 0;
    char sender[FIELD_SIZE] = "";
    char username[FIELD_SIZE] = "";
    char queue_id[FIELD_SIZE] = "";

    if (i % 29 != 28)
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
        "sender=%s\nrecipient=person%u@%s\nrecipient_count=0\n"
        "queue_id=%s\ninstance=%x.%x.%x.%x\nsize=%u\netrn_domain=\nstress=\n"
        "sasl_method=%s\nsasl_username=%s\nsasl_sender=\n"
        "ccert_subject=\nccert_issuer=\nccert_fingerprint=\nccert_pubkey_fingerprint=\n"
        "encryption_protocol=%s\nencryption_cipher=%s\nencryption_keysize=%u\n"
        "policy_context=\n\n",
        client.address, client.name, 1024 + i % 60000, client.name, login ? 587u : 25u,
        client.helo, sender, i / 3, RECIPIENT_DOMAINS[i % 3], queue_id, 4000 + i % 97,
        0x6741a000 + i / 50, i * 17 % 1000000, i % 7, 1200 + i * 7919u % 200000,
        login ? "PLAIN" : "", username, encrypted ? "TLSv1.3" : "",
        encrypted ? "TLS_AES_256_GCM_SHA384" : "", encrypted ? 256u : 0u);
}

struct request *make_requests(size_t count)
{
    struct request *requests = calloc(count, sizeof(*requests));
    char text[REQUEST_SIZE];

    for (size_t i = 0; requests != NULL && i < count; i++) {
        requests[i].length = print_request(text, (unsigned)i);
        requests[i].text = strdup(text);
        if (requests[i].text == NULL)
            requests = NULL;
    }
    if (requests == NULL) {
        fprintf(stderr, "no memory for %zu requests\n", count);
        exit(1);
    }
    return requests;
}
