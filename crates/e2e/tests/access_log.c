/* A servlet with something to log: a header, a request attribute, a session if it is asked for one. */
#include <servlet.h>

#include <string.h>

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static int has(sv_exchange *exchange, const char *name) {
    sv_str value;
    return host->parameter(exchange, name, strlen(name), 0, &value) == SV_OK;
}

static sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    sv_session *session;
    sv_status status = SV_OK;
    (void)servlet;
    (void)task;
    host->set_header(exchange, SV_HEADER_SET, SV_LIT("x-out"), SV_LIT("out"));
    if (has(exchange, "health")) {
        host->set_attribute(exchange, SV_LIT("health"), SV_LIT("yes"));
    }
    if (has(exchange, "session") && host->session(exchange, 1, &session) == SV_OK) {
        status = host->session_set_attribute(session, SV_LIT("in"), SV_LIT("value"));
    }
    if (status == SV_OK) {
        status = host->write(exchange, SV_LIT("hello"), NULL);
    }
    host->flush(exchange);
    /* What is known only when the client has all of it is logged too. */
    host->set_attribute(exchange, SV_LIT("quiet"), SV_LIT("an\"other"));
    return status;
}

static const sv_str patterns[] = {SV_STR("/log")};
static const sv_servlet servlet = {.struct_size = sizeof(sv_servlet), .name = SV_STR("log"), .patterns = patterns,
    .pattern_count = 1, .service = service};
static const sv_servlet *const servlets[] = {&servlet};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("log"), .init = init, .servlets = servlets, .servlet_count = 1};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
