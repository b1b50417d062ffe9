/* Two listener functions for everything, `first` and `last`, which write what they are told into the log; a servlet that gives them
 * something to tell; and filters and servlets that write when they come and go. */
#include <servlet.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sv_host *host;
static sv_context *own;

static void lives(const char *what, const char *name) {
    char line[100];
    const int len = snprintf(line, sizeof line, "life: %s %s;", what, name);
    host->log_message(own, NULL, SV_LOG_INFO, line, (size_t)len);
}

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)error;
    *module = NULL;
    host = table;
    own = context;
    lives("init", "module");
    return SV_OK;
}

static void end(void *module) {
    (void)module;
    lives("destroy", "module");
}

static sv_status create(sv_context *context, void *module, const sv_config *config, void **made, sv_str *error) {
    char *name = malloc(config->name.len + 1);
    (void)context;
    (void)module;
    (void)error;
    if (name == NULL) {
        return SV_E_NOMEM;
    }
    memcpy(name, config->name.ptr, config->name.len);
    name[config->name.len] = 0;
    lives("create", name);
    *made = name;
    return SV_OK;
}

static void destroy(void *made) {
    lives("destroy", made);
    free(made);
}

static int is(sv_str text, const char *what) {
    return text.ptr != NULL && text.len == strlen(what) && memcmp(text.ptr, what, text.len) == 0;
}

/* ------------------------------------------------------------------ listener functions */
static const char *kind_of(uint32_t kind) {
    switch (kind) {
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
    default: return "something";
    }
}

/* Ids are another one each time. */
static const char *shown(sv_str text, char *buffer, size_t capacity) {
    if (text.ptr == NULL) {
        return "-";
    }
    if (text.len == 32) {
        return "ID";
    }
    snprintf(buffer, capacity, "%.*s", (int)text.len, text.ptr);
    return buffer;
}

static void say(const char *who, const sv_event *event) {
    char line[300], name[64], value[64], old[64], a[64];
    sv_str found = {NULL, 0};
    int len;
    if (event->session != NULL) {
        host->session_attribute(event->session, SV_LIT("a"), &found);
    }
    len = snprintf(line, sizeof line, "told %s: %s %s %s to %s, a=%s;", who, kind_of(event->kind),
                   shown(event->name, name, sizeof name), shown(event->old_value, old, sizeof old),
                   shown(event->value, value, sizeof value), shown(found, a, sizeof a));
    host->log_message(event->context, event->exchange, SV_LOG_INFO, line, (size_t)len);
}

static sv_status first(void *module, const sv_event *event) {
    (void)module;
    say("first", event);
    return SV_OK;
}

static sv_status last(void *module, const sv_event *event) {
    (void)module;
    say("last", event);
    if (event->kind == SV_EVENT_SESSION_ATTRIBUTE && is(event->name, "loop")) {
        host->session_set_attribute(event->session, SV_LIT("loop"), SV_LIT("again"));
    }
    if (event->kind == SV_EVENT_SESSION_ATTRIBUTE && is(event->name, "end") && event->value.ptr != NULL) {
        host->session_invalidate(event->session);
    }
    if (event->kind == SV_EVENT_SESSION_ATTRIBUTE && is(event->name, "renew") && event->value.ptr == NULL) {
        sv_session *next;
        if (host->session(event->exchange, 1, &next) != SV_OK) {
            host->log_message(event->context, event->exchange, SV_LOG_ERROR, SV_LIT("there is no next session"));
        }
    }
    if (event->kind == SV_EVENT_SESSION_DESTROYED &&
        (host->session_invalidate(event->session) != SV_E_STATE ||
         host->session_set_attribute(event->session, SV_LIT("a"), SV_LIT("3")) != SV_E_STATE)) {
        host->log_message(event->context, event->exchange, SV_LOG_ERROR, SV_LIT("a session that has ended was changed"));
    }
    return SV_OK;
}

/* ------------------------------------------------------------------ the servlet */
static sv_status act(void *servlet, sv_exchange *exchange, void **task) {
    sv_str query = host->request(exchange)->query, id;
    sv_session *session;
    sv_status status = host->session(exchange, 1, &session);
    (void)servlet;
    (void)task;
    if (status != SV_OK) {
        return status;
    }
    if (is(query, "loop") || is(query, "end")) {
        status = host->session_set_attribute(session, query.ptr, query.len, SV_LIT("1"));
        return status == SV_OK ? host->write(exchange, SV_LIT("set"), NULL) : status;
    }
    if (is(query, "renew")) {
        host->session_set_attribute(session, query.ptr, query.len, SV_LIT("1"));
        return host->session_invalidate(session);
    }
    host->session_set_attribute(session, SV_LIT("a"), SV_LIT("1"));
    if (is(query, "short")) {
        return host->session_set_max_inactive(session, 1);
    }
    if (is(query, "all")) {
        host->session_set_attribute(session, SV_LIT("a"), SV_LIT("2"));
        host->session_change_id(session, &id);
        host->set_attribute(exchange, SV_LIT("r"), SV_LIT("1"));
        host->context_set_attribute(host->context(exchange), SV_LIT("c"), SV_LIT("1"));
        return host->session_invalidate(session);
    }
    return SV_OK;
}

#define ALL 0x077Fu
static const sv_listener first_listener = {.struct_size = sizeof(sv_listener), .kinds = ALL, .on_event = first};
static const sv_listener last_listener = {.struct_size = sizeof(sv_listener), .kinds = ALL, .on_event = last};
static const sv_listener *const listeners[] = {&first_listener, &last_listener};

static const sv_str patterns[] = {SV_STR("/act")};
static const sv_servlet servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .name = SV_STR("act"),
    .patterns = patterns, .pattern_count = 1, .service = act};
#define SERVLET(id, place) \
    static const sv_servlet id = {.struct_size = sizeof(sv_servlet), .name = SV_STR(#id), .load_order = place, .create = create, \
        .destroy = destroy, .service = act}
#define FILTER(id) \
    static const sv_filter id = {.struct_size = sizeof(sv_filter), .name = SV_STR(#id), .create = create, .destroy = destroy}
SERVLET(servlet_last, -1);
SERVLET(servlet_2, 2);
SERVLET(servlet_1, 1);
FILTER(filter_1);
FILTER(filter_2);
static const sv_servlet *const servlets[] = {&servlet, &servlet_last, &servlet_2, &servlet_1};
static const sv_filter *const filters[] = {&filter_1, &filter_2};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("listeners"), .init = init, .destroy = end, .servlets = servlets,
    .servlet_count = 4, .filters = filters, .filter_count = 2, .listeners = listeners, .listener_count = 2};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
