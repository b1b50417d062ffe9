/* listener.c - functions that are told what happens in a context (Servlet 11).
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -pthread -I<folder of servlet.h> -o listener.so listener.c
 *
 *   GET /events shows what has happened; GET /do makes something happen.
 */
#include "servlet.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static const sv_host *host;

/* ------------------------------------------------------------------------------------------------ the last events */
/* LIMIT: of a log that is for looking at only. Events come on many threads at once, so it has a lock. */
#define LOG_BYTES_MAX 4096
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[LOG_BYTES_MAX];
static size_t log_len;

static const char *what(const sv_event *event)
{
    switch (event->kind) {
    case SV_EVENT_CONTEXT_INITIALIZED: return "context initialized";
    case SV_EVENT_CONTEXT_DESTROYED: return "context destroyed";
    case SV_EVENT_REQUEST_INITIALIZED: return "request initialized";
    case SV_EVENT_REQUEST_DESTROYED: return "request destroyed";
    case SV_EVENT_SESSION_CREATED: return "session created";
    case SV_EVENT_SESSION_DESTROYED: return "session destroyed";
    case SV_EVENT_SESSION_ID_CHANGED: return "session id changed";
    case SV_EVENT_CONTEXT_ATTRIBUTE: return "context attribute";
    case SV_EVENT_REQUEST_ATTRIBUTE: return "request attribute";
    case SV_EVENT_SESSION_ATTRIBUTE: return "session attribute";
    default: return "something newer"; /* never: only those that we asked for come */
    }
}

/* The event's memory lives until this returns. Of an attribute, old_value absent says that it was added, value absent
   that it was removed. An error of the first two kinds would refuse the generation, or the request; of others the server
   writes a line. */
static sv_status on_event(void *module, const sv_event *event)
{
    (void)module;
    const char *text = what(event);
    const char *how = "";
    if (event->name.ptr != NULL)
        how = event->value.ptr == NULL ? " removed" : event->old_value.ptr == NULL ? " added" : " replaced";
    pthread_mutex_lock(&lock);
    const int len = snprintf(log_text + log_len, LOG_BYTES_MAX - log_len, "%s%s%.*s%s\n", text,
                             event->name.ptr != NULL ? " " : "", (int)event->name.len,
                             event->name.ptr != NULL ? event->name.ptr : "", how);
    if (len > 0 && (size_t)len < LOG_BYTES_MAX - log_len) log_len += (size_t)len;
    pthread_mutex_unlock(&lock);
    return SV_OK;
}

/* Two listeners, as an example: one for the life of things, one for attributes. */
static const sv_listener lives = {
    .struct_size = sizeof(sv_listener),
    .kinds = SV_EVENT_CONTEXT_INITIALIZED | SV_EVENT_CONTEXT_DESTROYED | SV_EVENT_REQUEST_INITIALIZED |
             SV_EVENT_REQUEST_DESTROYED | SV_EVENT_SESSION_CREATED | SV_EVENT_SESSION_DESTROYED |
             SV_EVENT_SESSION_ID_CHANGED,
    .on_event = on_event,
};
static const sv_listener attributes = {
    .struct_size = sizeof(sv_listener),
    .kinds = SV_EVENT_CONTEXT_ATTRIBUTE | SV_EVENT_REQUEST_ATTRIBUTE | SV_EVENT_SESSION_ATTRIBUTE,
    .on_event = on_event,
};

/* ------------------------------------------------------------------------------------------------ GET /events */
static sv_status events(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    char copy[LOG_BYTES_MAX];
    pthread_mutex_lock(&lock);
    const size_t len = log_len;
    memcpy(copy, log_text, len);
    log_len = 0;
    pthread_mutex_unlock(&lock);
    return host->write(x, copy, len, NULL);
}

/* ------------------------------------------------------------------------------------------------ GET /do */
static sv_status act(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_context *context = host->context(x);
    sv_status status = host->set_attribute(x, SV_LIT("a"), SV_LIT("1"));
    if (status == SV_OK) status = host->set_attribute(x, SV_LIT("a"), SV_LIT("2"));
    if (status == SV_OK) status = host->set_attribute(x, SV_LIT("a"), NULL, 0);
    if (status == SV_OK) status = host->context_set_attribute(context, SV_LIT("b"), SV_LIT("1"));
    if (status == SV_OK) status = host->context_set_attribute(context, SV_LIT("b"), NULL, 0);
    sv_session *session;
    if (status == SV_OK) status = host->session(x, 1, &session);
    if (status == SV_OK) status = host->session_set_attribute(session, SV_LIT("c"), SV_LIT("1"));
    sv_str id;
    if (status == SV_OK) status = host->session_change_id(session, &id);
    if (status == SV_OK) status = host->session_invalidate(session);
    return status;
}

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    (void)error;
    host = table;
    return SV_OK;
}

static const sv_str events_patterns[] = {SV_STR("/events")};
static const sv_servlet events_servlet = {
    .struct_size = sizeof(sv_servlet),
    .methods = SV_GET,
    .name = SV_STR("events"),
    .patterns = events_patterns,
    .pattern_count = 1,
    .load_order = -1,
    .service = events,
};
static const sv_str act_patterns[] = {SV_STR("/do")};
static const sv_servlet act_servlet = {
    .struct_size = sizeof(sv_servlet),
    .methods = SV_GET,
    .name = SV_STR("do"),
    .patterns = act_patterns,
    .pattern_count = 1,
    .load_order = -1,
    .service = act,
};

static const sv_servlet *const servlets[] = {&events_servlet, &act_servlet};
static const sv_listener *const listeners[] = {&lives, &attributes};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("listener"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .servlets = servlets,
    .servlet_count = 2,
    .listeners = listeners,
    .listener_count = 2,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
