/* A servlet that tells all that there is to know of a session, and listener functions that log the lives of sessions. */
#include <servlet.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const sv_host *host;
static char go[4096];

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    sv_str work;
    (void)error;
    *module = NULL;
    host = table;
    if (host->context_folder(context, SV_PATH_WORK, &work) != SV_OK) {
        return SV_E_FAILED;
    }
    snprintf(go, sizeof go, "%.*s/go", (int)work.len, work.ptr);
    return SV_OK;
}

static int is(sv_exchange *exchange, const char *what) {
    sv_str query = host->request(exchange)->query;
    return query.ptr != NULL && query.len == strlen(what) && memcmp(query.ptr, what, query.len) == 0;
}

static sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    char line[200];
    const sv_session_info *info;
    sv_session *session;
    sv_str value;
    sv_status status;
    int visits = 0;
    (void)servlet;
    (void)task;
    if (is(exchange, "look") && host->session(exchange, 0, &session) == SV_NONE) {
        return host->write(exchange, SV_LIT("none"), NULL);
    }
    if (is(exchange, "hold")) {
        while (access(go, F_OK) != 0) {
            usleep(10000);
        }
    }
    if ((status = host->session(exchange, 1, &session)) != SV_OK) {
        return status;
    }
    if (is(exchange, "short")) {
        host->session_set_max_inactive(session, 1);
    }
    if (is(exchange, "ever")) {
        host->session_set_max_inactive(session, 0);
    }
    if (is(exchange, "end")) {
        host->session_invalidate(session);
        return host->write(exchange, SV_LIT("ended"), NULL);
    }
    if (host->session_attribute(session, SV_LIT("visits"), &value) == SV_OK) {
        memcpy(&visits, value.ptr, sizeof visits);
    }
    if (!is(exchange, "look")) {
        visits++;
        host->session_set_attribute(session, SV_LIT("visits"), (const char *)&visits, sizeof visits);
    }
    host->session_info(exchange, &info);
    snprintf(line, sizeof line, "%d %s created %lld accessed %lld max %lld", visits, info->is_new ? "new" : "old",
             (long long)info->created, (long long)info->accessed, (long long)info->max_inactive);
    return host->write(exchange, line, strlen(line), NULL);
}

static sv_status on_event(void *module_state, const sv_event *event) {
    char line[200];
    (void)module_state;
    snprintf(line, sizeof line, "kept: session %s %.*s", event->kind == SV_EVENT_SESSION_CREATED ? "created" : "destroyed",
             (int)event->session_id.len, event->session_id.ptr);
    host->log_message(event->context, NULL, SV_LOG_INFO, line, strlen(line));
    return SV_OK;
}

static const sv_str patterns[] = {SV_STR("/kept")};
static const sv_servlet kept = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING, .name = SV_STR("kept"),
    .patterns = patterns, .pattern_count = 1, .service = service};
static const sv_servlet *const servlets[] = {&kept};
static const sv_listener listener = {.struct_size = sizeof(sv_listener),
    .kinds = SV_EVENT_SESSION_CREATED | SV_EVENT_SESSION_DESTROYED, .on_event = on_event};
static const sv_listener *const listeners[] = {&listener};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("kept"), .init = init, .servlets = servlets, .servlet_count = 1,
    .listeners = listeners, .listener_count = 1};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
