/* A servlet that answers when a file is there. Built with -DFAILS its init fails. */
#include <servlet.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const sv_host *host;
static char go[4096];

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    sv_str work;
    *module = NULL;
    host = table;
#ifdef FAILS
    static const sv_str why = SV_STR("the till is locked");
    *error = why;
    return SV_E_FAILED;
#endif
    (void)error;
    if (host->context_folder(context, SV_PATH_WORK, &work) != SV_OK) {
        return SV_E_FAILED;
    }
    snprintf(go, sizeof go, "%.*s/go", (int)work.len, work.ptr);
    return SV_OK;
}

static sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
#ifdef SICK
    return host->send_error(exchange, 503, SV_LIT("sick"));
#endif
    if (host->request(exchange)->query.len > 0) {
        while (access(go, F_OK) != 0) {
            usleep(10000);
        }
    }
    return host->write(exchange, SV_LIT("held"), NULL);
}

static const sv_str patterns[] = {SV_STR("/held")};
static const sv_servlet held = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING, .name = SV_STR("held"),
    .patterns = patterns, .pattern_count = 1, .service = service};
static const sv_servlet *const servlets[] = {&held};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("held"), .init = init, .servlets = servlets, .servlet_count = 1};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
