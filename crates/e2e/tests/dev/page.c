/* A page with a version, under a strict policy, and beside it what is no page. */
#include <servlet.h>

#include <string.h>

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK; /* of init */
}

static sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    const sv_str query = host->request(exchange)->query;
    if (query.len == 4 && memcmp(query.ptr, "json", 4) == 0) {
        host->set_header(exchange, SV_HEADER_SET, SV_LIT("content-type"), SV_LIT("application/json"));
        return host->write(exchange, SV_LIT("{}"), NULL);
    }
    host->set_header(exchange, SV_HEADER_SET, SV_LIT("content-type"), SV_LIT("text/html; charset=utf-8"));
    host->set_header(exchange, SV_HEADER_SET, SV_LIT("content-security-policy"), SV_LIT("default-src 'self'"));
    return host->write(exchange, SV_LIT("<!doctype html><title>page</title><h1>" "version 1" "</h1></html>"), NULL);
}

static const sv_str patterns[] = {SV_STR("/page")};
static const sv_servlet page = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .name = SV_STR("page"),
    .patterns = patterns, .pattern_count = 1, .service = service};
static const sv_servlet *const servlets[] = {&page};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("page"), .init = init, .servlets = servlets, .servlet_count = 1};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
