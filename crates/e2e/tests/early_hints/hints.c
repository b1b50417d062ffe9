/* Servlets that tell early what their responses will need. The query is a path: they answer when that file is there. */
#include <servlet.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static sv_status hint(sv_exchange *exchange, uint32_t status, const char *name, const char *value, size_t len) {
    sv_pair header = { { name, strlen(name) }, { value, len } };
    return host->informational(exchange, status, &header, 1);
}

static sv_status link_to_style(sv_exchange *exchange) {
    static const char style[] = "</style.css>; rel=preload; as=style";
    return hint(exchange, 103, "Link", style, sizeof style - 1);
}

static void wait_for_the_file(sv_exchange *exchange) {
    char path[4096];
    const sv_request *request = host->request(exchange);
    if (request && request->query.len > 0 && request->query.len < sizeof path) {
        memcpy(path, request->query.ptr, request->query.len);
        path[request->query.len] = 0;
        while (access(path, F_OK) != 0) {
            usleep(1000);
        }
    }
}

/* Answers the status that the hint has got; two of them. */
static sv_status page(void *servlet, sv_exchange *exchange, void **task) {
    char line[64];
    sv_status first = link_to_style(exchange);
    sv_status second = hint(exchange, 103, "Link", "</script.js>", 12);
    (void)servlet;
    (void)task;
    wait_for_the_file(exchange);
    return host->write(exchange, line, (size_t)sprintf(line, "%d %d", first, second), NULL);
}

static sv_status inline_page(void *servlet, sv_exchange *exchange, void **task) {
    return page(servlet, exchange, task);
}

static sv_status missing(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    link_to_style(exchange);
    return host->send_error(exchange, 404, "no such page", 12);
}

static sv_status fails(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    link_to_style(exchange);
    return SV_E_FAILED;
}

/* Answers the statuses of hints that are not sent. */
static sv_status wrong(void *servlet, sv_exchange *exchange, void **task) {
    static char long_value[20000];
    char line[128];
    int len;
    (void)servlet;
    (void)task;
    memset(long_value, 'x', sizeof long_value);
    len = sprintf(line, "%d %d %d %d %d %d", hint(exchange, 200, "Link", "a", 1), hint(exchange, 101, "Link", "a", 1),
                  hint(exchange, 103, "Link", "a\r\nb", 4), hint(exchange, 103, "Content-Length", "1", 1),
                  hint(exchange, 103, "Connection", "close", 5), hint(exchange, 103, "Link", long_value, sizeof long_value));
    if (host->flush(exchange) == SV_OK) {
        len += sprintf(line + len, " %d", link_to_style(exchange));
    }
    return host->write(exchange, line, (size_t)len, NULL);
}

static sv_status large(void *servlet, sv_exchange *exchange, void **task) {
    static char piece[100000];
    int i;
    (void)servlet;
    (void)task;
    memset(piece, 'x', sizeof piece);
    for (i = 0; i < 50; i++) {
        sv_status status = host->write(exchange, piece, sizeof piece, NULL);
        if (status != SV_OK) return status;
    }
    return SV_OK;
}

#define SERVLET(name, pattern, promise)                                                                                \
    static const sv_str name##_patterns[] = { SV_STR(pattern) };                                                       \
    static const sv_servlet name##_servlet = {                                                                         \
        sizeof(sv_servlet), promise, 0, 0, SV_STR(#name), name##_patterns, 1, NULL, 0, -1, 0,                          \
        NULL, NULL, name, NULL, NULL, NULL,                                                                            \
    }
SERVLET(page, "/page", SV_BLOCKING);
SERVLET(inline_page, "/inline", SV_NONBLOCKING);
SERVLET(missing, "/missing", SV_NONBLOCKING);
SERVLET(fails, "/fails", SV_BLOCKING);
SERVLET(wrong, "/wrong", SV_BLOCKING);
SERVLET(large, "/large", SV_BLOCKING);

static const sv_servlet *const servlets[] = { &page_servlet, &inline_page_servlet, &missing_servlet, &fails_servlet, &wrong_servlet, &large_servlet };
static const sv_module module = {
    SV_MAGIC, sizeof(sv_module), SV_ABI_MAJOR, SV_ABI_MINOR, 0, 0, 0, 0,
    SV_STR("hints"), SV_STR("1"), SV_STR("C"),
    init, NULL, NULL, NULL,
    servlets, 6, NULL, 0, NULL, 0, NULL,
};

SV_EXPORT const sv_module *servlet_module_v1(void) { return &module; }
