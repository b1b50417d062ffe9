/* Servlets that keep a visitor's count in the session, and what else is done with one. */
#include <servlet.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static int is(sv_exchange *exchange, const char *what) {
    sv_str query = host->request(exchange)->query;
    return query.ptr != NULL && query.len == strlen(what) && memcmp(query.ptr, what, query.len) == 0;
}

static sv_status count(void *servlet, sv_exchange *exchange, void **task) {
    char line[200];
    const sv_session_info *info;
    sv_session *session;
    sv_str value;
    sv_status status;
    int visits = 0;
    (void)servlet;
    (void)task;
    if (is(exchange, "look")) {
        status = host->session(exchange, 0, &session);
        host->session_info(exchange, &info);
        sprintf(line, "%s, asked for %s", status == SV_NONE ? "none" : "one",
                info->requested_id.ptr == NULL ? "nothing" : info->requested_valid ? "it" : "another");
        return host->write(exchange, line, strlen(line), NULL);
    }
    if (is(exchange, "late")) {
        host->flush(exchange);
        return host->session(exchange, 1, &session) == SV_E_STATE ? host->write(exchange, SV_LIT("late"), NULL) : SV_E_FAILED;
    }
    if ((status = host->session(exchange, 1, &session)) != SV_OK) {
        return status == SV_E_LIMIT ? host->send_error(exchange, 503, SV_LIT("too many")) : status;
    }
    if (is(exchange, "end")) {
        host->session_invalidate(session);
        if (host->session_attribute(session, SV_LIT("visits"), &value) != SV_E_STATE) {
            return SV_E_FAILED;
        }
        return host->write(exchange, SV_LIT("ended"), NULL);
    }
    if (is(exchange, "renew")) {
        host->session_invalidate(session);
        if ((status = host->session(exchange, 1, &session)) != SV_OK) {
            return status;
        }
        host->session_info(exchange, &info);
        return host->write(exchange, info->requested_valid ? "valid" : "stale", 5, NULL);
    }
    if (is(exchange, "rotate") && host->session_change_id(session, &value) != SV_OK) {
        return SV_E_FAILED;
    }
    if (is(exchange, "short")) {
        host->session_set_max_inactive(session, 1);
    }
    if (is(exchange, "large")) {
        char *large = calloc(1, 100000);
        status = host->session_set_attribute(session, SV_LIT("large"), large, 100000);
        free(large);
        return host->write(exchange, status == SV_E_LIMIT ? "limit" : "taken", 5, NULL);
    }
    if (is(exchange, "reset")) {
        host->reset(exchange);
    }
    if (host->session_attribute(session, SV_LIT("visits"), &value) == SV_OK) {
        memcpy(&visits, value.ptr, sizeof visits);
    }
    visits++;
    host->session_set_attribute(session, SV_LIT("visits"), (const char *)&visits, sizeof visits);
    host->session_info(exchange, &info);
    sprintf(line, "%d%s", visits, info->is_new ? " new" : "");
    host->encode_url(exchange, SV_LIT("count?x"), &value);
    host->set_header(exchange, SV_HEADER_SET, SV_LIT("x-url"), value.ptr, value.len);
    return host->write(exchange, line, strlen(line), NULL);
}

static const sv_str patterns[] = {SV_STR("/count")};
static const sv_servlet servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .name = SV_STR("count"),
    .patterns = patterns, .pattern_count = 1, .service = count};
static const sv_servlet *const servlets[] = {&servlet};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("sessions"), .init = init, .servlets = servlets, .servlet_count = 1};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
