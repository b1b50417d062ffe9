/* Declares servlets and filters, and ends the process when one of its functions is called: to explain a request is not to start. */
#include <servlet.h>

#include <stdlib.h>

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)table;
    (void)context;
    (void)module;
    (void)error;
    abort();
}

static sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)exchange;
    (void)task;
    abort();
}

static sv_status on_request(void *filter, sv_exchange *exchange, void **state) {
    (void)filter;
    (void)exchange;
    (void)state;
    abort();
}

static const sv_str cart_patterns[] = {SV_STR("/cart/*"), SV_STR("*.do")};
static const sv_servlet cart = {.struct_size = sizeof(sv_servlet), .methods = SV_GET | SV_POST, .name = SV_STR("cart"),
    .patterns = cart_patterns, .pattern_count = 2, .service = service};
static const sv_str item_patterns[] = {SV_STR("/cart/{item}"), SV_STR("/exact")};
static const sv_servlet item = {.struct_size = sizeof(sv_servlet), .name = SV_STR("item"),
    .patterns = item_patterns, .pattern_count = 2, .service = service};
static const sv_servlet *const servlets[] = {&cart, &item};

static const sv_str log_patterns[] = {SV_STR("/*")};
static const sv_filter log_filter = {.struct_size = sizeof(sv_filter), .name = SV_STR("log"), .order = 1,
    .patterns = log_patterns, .pattern_count = 1, .on_request = on_request};
static const sv_str guarded[] = {SV_STR("cart")};
static const sv_filter guard = {.struct_size = sizeof(sv_filter), .name = SV_STR("guard"), .order = 2,
    .servlets = guarded, .servlet_count = 1, .on_request = on_request};
static const sv_filter *const filters[] = {&log_filter, &guard};

static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("shop"), .version = SV_STR("1"), .init = init, .servlets = servlets,
    .servlet_count = 2, .filters = filters, .filter_count = 2};

const sv_module *servlet_module_v1(void) { return &module; }
