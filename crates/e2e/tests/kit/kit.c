/* The kit in C: one servlet for each thing that a library can do, for comparison with kit.cpp and kit/ (Rust). */
#include <servlet.h>

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sv_host *host;

/* Writes formatted text, 4 KiB at most. */
static sv_status say(sv_exchange *x, const char *format, ...)
{
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    const int len = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return len >= 0 && len < (int)sizeof text ? host->write(x, text, (size_t)len, NULL) : SV_E_LIMIT;
}
#define TEXT(str) (int)(str).len, (str).ptr != NULL ? (str).ptr : ""

static sv_status plain(sv_exchange *x)
{
    return host->set_content_type(x, SV_LIT("text/plain; charset=utf-8"));
}

static sv_status put(sv_exchange *x, const char *label, sv_str value)
{
    return value.ptr != NULL ? say(x, "%s: %.*s\n", label, TEXT(value)) : say(x, "%s is absent\n", label);
}

/* "name=value" for each. */
static sv_status put_all(sv_exchange *x, const sv_pair *pairs, size_t count)
{
    sv_status status = SV_OK;
    for (size_t i = 0; i < count && status == SV_OK; i++)
        status = say(x, "%.*s=%.*s\n", TEXT(pairs[i].name), TEXT(pairs[i].value));
    return status;
}

static sv_status facts(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    const sv_request *request = host->request(x);
    if (request == NULL) return SV_E_INTERNAL;
    sv_str tester;
    sv_status status = plain(x);
    if (status == SV_OK) status = host->header(x, SV_LIT("X-Tester"), &tester);
    if (status == SV_OK || status == SV_NONE) status = put(x, "method", request->method_name);
    if (status == SV_OK) status = put(x, "uri", request->request_uri);
    if (status == SV_OK) status = put(x, "query", request->query);
    if (status == SV_OK) status = put(x, "context path", request->context_path);
    if (status == SV_OK) status = put(x, "servlet path", request->servlet_path);
    if (status == SV_OK) status = put(x, "path info", request->path_info);
    if (status == SV_OK) status = put(x, "pattern", request->match_pattern);
    if (status == SV_OK) status = put(x, "servlet", request->servlet_name);
    if (status == SV_OK) status = put(x, "scheme", request->scheme);
    if (status == SV_OK) status = put(x, "server", request->server_name);
    if (status == SV_OK) status = put(x, "remote", request->remote_addr);
    if (status == SV_OK) status = put(x, "content type", request->content_type);
    if (status == SV_OK) status = put(x, "x-tester", tester);
    return status;
}

static sv_status params(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_str a;
    const sv_pair *all;
    size_t count;
    sv_status status = host->parameter(x, SV_LIT("a"), 0, &a);
    if (status != SV_OK && status != SV_NONE) return status;
    status = host->parameters(x, &all, &count);
    if (status == SV_OK) status = plain(x);
    if (status == SV_OK) status = put(x, "a", a);
    return status == SV_OK ? put_all(x, all, count) : status;
}

static sv_status items(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_str id;
    sv_status status = host->path_parameter(x, SV_LIT("id"), &id);
    if (status == SV_OK) status = plain(x);
    return status == SV_OK ? put(x, "id", id) : status;
}

static sv_status cookies(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    const sv_cookie seen = {.struct_size = sizeof seen, .flags = SV_COOKIE_HTTP_ONLY | SV_COOKIE_MAX_AGE,
                            .name = SV_STR("seen"), .value = SV_STR("yes"), .path = SV_STR("/"), .max_age = 60};
    sv_str taste;
    const sv_pair *all;
    size_t count;
    sv_status status = host->cookie(x, SV_LIT("taste"), &taste);
    if (status != SV_OK && status != SV_NONE) return status;
    status = host->cookies(x, &all, &count);
    if (status == SV_OK) status = host->set_cookie(x, &seen);
    if (status == SV_OK) status = plain(x);
    if (status == SV_OK) status = put(x, "taste", taste);
    return status == SV_OK ? put_all(x, all, count) : status;
}

static sv_status attributes(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_str a, b;
    sv_status status = host->set_attribute(x, SV_LIT("a"), SV_LIT("1"));
    if (status == SV_OK) status = host->set_attribute(x, SV_LIT("b"), SV_LIT("2"));
    if (status == SV_OK) status = host->set_attribute(x, SV_LIT("a"), NULL, 0);
    if (status == SV_OK) status = host->attribute(x, SV_LIT("b"), &b);
    if (status == SV_OK) status = host->attribute(x, SV_LIT("a"), &a);
    if (status == SV_OK || status == SV_NONE) status = plain(x);
    if (status == SV_OK) status = put(x, "a", a);
    if (status == SV_OK) status = put(x, "b", b);
    return status;
}

