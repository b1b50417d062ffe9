/* Servlets that show what a connection brings, for the tests of connectors. */
#include <servlet.h>

#include <stdio.h>
#include <unistd.h>

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static sv_status say(sv_exchange *exchange, const char *text, size_t len) {
    return host->write(exchange, text, len, NULL);
}

/* Version, client, and all headers. */
static sv_status look(void *servlet, sv_exchange *exchange, void **task) {
    const sv_request *request = host->request(exchange);
    char text[1000];
    size_t i;
    (void)servlet;
    (void)task;
    say(exchange, text, (size_t)snprintf(text, sizeof text, "%u %.*s%s\n", request->http_version,
                                         (int)request->remote_addr.len, request->remote_addr.ptr,
                                         request->remote_addr.ptr ? "" : "nowhere"));
    for (i = 0; i < request->header_count; i++) {
        const sv_pair *header = &request->headers[i];
        say(exchange, text, (size_t)snprintf(text, sizeof text, "%.*s: %.*s\n", (int)header->name.len, header->name.ptr,
                                             (int)header->value.len, header->value.ptr));
    }
    return SV_OK;
}

/* The length of the body, and the trailers behind it. */
static sv_status length(void *servlet, sv_exchange *exchange, void **task) {
    const sv_pair *pairs;
    size_t total = 0, count, i;
    char text[100];
    sv_str chunk;
    sv_status status;
    (void)servlet;
    (void)task;
    while ((status = host->read_chunk(exchange, &chunk)) == SV_OK) {
        total += chunk.len;
    }
    if (status != SV_END || (status = host->request_trailers(exchange, &pairs, &count)) != SV_OK) {
        return status;
    }
    host->set_trailer(exchange, SV_LIT("X-Sum"), SV_LIT("7"));
    say(exchange, text, (size_t)snprintf(text, sizeof text, "%zu", total));
    for (i = 0; i < count; i++) {
        say(exchange, text, (size_t)snprintf(text, sizeof text, " %.*s=%.*s", (int)pairs[i].name.len, pairs[i].name.ptr,
                                             (int)pairs[i].value.len, pairs[i].value.ptr));
    }
    return SV_OK;
}

static sv_status slow(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    usleep(500000);
    return say(exchange, SV_LIT("slow"));
}

static sv_status endless(void *servlet, sv_exchange *exchange, void **task) {
    static const char piece[16384] = {1};
    sv_status status;
    (void)servlet;
    (void)task;
    while ((status = host->write(exchange, piece, sizeof piece, NULL)) == SV_OK) {}
    return status;
}

#define SERVLET(which) \
    static const sv_str which##_patterns[] = {SV_STR("/" #which)}; \
    static const sv_servlet which##_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING, \
        .name = SV_STR(#which), .patterns = which##_patterns, .pattern_count = 1, .service = which};
SERVLET(look)
SERVLET(length)
SERVLET(slow)
SERVLET(endless)

static const sv_servlet *const servlets[] = {&look_servlet, &length_servlet, &slow_servlet, &endless_servlet};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("connectors"), .init = init, .servlets = servlets, .servlet_count = 4};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
