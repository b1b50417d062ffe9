/* The library that the soak replaces. Its version is a stamp of ten digits, which the soak writes into the built file:
 * so each reload has a version of its own, however long the soak takes. PADDING makes builds of different sizes and
 * addresses, and FAILS one that refuses to start. */
#include <servlet.h>

#include <string.h>

#ifndef PADDING
#define PADDING 1
#endif

static const sv_host *host;
static const char stamp[] = "version 0000000000";
SV_EXPORT const char soak_padding[PADDING * 4096] = { 1 };

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    static const char text[] = "it fails on purpose";
    (void)context;
    *module = NULL;
    host = table;
#ifdef FAILS
    error->ptr = text;
    error->len = sizeof text - 1;
    return SV_E_FAILED;
#else
    (void)error;
    (void)text;
    return SV_OK;
#endif
}

static sv_status version(void *servlet, sv_exchange *exchange, void **task) {
    static const sv_pair headers[] = { { SV_STR("content-type"), SV_STR("text/plain") } };
    sv_response response;
    (void)servlet;
    (void)task;
    memset(&response, 0, sizeof response);
    response.struct_size = sizeof response;
    response.status = 200;
    response.headers = headers;
    response.header_count = 1;
    response.body = stamp;
    response.body_len = sizeof stamp - 1;
    response.body_kind = SV_BODY_STATIC;
    return host->respond(exchange, &response);
}

static const sv_str patterns[] = { SV_STR("/version") };
static const sv_servlet version_servlet = {
    sizeof(sv_servlet), SV_NONBLOCKING, 0, SV_GET, SV_STR("version"), patterns, 1, NULL, 0, -1, 0,
    NULL, NULL, version, NULL, NULL, NULL,
};
static const sv_servlet *const servlets[] = { &version_servlet };
static const sv_module module = {
    SV_MAGIC, sizeof(sv_module), SV_ABI_MAJOR, SV_ABI_MINOR, 0, 0, 0, 0,
    SV_STR("soak"), SV_STR("1"), SV_STR("C"),
    init, NULL, NULL, NULL,
    servlets, 1, NULL, 0, NULL, 0, NULL,
};

const sv_module *servlet_module_v1(void) { return &module; }
