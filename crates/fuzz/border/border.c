/* A library whose functions are the fuzzer's: each call of the server is handed on to `act`, whose address is a parameter of the
 * context. With LISTENS it hears of all events, and so never runs on an I/O thread. */
#include <servlet.h>

#include <stdlib.h>
#include <string.h>

/* As in calls.rs. */
enum { SERVICE, SERVICE_WITH_POLL, POLL, DROP, ON_REQUEST, ON_RESPONSE, ON_BODY, ON_END, ON_EVENT };

typedef sv_status act_function(const sv_host *, int32_t what, sv_context *, sv_exchange *, sv_session *, void **place);

static act_function *act;
static const sv_host *host;
static sv_context *context;

static sv_status init(const sv_host *table, sv_context *own, void **module, sv_str *error) {
    sv_str address;
    char digits[32] = {0};
    (void)module;
    (void)error;
    host = table;
    context = own;
    const sv_status status = host->context_parameter(context, SV_LIT("act"), &address);
    if (status != SV_OK || address.len >= sizeof digits) return SV_E_FAILED;
    memcpy(digits, address.ptr, address.len);
    act = (act_function *)(uintptr_t)strtoull(digits, NULL, 10);
    return SV_OK;
}

static sv_status service(void *servlet, sv_exchange *x, void **task) {
    (void)servlet;
    return act(host, SERVICE, context, x, NULL, task);
}
static sv_status service_with_poll(void *servlet, sv_exchange *x, void **task) {
    (void)servlet;
    return act(host, SERVICE_WITH_POLL, context, x, NULL, task);
}
static sv_status poll(void *task, sv_exchange *x) { return act(host, POLL, context, x, NULL, &task); }
static void drop(void *task) { act(host, DROP, context, NULL, NULL, &task); }
static sv_status on_request(void *filter, sv_exchange *x, void **state) {
    (void)filter;
    return act(host, ON_REQUEST, context, x, NULL, state);
}
static sv_status on_response(void *filter, sv_exchange *x, void *state) {
    (void)filter;
    return act(host, ON_RESPONSE, context, x, NULL, &state);
}
static sv_status on_body(void *filter, sv_exchange *x, void *state, const char *bytes, size_t len, int32_t last) {
    (void)filter;
    (void)last;
    const sv_status status = act(host, ON_BODY, context, x, NULL, &state);
    return status == SV_OK && len > 0 ? host->write(x, bytes, len, NULL) : status;
}
static void on_end(void *filter, sv_exchange *x, void *state, sv_status result) {
    (void)filter;
    (void)result;
    act(host, ON_END, context, x, NULL, &state);
}

static const sv_str plain_patterns[] = {SV_STR("/plain/*")};
static const sv_str quick_patterns[] = {SV_STR("/quick/*")};
static const sv_str task_patterns[] = {SV_STR("/task/*")};
static const sv_str parts_patterns[] = {SV_STR("/parts/*")};
static const sv_str filter_patterns[] = {SV_STR("/plain/f/*"), SV_STR("/task/f/*")};
static const sv_servlet plain = {.struct_size = sizeof(sv_servlet), .name = SV_STR("plain"), .load_order = -1,
    .patterns = plain_patterns, .pattern_count = 1, .service = service};
static const sv_servlet quick = {.struct_size = sizeof(sv_servlet), .name = SV_STR("quick"), .load_order = -1,
    .flags = SV_NONBLOCKING, .patterns = quick_patterns, .pattern_count = 1, .service = service_with_poll, .poll = poll,
    .drop = drop};
static const sv_servlet task = {.struct_size = sizeof(sv_servlet), .name = SV_STR("task"), .load_order = -1,
    .patterns = task_patterns, .pattern_count = 1, .service = service_with_poll, .poll = poll, .drop = drop};
static const sv_servlet parts = {.struct_size = sizeof(sv_servlet), .name = SV_STR("parts"), .load_order = -1,
    .flags = SV_MULTIPART, .patterns = parts_patterns, .pattern_count = 1, .service = service};
static const sv_servlet *const servlets[] = {&plain, &quick, &task, &parts};
static const sv_filter filter = {.struct_size = sizeof(sv_filter), .name = SV_STR("filter"),
    .dispatches = SV_DISPATCH_REQUEST | SV_DISPATCH_FORWARD | SV_DISPATCH_INCLUDE | SV_DISPATCH_ERROR | SV_DISPATCH_ASYNC,
    .patterns = filter_patterns, .pattern_count = 2, .on_request = on_request, .on_response = on_response,
    .on_body = on_body, .on_end = on_end};
static const sv_filter *const filters[] = {&filter};

#ifdef LISTENS
static sv_status on_event(void *module, const sv_event *event) {
    (void)module;
    return act(host, ON_EVENT, context, event->exchange, event->session, NULL);
}
static const sv_listener listener = {.struct_size = sizeof(sv_listener), .kinds = 0xffffffff, .on_event = on_event};
static const sv_listener *const listeners[] = {&listener};
#else
static const sv_listener *const *const listeners = NULL;
#endif

static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("border"), .init = init, .servlets = servlets, .servlet_count = 4,
    .filters = filters, .filter_count = 1,
#ifdef LISTENS
    .listeners = listeners, .listener_count = 1
#endif
};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    (void)listeners;
    return &module;
}
