/* filter.c - two filters (Servlet 6): one that traces requests, one that rewrites the body of answers.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I<folder of servlet.h> -o filter.so filter.c
 *
 * A filter is four hooks around what it is mapped to, files as well as servlets:
 *   on_request   outermost filter first; goes on with SV_NEXT, or answers and returns SV_OK
 *   on_response  when the head is about to be sent: the last chance for status and headers
 *   on_body      each piece of the body; what is written here goes on in its place
 *   on_end       whatever happened, once
 */
#include "servlet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sv_host *host;

/* ------------------------------------------------------------------------------------------------ trace */
/* *state is the filter's own for one dispatch: made in on_request, freed in on_end. */
typedef struct trace {
    char id[32];
    size_t id_len;
} trace;

static sv_status trace_request(void *filter, sv_exchange *x, void **state)
{
    (void)filter;
    const sv_request *request = host->request(x);
    if (request == NULL) return SV_E_INTERNAL;
    sv_str secret;
    if (host->header(x, SV_LIT("x-forbidden"), &secret) == SV_OK)
        return host->send_error(x, 403, SV_LIT("not with x-forbidden")); /* SV_OK: answered; nobody else is called */
    trace *self = malloc(sizeof *self);
    if (self == NULL) return SV_E_NOMEM;
    self->id_len = (size_t)snprintf(self->id, sizeof self->id, "trace-%llu", (unsigned long long)request->id);
    *state = self;
    return SV_NEXT;
}

static sv_status trace_response(void *filter, sv_exchange *x, void *state)
{
    (void)filter;
    const trace *self = state;
    return host->set_header(x, SV_HEADER_SET, SV_LIT("X-Trace"), self->id, self->id_len);
}

static void trace_end(void *filter, sv_exchange *x, void *state, sv_status result)
{
    (void)filter;
    trace *self = state;
    uint32_t code = 0;
    char line[96];
    if (host->response_status(x, &code) == SV_OK) {
        snprintf(line, sizeof line, "%s: status %u, result %d", self->id, (unsigned)code, (int)result);
        host->log_message(host->context(x), x, SV_LOG_DEBUG, line, strlen(line));
    }
    free(self);
}

static const sv_str trace_patterns[] = {SV_STR("/*")};
static const sv_filter trace_filter = {
    .struct_size = sizeof(sv_filter),
    .dispatches = SV_DISPATCH_REQUEST,
    .name = SV_STR("trace"),
    .patterns = trace_patterns,
    .pattern_count = 1,
    .order = 1,
    .on_request = trace_request,
    .on_response = trace_response,
    .on_end = trace_end,
};

/* ------------------------------------------------------------------------------------------------ upper */
/* The length of the body does not change, but the server cannot know that: the answer has no Content-Length of before.
   */
static sv_status upper_body(void *filter, sv_exchange *x, void *state, const char *bytes, size_t len, int32_t last)
{
    (void)filter;
    (void)state;
    (void)last; /* 1: the end, where a filter that holds bytes back writes the rest */
    char piece[1024];
    while (len > 0) {
        const size_t now = len < sizeof piece ? len : sizeof piece;
        for (size_t i = 0; i < now; i++)
            piece[i] = (char)(bytes[i] >= 'a' && bytes[i] <= 'z' ? bytes[i] - 'a' + 'A' : bytes[i]);
        const sv_status status = host->write(x, piece, now, NULL); /* takes all, always */
        if (status != SV_OK) return status;
        bytes += now;
        len -= now;
    }
    return SV_OK;
}

static const sv_str upper_patterns[] = {SV_STR("/loud/*"), SV_STR("*.loud")};
static const sv_filter upper_filter = {
    .struct_size = sizeof(sv_filter),
    .name = SV_STR("upper"),
    .patterns = upper_patterns,
    .pattern_count = 2,
    .order = 2,
    .on_body = upper_body,
};

/* ------------------------------------------------------------------------------------------------ a servlet to filter
   */
static sv_status service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_status status = host->set_content_type(x, SV_LIT("text/plain"));
    if (status == SV_OK) status = host->write(x, SV_LIT("hello, "), NULL);
    if (status == SV_OK) status = host->flush(x); /* comes to on_body as an empty piece */
    if (status == SV_OK) status = host->write(x, SV_LIT("world"), NULL);
    return status;
}

static const sv_str patterns[] = {SV_STR("/loud/hello"), SV_STR("/hello")};
static const sv_servlet servlet = {
    .struct_size = sizeof(sv_servlet),
    .methods = SV_GET,
    .name = SV_STR("hello"),
    .patterns = patterns,
    .pattern_count = 2,
    .load_order = -1,
    .service = service,
};

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    (void)error;
    host = table;
    return SV_OK;
}

static const sv_servlet *const servlets[] = {&servlet};
static const sv_filter *const filters[] = {&trace_filter, &upper_filter};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("filter"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .servlets = servlets,
    .servlet_count = 1,
    .filters = filters,
    .filter_count = 2,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
