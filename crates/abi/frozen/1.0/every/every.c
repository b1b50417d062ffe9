/* every.c - calls each function of the table that the fixtures do not call, and has each hook that they do not have.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Not an example: what it says is compared, line by line, by crates/e2e/tests/frozen.rs.
 */
#include "servlet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sv_host *host;

/* ------------------------------------------------------------------------------------------------ what it says */
static sv_status say(sv_exchange *x, const char *what, sv_str value)
{
    char line[512];
    const int len = value.ptr == NULL ? snprintf(line, sizeof line, "%s: none\n", what)
                                      : snprintf(line, sizeof line, "%s: %.*s\n", what, (int)value.len, value.ptr);
    return host->write(x, line, (size_t)len, NULL);
}

static sv_status say_number(sv_exchange *x, const char *what, long value)
{
    char text[24];
    const int len = snprintf(text, sizeof text, "%ld", value);
    const sv_str number = {text, (size_t)len};
    return say(x, what, number);
}

/* ------------------------------------------------------------------------------------------------ POST /every/{id} */
static void say_request(sv_exchange *x)
{
    sv_str value, body, rest;
    const sv_pair *pairs;
    size_t count;
    say_number(x, "tls", host->tls(x) != NULL);
    host->header(x, SV_LIT("X-One"), &value);
    say(x, "header", value);
    host->path_parameter(x, SV_LIT("id"), &value);
    say(x, "path_parameter", value);
    host->cookie(x, SV_LIT("c"), &value);
    say(x, "cookie", value);
    host->parameter(x, SV_LIT("a"), 1, &value);
    say(x, "parameter", value);
    host->read_chunk(x, &body);
    say_number(x, "read_chunk", body.len > 0);
    host->read_all(x, 1000, &rest);
    say_number(x, "read_all", (long)(body.len + rest.len));
    host->request_trailers(x, &pairs, &count);
    say(x, "request_trailers", count == 1 ? pairs[0].value : value);
    say_number(x, "cancelled", host->cancelled(x));
    say_number(x, "retiring", host->retiring(x));
}

static void say_context(sv_exchange *x)
{
    sv_context *context = host->context(x);
    char buffer[8];
    sv_str value;
    const sv_pair *pairs;
    size_t count, len;
    say_number(x, "extension", host->extension("nobody.has/1") != NULL);
    say_number(x, "log_enabled", host->log_enabled(context, SV_LOG_ERROR));
    say_number(x, "log_message", host->log_message(context, x, SV_LOG_INFO, SV_LIT("every function is called")));
    say_number(x, "report_panic", host->report_panic(context, SV_LIT("it is none"), SV_LIT("every.c"), 1));
    host->context_path(context, &value);
    say(x, "context_path", value);
    host->context_parameters(context, &pairs, &count);
    say(x, "context_parameters", count == 1 ? pairs[0].value : value);
    say_number(x, "context_folder", host->context_folder(context, SV_PATH_WORK, &value));
    host->context_resource(context, SV_LIT("greeting"), &value);
    say(x, "context_resource", value);
    say_number(x, "context_set_attribute", host->context_set_attribute(context, SV_LIT("k"), SV_LIT("12345")));
    host->context_attribute(context, SV_LIT("k"), buffer, sizeof buffer, &len);
    value.ptr = buffer;
    value.len = len;
    say(x, "context_attribute", value);
    say_number(x, "context_generation", host->context_generation(context) > 0);
}

static void say_session(sv_exchange *x)
{
    sv_session *session;
    const sv_pair *pairs;
    size_t count = 0;
    if (host->session(x, 1, &session) != SV_OK) return;
    host->session_set_attribute(session, SV_LIT("k"), SV_LIT("v"));
    host->session_attributes(session, &pairs, &count);
    say_number(x, "session_attributes", (long)count);
}

static void count_release(void *counter)
{
    ++*(int *)counter;
}

static void say_response(sv_exchange *x)
{
    static const char owned[] = "write_owned: taken\n";
    static const sv_pair link = {SV_STR("link"), SV_STR("</style.css>; rel=preload")};
    static int released;
    sv_str value;
    uint32_t status;
    say_number(x, "informational", host->informational(x, 103, &link, 1));
    host->set_header(x, SV_HEADER_SET, SV_LIT("X-Said"), SV_LIT("twice"));
    host->response_header(x, SV_LIT("x-said"), 0, &value);
    say(x, "response_header", value);
    host->response_status(x, &status);
    say_number(x, "response_status", (long)status);
    say_number(x, "set_status", host->set_status(x, 99));
    host->error_text(x, &value);
    say_number(x, "error_text", value.len > 0);
    say_number(x, "set_trailer", host->set_trailer(x, SV_LIT("X-Sum"), SV_LIT("7")));
    say_number(x, "write_owned", host->write_owned(x, owned, sizeof owned - 1, count_release, &released));
}

static sv_status every_service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    const sv_status status = host->set_content_type(x, SV_LIT("text/plain"));
    say_session(x);
    say_response(x);
    say_request(x);
    say_context(x);
    return status;
}

/* ------------------------------------------------------------------------------------------------ GET /task */
/* A waker wakes it, then the clone of it by a timer. */
typedef struct waiting {
    sv_waker *waker;
    int polls;
} waiting;

