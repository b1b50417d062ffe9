/* Answers with what it knows of TLS. */
#include <servlet.h>

#include <stdio.h>

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context; (void)module; (void)error;
    host = table;
    return SV_OK;
}

static void put(sv_exchange *x, sv_str text) {
    if (text.ptr == NULL) host->write(x, SV_LIT("-"), NULL);
    else host->write(x, text.ptr, text.len, NULL);
    host->write(x, SV_LIT(" "), NULL);
}

static sv_status service(void *servlet, sv_exchange *x, void **task) {
    (void)servlet; (void)task;
    const sv_tls *tls = host->tls(x);
    if (tls == NULL) return host->write(x, SV_LIT("plain"), NULL);
    if (tls != host->tls(x) || tls->struct_size < sizeof *tls) return SV_E_FAILED;
    put(x, tls->protocol);
    put(x, tls->cipher);
    put(x, tls->server_name);
    put(x, host->request(x)->scheme);
    host->write(x, host->request(x)->secure ? "secure" : "open", host->request(x)->secure ? 6 : 4, NULL);
    for (uint32_t i = 0; i < tls->certificate_count; i++) {
        char line[2 * 4096 + 1];
        size_t len = 0;
        for (size_t at = 0; at < tls->certificates[i].len && at < 4096; at++) {
            len += (size_t)sprintf(line + len, "%02x", (unsigned char)tls->certificates[i].ptr[at]);
        }
        host->write(x, SV_LIT(" "), NULL);
        host->write(x, line, len, NULL);
    }
    return SV_OK;
}

static const sv_str patterns[] = {SV_STR("/c")};
static const sv_servlet servlet = {.struct_size = sizeof(sv_servlet), .name = SV_STR("c"), .patterns = patterns,
    .pattern_count = 1, .service = service};
static const sv_servlet *const servlets[] = {&servlet};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("tls"), .init = init, .servlets = servlets, .servlet_count = 1};

SV_EXPORT const sv_module *servlet_module_v1(void) { return &module; }
