/* A servlet that owns a port: its init fails while another one has it. Answers its VERSION and how often it was handed over. With -DFAILS
 * its init fails behind that. With -DSICK it only
 * answers 503. The query `slow` is a moment longer, `hold` waits for a file. */
#include <servlet.h>

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "1"
#endif

static const sv_host *host;
static int owned = -1;
static unsigned char handed;
static char go[4096];

static sv_status fail(sv_str *error, const char *why) {
    if (owned >= 0) {
        close(owned);
    }
    *error = (sv_str){why, strlen(why)};
    return SV_E_FAILED;
}

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    *module = NULL;
    host = table;
    sv_str text;
    if (host->context_folder(context, SV_PATH_WORK, &text) != SV_OK) {
        return fail(error, "no folder");
    }
    snprintf(go, sizeof go, "%.*s/go", (int)text.len, text.ptr);
    if (host->context_parameter(context, SV_LIT("port"), &text) != SV_OK) {
        return fail(error, "no port");
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((unsigned short)atoi(text.ptr));
    owned = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(owned, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(owned, (struct sockaddr *)&address, sizeof address) != 0 || listen(owned, 1) != 0) {
        return fail(error, "the port is taken");
    }
#ifdef FAILS
    return fail(error, "the till is locked");
#endif
    return SV_OK;
}

static void destroy(void *module) {
    (void)module;
    close(owned);
}

static sv_status save(void *module, char *buffer, size_t capacity, size_t *len) {
    (void)module;
    *len = 1;
    if (capacity > 0) {
        buffer[0] = (char)(handed + 1);
    }
    return SV_OK;
}

static sv_status restore(void *module, const char *bytes, size_t len) {
    (void)module;
    handed = len > 0 ? (unsigned char)bytes[0] : 0;
    return SV_OK;
}

static sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
#ifdef SICK
    return host->send_error(exchange, 503, SV_LIT("sick"));
#endif
    const sv_str query = host->request(exchange)->query;
    if (query.len == 4 && memcmp(query.ptr, "slow", 4) == 0) {
        usleep(20000);
    }
    while (query.len == 4 && memcmp(query.ptr, "hold", 4) == 0 && access(go, F_OK) != 0) {
        usleep(10000);
    }
    char text[64];
    int len = snprintf(text, sizeof text, "%s,%d", VERSION, handed);
    return host->write(exchange, text, (size_t)len, NULL);
}

static const sv_str patterns[] = {SV_STR("/owner")};
static const sv_servlet owner = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING, .name = SV_STR("owner"),
    .patterns = patterns, .pattern_count = 1, .service = service};
static const sv_servlet *const servlets[] = {&owner};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("owner"), .init = init, .destroy = destroy, .save = save,
    .restore = restore, .servlets = servlets, .servlet_count = 1};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