static sv_status task_service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    waiting *self = calloc(1, sizeof *self);
    if (self == NULL) return SV_E_NOMEM;
    self->waker = host->waker(x);
    *task = self;
    host->waker_wake(host->waker_clone(self->waker), 1);
    return SV_PENDING;
}

static sv_status task_poll(void *task, sv_exchange *x)
{
    waiting *self = task;
    if (self->polls++ == 0) {
        const sv_status status = host->context_timer(host->context(x), 1, host->waker_clone(self->waker));
        return status == SV_OK ? SV_PENDING : status;
    }
    const sv_status status = host->write(x, SV_LIT("woken\n"), NULL);
    return status == SV_WOULD_BLOCK ? SV_PENDING : status;
}

static void task_drop(void *task)
{
    waiting *self = task;
    host->waker_drop(self->waker);
    free(self);
}

/* ------------------------------------------------------------------------------------------------ GET /whole */
/* A whole answer; the filter adds to it. */
static sv_status whole_service(void *servlet, sv_exchange *x, void **task)
{
    static const sv_pair type = {SV_STR("content-type"), SV_STR("text/plain")};
    static const char body[] = "whole\n";
    const sv_response response = {
        .struct_size = sizeof response,
        .status = 201,
        .headers = &type,
        .header_count = 1,
        .body = body,
        .body_len = sizeof body - 1,
        .body_kind = SV_BODY_STATIC,
    };
    (void)servlet;
    (void)task;
    return host->respond(x, &response);
}

static sv_status on_request(void *filter, sv_exchange *x, void **state)
{
    (void)filter;
    (void)x;
    *state = malloc(1);
    return SV_NEXT;
}

static sv_status on_response(void *filter, sv_exchange *x, void *state)
{
    (void)filter;
    (void)state;
    return host->set_header(x, SV_HEADER_SET, SV_LIT("X-Filter"), SV_LIT("seen"));
}

static sv_status on_body(void *filter, sv_exchange *x, void *state, const char *bytes, size_t len, int32_t last)
{
    (void)filter;
    (void)state;
    sv_status status = host->write(x, bytes, len, NULL);
    if (status == SV_OK && last) status = host->write(x, SV_LIT("filtered\n"), NULL);
    return status;
}

static void on_end(void *filter, sv_exchange *x, void *state, sv_status result)
{
    (void)filter;
    (void)x;
    (void)result;
    free(state);
}

/* ------------------------------------------------------------------------------------------------ GET /counts */
/* Requests are counted by a listener function; the count is handed over to the next generation. */
static long requests;

static sv_status on_event(void *module, const sv_event *event)
{
    (void)module;
    if (event->kind == SV_EVENT_REQUEST_INITIALIZED) requests++;
    return SV_OK;
}

static sv_status counts_service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    return say_number(x, "requests", requests);
}

static sv_status save(void *module, char *buffer, size_t capacity, size_t *len)
{
    (void)module;
    *len = sizeof requests;
    if (capacity >= *len) memcpy(buffer, &requests, *len);
    return SV_OK;
}

static sv_status restore(void *module, const char *bytes, size_t len)
{
    (void)module;
    if (len != sizeof requests) return SV_E_ARG;
    memcpy(&requests, bytes, len);
    return SV_OK;
}

/* ------------------------------------------------------------------------------------------------ the module */
static const void *extension(const char *id)
{
    (void)id;
    return NULL;
}

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    (void)error;
    host = table;
    return SV_OK;
}

#define SERVLET(name_, path, methods_, ...) \
    static const sv_str name_##_patterns[] = {SV_STR(path)}; \
    static const sv_servlet name_##_servlet = { \
        .struct_size = sizeof(sv_servlet), \
        .methods = methods_, \
        .name = SV_STR(#name_), \
        .patterns = name_##_patterns, \
        .pattern_count = 1, \
        .load_order = -1, \
        .service = name_##_service, \
        __VA_ARGS__ \
    }
SERVLET(every, "/every/{id}", SV_POST, .flags = SV_BLOCKING);
SERVLET(task, "/task", SV_GET, .poll = task_poll, .drop = task_drop);
SERVLET(whole, "/whole", SV_GET, .flags = SV_NONBLOCKING);
SERVLET(counts, "/counts", SV_GET, .flags = SV_NONBLOCKING);

static const sv_filter filter = {
    .struct_size = sizeof(sv_filter),
    .dispatches = SV_DISPATCH_REQUEST,
    .name = SV_STR("seen"),
    .patterns = whole_patterns,
    .pattern_count = 1,
    .on_request = on_request,
    .on_response = on_response,
    .on_body = on_body,
    .on_end = on_end,
};
static const sv_listener listener = {
    .struct_size = sizeof(sv_listener),
    .kinds = SV_EVENT_REQUEST_INITIALIZED,
    .on_event = on_event,
};

static const sv_servlet *const servlets[] = {&every_servlet, &task_servlet, &whole_servlet, &counts_servlet};
static const sv_filter *const filters[] = {&filter};
static const sv_listener *const listeners[] = {&listener};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("every"),
    .version = SV_STR("1.0.0"),
    .built_with = SV_STR("C99"),
    .init = init,
    .save = save,
    .restore = restore,
    .servlets = servlets,
    .servlet_count = 4,
    .filters = filters,
    .filter_count = 1,
    .listeners = listeners,
    .listener_count = 1,
    .extension = extension,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