static sv_status count(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_str chunk;
    unsigned long bytes = 0;
    sv_status status;
    while ((status = host->read_chunk(x, &chunk)) == SV_OK) bytes += chunk.len;
    if (status == SV_END) status = plain(x);
    return status == SV_OK ? say(x, "%lu bytes\n", bytes) : status;
}

static sv_status upload(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    size_t parts;
    sv_status status = host->part_count(x, &parts);
    if (status == SV_NONE) return host->send_error(x, 415, SV_LIT("no form with files"));
    if (status == SV_OK) status = plain(x);
    for (size_t i = 0; i < parts && status == SV_OK; i++) {
        const sv_part *part;
        const sv_str none = SV_STR("-");
        status = host->part(x, i, &part);
        if (status != SV_OK) break;
        status = say(x, "%.*s %.*s %.*s %lu\n", TEXT(part->name), TEXT(part->file_name.ptr ? part->file_name : none),
                     TEXT(part->content_type.ptr ? part->content_type : none), (unsigned long)part->size);
    }
    return status;
}

static sv_status stream(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    char piece[26 * 1024];
    for (size_t i = 0; i < sizeof piece; i++) piece[i] = (char)('a' + i % 26);
    sv_status status = plain(x);
    for (size_t left = 1048576; left > 0 && status == SV_OK;) {
        const size_t len = left < sizeof piece ? left : sizeof piece;
        status = host->write(x, piece, len, NULL);
        left -= len;
    }
    return status;
}

static sv_status missing(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    return host->send_error(x, 404, SV_LIT("no such item"));
}

static sv_status broken(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    host->fail(x, SV_LIT("kit/broken"), SV_LIT("it broke"));
    return SV_E_FAILED;
}

static sv_status redirect(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    return host->redirect(x, 0, SV_LIT("facts?from=redirect"));
}

static sv_status modified(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    const sv_status status = plain(x);
    return status == SV_OK ? say(x, "old news\n") : status;
}

static int64_t modified_when(void *servlet, sv_exchange *x)
{
    (void)servlet;
    (void)x;
    return 1700000000000;
}

/* ------------------------------------------------------------------------------------------------ sessions */
static sv_status session(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_session *session;
    sv_str visits;
    char text[16];
    sv_status status = host->session(x, 1, &session);
    if (status == SV_OK) status = host->session_attribute(session, SV_LIT("visits"), &visits);
    if (status != SV_OK && status != SV_NONE) return status;
    snprintf(text, sizeof text, "%.*s", TEXT(visits));
    snprintf(text, sizeof text, "%d", atoi(text) + 1);
    status = host->session_set_attribute(session, SV_LIT("visits"), text, strlen(text));
    if (status == SV_OK) status = plain(x);
    return status == SV_OK ? say(x, "visits: %s\n", text) : status;
}

