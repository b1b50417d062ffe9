/* Two servlets that answer 10 MiB, byte n of which is n % 251: one that waits while its client is slow, and one that is polled. */
#include <servlet.h>

#include <stdlib.h>
#include <string.h>

enum { LENGTH = 10 << 20, PIECE = 251 * 64 };

static const sv_host *host;
static char pattern[PIECE];

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    int i;
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    for (i = 0; i < PIECE; i++) {
        pattern[i] = (char)(i % 251);
    }
    return SV_OK;
}

/* Writes what comes from `at` on, and moves it; in service it waits, in poll it may return SV_WOULD_BLOCK. */
static sv_status write_on(sv_exchange *exchange, size_t *at) {
    while (*at < LENGTH) {
        size_t from = *at % 251, len = PIECE - 251, taken;
        sv_status status;
        if (len > LENGTH - *at) len = LENGTH - *at;
        status = host->write(exchange, pattern + from, len, &taken);
        if (status != SV_OK) return status;
        *at += taken;
    }
    return SV_OK;
}

static sv_status blocking(void *servlet, sv_exchange *exchange, void **task) {
    size_t at = 0;
    sv_status status = host->set_content_length(exchange, LENGTH);
    (void)servlet;
    (void)task;
    return status == SV_OK ? write_on(exchange, &at) : status;
}

static sv_status polled(void *servlet, sv_exchange *exchange, void **task) {
    sv_status status = host->set_content_length(exchange, LENGTH);
    (void)servlet;
    if (status != SV_OK) return status;
    *task = calloc(1, sizeof(size_t));
    return *task == NULL ? SV_E_NOMEM : SV_PENDING;
}

static sv_status poll(void *task, sv_exchange *exchange) {
    sv_status status;
    host->set_timeout(exchange, 0);
    status = write_on(exchange, task);
    return status == SV_WOULD_BLOCK ? SV_PENDING : status;
}

static sv_status hello(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    return host->write(exchange, SV_LIT("hello"), NULL);
}

#define SERVLET(name, pattern, promise, poll, drop)                                                                    \
    static const sv_str name##_patterns[] = { SV_STR(pattern) };                                                       \
    static const sv_servlet name##_servlet = {                                                                         \
        sizeof(sv_servlet), promise, 0, 0, SV_STR(#name), name##_patterns, 1, NULL, 0, -1, 0,                          \
        NULL, NULL, name, poll, drop, NULL,                                                                            \
    }
SERVLET(hello, "/hello", SV_NONBLOCKING, NULL, NULL);
SERVLET(blocking, "/blocking", SV_BLOCKING, NULL, NULL);
SERVLET(polled, "/polled", SV_NONBLOCKING, poll, free);

static const sv_servlet *const servlets[] = { &hello_servlet, &blocking_servlet, &polled_servlet };
static const sv_module module = {
    SV_MAGIC, sizeof(sv_module), SV_ABI_MAJOR, SV_ABI_MINOR, 0, 0, 0, 0,
    SV_STR("writers"), SV_STR("1"), SV_STR("C"),
    init, NULL, NULL, NULL,
    servlets, 3, NULL, 0, NULL, 0, NULL,
};

SV_EXPORT const sv_module *servlet_module_v1(void) { return &module; }
