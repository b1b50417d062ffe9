/* Two servlets: one that answers at once, and one that reads its body to the end. */
#include <servlet.h>

#include <stddef.h>

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static sv_status hello(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    return host->write(exchange, SV_LIT("hello"), NULL);
}

static sv_status take(void *servlet, sv_exchange *exchange, void **task) {
    sv_str chunk;
    sv_status status;
    (void)servlet;
    (void)task;
    while ((status = host->read_chunk(exchange, &chunk)) == SV_OK) {
    }
    return status == SV_END ? host->write(exchange, SV_LIT("taken"), NULL) : status;
}

static const sv_str hello_patterns[] = {SV_STR("/hello")};
static const sv_str take_patterns[] = {SV_STR("/take")};
static const sv_servlet greeter = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .methods = SV_GET,
    .name = SV_STR("hello"), .patterns = hello_patterns, .pattern_count = 1, .service = hello};
static const sv_servlet taker = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING, .methods = SV_POST,
    .name = SV_STR("take"), .patterns = take_patterns, .pattern_count = 1, .service = take};
static const sv_servlet *const servlets[] = {&greeter, &taker};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("attack"), .init = init, .servlets = servlets, .servlet_count = 2};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
