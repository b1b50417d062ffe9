/* A servlet that tells its VERSION, and counts the visits of a session: "2 3" is the third visit, told by version 2; ?quit ends the
 * session. Built with -DFAILS its init fails, and with -DWAITS="a file" it waits for that file. */
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
#ifdef FAILS
    static const sv_str why = SV_STR("the till is locked");
    *error = why;
    return SV_E_FAILED;
#endif
#ifdef WAITS
    while (access(WAITS, F_OK) != 0) {
        usleep(10000);
    }
#endif
    return SV_OK;
}

static sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    sv_session *session;
    sv_str value;
    sv_str query = host->request(exchange)->query;
    char visits = 0, text[32];
    (void)servlet;
    (void)task;
    if (host->session(exchange, query.len > 0, &session) == SV_OK) {
        if (host->session_attribute(session, SV_LIT("visits"), &value) == SV_OK) {
            visits = value.ptr[0];
        }
        visits++;
        host->session_set_attribute(session, SV_LIT("visits"), &visits, 1);
        if (query.len == 4 && memcmp(query.ptr, "quit", 4) == 0) {
            host->session_invalidate(session);
        }
    }
    return host->write(exchange, text, (size_t)snprintf(text, sizeof text, "%s %d", VERSION, visits), NULL);
}

static const sv_str patterns[] = {SV_STR("/visit")};
static const sv_servlet shop = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING, .name = SV_STR("shop"),
    .patterns = patterns, .pattern_count = 1, .service = service};
static const sv_servlet *const servlets[] = {&shop};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("shop"), .init = init, .servlets = servlets, .servlet_count = 1};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