static sv_status session_end(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_session *session;
    sv_status status = host->session(x, 0, &session);
    if (status == SV_NONE) return host->send_error(x, 409, SV_LIT("there is no session"));
    if (status == SV_OK) status = host->session_invalidate(session);
    if (status == SV_OK) status = plain(x);
    return status == SV_OK ? say(x, "ended\n") : status;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int created, destroyed;

static sv_status on_session(void *module, const sv_event *event)
{
    (void)module;
    pthread_mutex_lock(&lock);
    if (event->kind == SV_EVENT_SESSION_CREATED) created++;
    if (event->kind == SV_EVENT_SESSION_DESTROYED) destroyed++;
    pthread_mutex_unlock(&lock);
    return SV_OK;
}

static sv_status sessions(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    pthread_mutex_lock(&lock);
    const int made = created, gone = destroyed;
    pthread_mutex_unlock(&lock);
    const sv_status status = plain(x);
    return status == SV_OK ? say(x, "created: %d\ndestroyed: %d\n", made, gone) : status;
}

/* ------------------------------------------------------------------------------------------------ async */
static sv_status timer(void *servlet, sv_exchange *x, void **task)
{
    static char nothing;
    (void)servlet;
    *task = &nothing;
    return host->context_timer(host->context(x), 20, host->waker(x)) == SV_OK ? SV_PENDING : SV_E_FAILED;
}

static sv_status timer_poll(void *task, sv_exchange *x)
{
    (void)task;
    sv_status status = plain(x);
    if (status == SV_OK) status = host->write(x, SV_LIT("after a while\n"), NULL);
    return status == SV_WOULD_BLOCK ? SV_PENDING : status;
}

static void timer_drop(void *task)
{
    (void)task;
}

/* Runs on a thread of the context's pool. */
static void detached_run(void *argument)
{
    sv_exchange *x = argument;
    const sv_request *request = host->request(x);
    sv_status status = request != NULL ? plain(x) : SV_E_FAILED;
    if (status == SV_OK) status = say(x, "from a thread: %.*s\n", TEXT(request->servlet_path));
    host->complete(x, status);
}

static sv_status detached(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_context *context = host->context(x);
    sv_status status = host->detach(x, NULL, NULL);
    if (status != SV_OK) return status;
    status = host->context_post(context, detached_run, x);
    return status == SV_OK ? SV_PENDING : status; /* an error counts as complete */
}

/* ------------------------------------------------------------------------------------------------ the filter */
static sv_status stamp(void *filter, sv_exchange *x, void *state)
{
    (void)filter;
    (void)state;
    return host->set_header(x, SV_HEADER_SET, SV_LIT("X-Kit"), SV_LIT("stamped"));
}

static const sv_str stamp_patterns[] = {SV_STR("/*")};
static const sv_filter stamp_filter = {.struct_size = sizeof(sv_filter), .name = SV_STR("stamp"),
                                       .patterns = stamp_patterns, .pattern_count = 1, .on_response = stamp};

/* ------------------------------------------------------------------------------------------------ the module */
#define SERVLET(function, path, method, ...) \
    static const sv_str function##_patterns[] = {SV_STR(path)}; \
    static const sv_servlet function##_servlet = {.struct_size = sizeof(sv_servlet), .methods = method, \
                                                  .name = SV_STR(#function), .patterns = function##_patterns, \
                                                  .pattern_count = 1, .load_order = -1, .service = function, \
                                                  __VA_ARGS__}
SERVLET(facts, "/facts/*", 0, .reserved = 0);
SERVLET(params, "/params", SV_GET | SV_POST, .reserved = 0);
SERVLET(items, "/items/{id}", SV_GET, .reserved = 0);
SERVLET(cookies, "/cookies", SV_GET, .reserved = 0);
SERVLET(attributes, "/attributes", SV_GET, .reserved = 0);
SERVLET(count, "/count", SV_POST, .reserved = 0);
SERVLET(upload, "/upload", SV_POST, .flags = SV_MULTIPART);
SERVLET(stream, "/stream", SV_GET, .reserved = 0);
SERVLET(missing, "/missing", SV_GET, .reserved = 0);
SERVLET(broken, "/broken", SV_GET, .reserved = 0);
SERVLET(redirect, "/redirect", SV_GET, .reserved = 0);
SERVLET(modified, "/modified", SV_GET, .last_modified = modified_when);
SERVLET(session, "/session", SV_GET, .reserved = 0);
SERVLET(session_end, "/session/end", SV_POST, .reserved = 0);
SERVLET(sessions, "/sessions", SV_GET, .reserved = 0);
SERVLET(timer, "/timer", SV_GET, .poll = timer_poll, .drop = timer_drop);
SERVLET(detached, "/detached", SV_GET, .reserved = 0);

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    (void)error;
    host = table;
    return SV_OK;
}

static const sv_servlet *const servlets[] = {
    &facts_servlet,  &params_servlet,  &items_servlet,   &cookies_servlet,  &attributes_servlet, &count_servlet,
    &upload_servlet, &stream_servlet,  &missing_servlet, &broken_servlet,   &redirect_servlet,   &modified_servlet,
    &session_servlet, &session_end_servlet, &sessions_servlet, &timer_servlet, &detached_servlet,
};
static const sv_filter *const filters[] = {&stamp_filter};
static const sv_listener listener = {.struct_size = sizeof(sv_listener),
                                     .kinds = SV_EVENT_SESSION_CREATED | SV_EVENT_SESSION_DESTROYED,
                                     .on_event = on_session};
static const sv_listener *const listeners[] = {&listener};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("kit"),
    .version = SV_STR("1"),
    .init = init,
    .servlets = servlets,
    .servlet_count = sizeof servlets / sizeof servlets[0],
    .filters = filters,
    .filter_count = 1,
    .listeners = listeners,
    .listener_count = 1,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
