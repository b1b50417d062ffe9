/* Servlets that take what a request has, each in its way, for the tests of what is too much. */
#include <servlet.h>

#include <stdio.h>

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

/* How many parameters, cookies and parts there are. */
static sv_status look(void *servlet, sv_exchange *exchange, void **task) {
    const sv_pair *pairs;
    size_t parameters, cookies, parts = 0;
    char text[100];
    sv_status status;
    (void)servlet;
    (void)task;
    if ((status = host->parameters(exchange, &pairs, &parameters)) != SV_OK ||
        (status = host->cookies(exchange, &pairs, &cookies)) != SV_OK ||
        ((status = host->part_count(exchange, &parts)) != SV_OK && status != SV_NONE)) {
        return status;
    }
    return say(exchange, text, (size_t)snprintf(text, sizeof text, "%zu %zu %zu", parameters, cookies, parts));
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
    say(exchange, text, (size_t)snprintf(text, sizeof text, "%zu", total));
    for (i = 0; i < count; i++) {
        say(exchange, text, (size_t)snprintf(text, sizeof text, " %.*s=%.*s", (int)pairs[i].name.len, pairs[i].name.ptr,
                                             (int)pairs[i].value.len, pairs[i].value.ptr));
    }
    return SV_OK;
}

static sv_status ignore(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    return say(exchange, SV_LIT("ignored"));
}

/* Trailers, before and after the head. */
static sv_status trailers(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    host->set_trailer(exchange, SV_LIT("X-Sum"), SV_LIT("7"));
    say(exchange, SV_LIT("summed"));
    host->flush(exchange);
    host->set_trailer(exchange, SV_LIT("X-Sum"), SV_LIT("8"));
    return host->set_trailer(exchange, SV_LIT("X-Late"), SV_LIT("9")) == SV_E_STATE ? SV_OK : SV_E_FAILED;
}

/* Less than it has announced. */
static sv_status less(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    host->set_content_length(exchange, 10);
    return say(exchange, SV_LIT("half"));
}

#define SERVLET(which, more) \
    static const sv_str which##_patterns[] = {SV_STR("/" #which)}; \
    static const sv_servlet which##_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING | (more), \
        .name = SV_STR(#which), .patterns = which##_patterns, .pattern_count = 1, .service = which};
SERVLET(look, SV_MULTIPART)
SERVLET(length, 0)
SERVLET(ignore, 0)
SERVLET(trailers, 0)
SERVLET(less, 0)

static const sv_servlet *const servlets[] = {&look_servlet, &length_servlet, &ignore_servlet, &trailers_servlet,
                                             &less_servlet};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("limits"), .init = init, .servlets = servlets, .servlet_count = 5};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
