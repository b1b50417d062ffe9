/* One servlet that tells its TEXT at PATTERN. What makes it a bad library is on the compiler's command line. */
#include <servlet.h>

#ifndef TEXT
#define TEXT "good"
#endif
#ifndef NAME
#define NAME "one"
#endif
#ifndef PATTERN
#define PATTERN "/text"
#endif
#ifndef MAJOR
#define MAJOR SV_ABI_MAJOR
#endif
#ifndef NEED_MINOR
#define NEED_MINOR 0
#endif
#ifndef ENTRY
#define ENTRY servlet_module_v1
#endif

#ifdef NEEDS
int dependency(void);
#endif

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context; (void)module;
    host = table;
#ifdef FAILS
    static const sv_str text = SV_STR("the moon is full");
    *error = text;
    return SV_E_FAILED;
#else
    (void)error;
    return SV_OK;
#endif
}

static sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet; (void)task;
#ifdef NEEDS
    if (dependency() != 1) return SV_E_FAILED;
#endif
    return host->write(exchange, SV_LIT(TEXT), NULL);
}

#ifdef LISTENS
static sv_status on_event(void *module, const sv_event *event) {
    (void)module;
    return event->kind == SV_EVENT_CONTEXT_INITIALIZED ? SV_E_FAILED : SV_OK;
}
static const sv_listener listener = {.struct_size = sizeof(sv_listener),
    .kinds = SV_EVENT_CONTEXT_INITIALIZED | SV_EVENT_CONTEXT_DESTROYED, .on_event = on_event};
static const sv_listener *const listeners[] = {&listener};
#endif

static const sv_str patterns[] = {SV_STR(PATTERN)};
static const sv_servlet one = {.struct_size = sizeof(sv_servlet), .methods = SV_GET, .name = SV_STR(NAME),
    .patterns = patterns, .pattern_count = 1, .service = service};
static const sv_servlet *const servlets[] = {&one};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = MAJOR,
    .abi_minor = SV_ABI_MINOR, .need_minor = NEED_MINOR, .name = SV_STR("library"), .init = init,
    .servlets = servlets, .servlet_count = 1,
#ifdef LISTENS
    .listeners = listeners, .listener_count = 1,
#endif
};

SV_EXPORT const sv_module *ENTRY(void) { return &module; }
