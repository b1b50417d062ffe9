/* Servlets whose answers are worth to be compressed. */
#include <servlet.h>

#include <stddef.h>

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static sv_status lines(sv_exchange *exchange, int count) {
    sv_status status = SV_OK;
    while (count-- > 0 && status == SV_OK) {
        status = host->write(exchange, SV_LIT("<p>It was the best of times, it was the worst of times.</p>\n"), NULL);
    }
    return status;
}

/* A page of 10,000 lines. */
static sv_status page(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    host->set_content_type(exchange, SV_LIT("text/html"));
    host->set_header(exchange, SV_HEADER_SET, SV_LIT("ETag"), SV_LIT("\"strong\""));
    host->set_header(exchange, SV_HEADER_SET, SV_LIT("Vary"), SV_LIT("Cookie"));
    return lines(exchange, 10000);
}

/* Fails after the half of it. */
static sv_status cut(void *servlet, sv_exchange *exchange, void **task) {
    sv_status status;
    (void)servlet;
    (void)task;
    host->set_content_type(exchange, SV_LIT("text/html"));
    if ((status = lines(exchange, 5000)) != SV_OK || (status = host->flush(exchange)) != SV_OK) {
        return status;
    }
    return SV_E_FAILED;
}

/* Each piece of the request is an event of the answer, with a trailer behind them. */
static sv_status events(void *servlet, sv_exchange *exchange, void **task) {
    sv_status status;
    sv_str piece;
    (void)servlet;
    (void)task;
    host->set_content_type(exchange, SV_LIT("text/event-stream"));
    host->set_trailer(exchange, SV_LIT("X-End"), SV_LIT("good"));
    if ((status = host->flush(exchange)) != SV_OK) {
        return status;
    }
    while ((status = host->read_chunk(exchange, &piece)) == SV_OK) {
        if ((status = host->write(exchange, SV_LIT("data: "), NULL)) != SV_OK ||
            (status = host->write(exchange, piece.ptr, piece.len, NULL)) != SV_OK ||
            (status = host->write(exchange, SV_LIT("\n\n"), NULL)) != SV_OK ||
            (status = host->flush(exchange)) != SV_OK) {
            return status;
        }
    }
    return status == SV_END ? SV_OK : status;
}

#define SERVLET(name, pattern, promise)                                                                                \
    static const sv_str name##_patterns[] = { SV_STR(pattern) };                                                       \
    static const sv_servlet name##_servlet = {                                                                         \
        sizeof(sv_servlet), promise, 0, 0, SV_STR(#name), name##_patterns, 1, NULL, 0, -1, 0,                          \
        NULL, NULL, name, NULL, NULL, NULL,                                                                            \
    }
SERVLET(page, "/page", SV_NONBLOCKING);
SERVLET(cut, "/cut", SV_BLOCKING);
SERVLET(events, "/events", SV_BLOCKING);

static const sv_servlet *const servlets[] = { &page_servlet, &cut_servlet, &events_servlet };
static const sv_module module = {
    SV_MAGIC, sizeof(sv_module), SV_ABI_MAJOR, SV_ABI_MINOR, 0, 0, 0, 0,
    SV_STR("streams"), SV_STR("1"), SV_STR("C"),
    init, NULL, NULL, NULL,
    servlets, 3, NULL, 0, NULL, 0, NULL,
};

SV_EXPORT const sv_module *servlet_module_v1(void) { return &module; }
