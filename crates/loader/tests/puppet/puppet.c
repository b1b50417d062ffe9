/* A library whose functions are the test's: it hands each call on to a table that the test has filled in. Every test opens a copy
 * of its own, and so has a table of its own. */
#include <servlet.h>

typedef struct puppet {
    void *test;
    sv_status (*service)(void *test, sv_exchange *, void **task);
    sv_status (*poll)(void *test, void *task, sv_exchange *);
    void (*drop)(void *test, void *task);
    sv_status (*on_request)(void *test, sv_exchange *, void **state);
    sv_status (*on_response)(void *test, sv_exchange *, void *state);
    sv_status (*on_body)(void *test, sv_exchange *, void *state, const char *bytes, size_t len, int32_t last);
    void (*on_end)(void *test, sv_exchange *, void *state, sv_status result);
    sv_status (*on_event)(void *test, const sv_event *);
    sv_status (*save)(void *test, char *buffer, size_t capacity, size_t *len);
    sv_status (*restore)(void *test, const char *bytes, size_t len);
} puppet;

SV_EXPORT puppet strings;
SV_EXPORT sv_context *puppet_context;
puppet strings;
sv_context *puppet_context;

static sv_status service(void *servlet, sv_exchange *x, void **task) {
    (void)servlet;
    return strings.service(strings.test, x, task);
}
static sv_status poll(void *task, sv_exchange *x) { return strings.poll(strings.test, task, x); }
static void drop(void *task) { strings.drop(strings.test, task); }
static sv_status on_request(void *filter, sv_exchange *x, void **state) {
    (void)filter;
    return strings.on_request(strings.test, x, state);
}
static sv_status on_response(void *filter, sv_exchange *x, void *state) {
    (void)filter;
    return strings.on_response(strings.test, x, state);
}
static sv_status on_body(void *filter, sv_exchange *x, void *state, const char *bytes, size_t len, int32_t last) {
    (void)filter;
    return strings.on_body(strings.test, x, state, bytes, len, last);
}
static void on_end(void *filter, sv_exchange *x, void *state, sv_status result) {
    (void)filter;
    strings.on_end(strings.test, x, state, result);
}
static sv_status on_event(void *module, const sv_event *event) {
    (void)module;
    return strings.on_event(strings.test, event);
}
static sv_status save(void *module, char *buffer, size_t capacity, size_t *len) {
    (void)module;
    return strings.save(strings.test, buffer, capacity, len);
}
static sv_status restore(void *module, const char *bytes, size_t len) {
    (void)module;
    return strings.restore(strings.test, bytes, len);
}
static sv_status init(const sv_host *host, sv_context *context, void **module, sv_str *error) {
    (void)host;
    (void)module;
    (void)error;
    puppet_context = context;
    return SV_OK;
}

static const sv_servlet tasks = { .struct_size = sizeof(sv_servlet), .name = SV_STR("tasks"), .load_order = -1,
                                  .service = service, .poll = poll, .drop = drop };
static const sv_servlet plain = { .struct_size = sizeof(sv_servlet), .name = SV_STR("plain"), .load_order = -1,
                                  .service = service };
static const sv_servlet *const servlets[] = { &tasks, &plain };
static const sv_filter all = { .struct_size = sizeof(sv_filter), .name = SV_STR("all"), .on_request = on_request,
                               .on_response = on_response, .on_body = on_body, .on_end = on_end };
static const sv_filter none = { .struct_size = sizeof(sv_filter), .name = SV_STR("none") };
static const sv_filter *const filters[] = { &all, &none };
/* The second one hears of sessions only. */
static const sv_listener ear = { .struct_size = sizeof(sv_listener), .kinds = 0xffffffff, .on_event = on_event };
static const sv_listener other = { .struct_size = sizeof(sv_listener), .kinds = SV_EVENT_SESSION_CREATED,
                                   .on_event = on_event };
static const sv_listener *const listeners[] = { &ear, &other };
static const sv_module module = { .magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
                                  .abi_minor = SV_ABI_MINOR, .name = SV_STR("puppet"), .version = SV_STR("1"),
                                  .built_with = SV_STR("C"), .init = init, .save = save, .restore = restore,
                                  .servlets = servlets, .servlet_count = 2, .filters = filters, .filter_count = 2,
                                  .listeners = listeners, .listener_count = 2 };

SV_EXPORT const sv_module *servlet_module_v1(void) { return &module; }
