/* What the cases of refusals.txt stand below: a servlet and a module that are as they should be, but for what a case says. */
#include <servlet.h>

#include <string.h>

#define UNUSED __attribute__((unused))

static UNUSED sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)exchange;
    (void)task;
    return SV_OK;
}

static UNUSED sv_status poll(void *task, sv_exchange *exchange) {
    (void)task;
    (void)exchange;
    return SV_OK;
}

static UNUSED void drop(void *task) { (void)task; }

static UNUSED sv_status on_request(void *filter, sv_exchange *exchange, void **state) {
    (void)filter;
    (void)exchange;
    (void)state;
    return SV_NEXT;
}

static UNUSED sv_status on_event(void *module, const sv_event *event) {
    (void)module;
    (void)event;
    return SV_OK;
}

static UNUSED const sv_str patterns[] = { SV_STR("/a") };
static UNUSED const sv_pair no_pairs[1];

#define GOOD_SERVLET                                                                                                   \
    .struct_size = sizeof(sv_servlet), .name = SV_STR("plain"), .patterns = patterns, .pattern_count = 1,              \
    .load_order = -1, .service = service
#define GOOD_MODULE                                                                                                    \
    .magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR, .abi_minor = SV_ABI_MINOR,         \
    .name = SV_STR("case"), .version = SV_STR("1"), .built_with = SV_STR("C")

#define EXPORT(...)                                                                                                    \
    static const sv_module module = { __VA_ARGS__ };                                                                   \
    SV_EXPORT const sv_module *servlet_module_v1(void) { return &module; }
/* A module, and a module with one servlet; the arguments are said last, and so they count. */
#define MODULE(...) EXPORT(GOOD_MODULE, __VA_ARGS__)
#define SERVLET(...)                                                                                                   \
    static const sv_servlet plain = { GOOD_SERVLET, __VA_ARGS__ };                                                     \
    static const sv_servlet *const servlets[] = { &plain };                                                            \
    MODULE(.servlets = servlets, .servlet_count = 1)
/* A module with one filter, and with one listener function. */
#define FILTER(...)                                                                                                    \
    static const sv_filter guard = { .struct_size = sizeof(sv_filter), .name = SV_STR("guard"), __VA_ARGS__ };         \
    static const sv_filter *const filters[] = { &guard };                                                              \
    MODULE(.filters = filters, .filter_count = 1)
#define LISTENER(...)                                                                                                  \
    static const sv_listener ear = { .struct_size = sizeof(sv_listener), .kinds = SV_EVENT_CONTEXT_INITIALIZED,        \
                                     .on_event = on_event, __VA_ARGS__ };                                              \
    static const sv_listener *const listeners[] = { &ear };                                                            \
    MODULE(.listeners = listeners, .listener_count = 1)
/* A module whose init does this. */
#define INIT(...)                                                                                                      \
    static sv_status init(const sv_host *host, sv_context *context, void **module, sv_str *error) {                    \
        (void)host;                                                                                                    \
        (void)context;                                                                                                 \
        (void)module;                                                                                                  \
        (void)error;                                                                                                   \
        __VA_ARGS__                                                                                                    \
    }                                                                                                                  \
    MODULE(.init = init)
/* A module with a servlet, or with a filter, whose create does this. */
#define CREATE_OF(...)                                                                                                 \
    static sv_status create(sv_context *context, void *module, const sv_config *config, void **made, sv_str *error) {  \
        (void)context;                                                                                                 \
        (void)module;                                                                                                  \
        (void)config;                                                                                                  \
        (void)made;                                                                                                    \
        (void)error;                                                                                                   \
        __VA_ARGS__                                                                                                    \
    }
#define CREATE(...) CREATE_OF(__VA_ARGS__) SERVLET(.create = create)
#define CREATE_FILTER(...) CREATE_OF(__VA_ARGS__) FILTER(.create = create)
/* A module whose restore does this; the generation before has handed over "old". */
#define RESTORE(...)                                                                                                   \
    static sv_status restore(void *module, const char *bytes, size_t len) {                                            \
        (void)module;                                                                                                  \
        (void)bytes;                                                                                                   \
        (void)len;                                                                                                     \
        __VA_ARGS__                                                                                                    \
    }                                                                                                                  \
    MODULE(.restore = restore)
