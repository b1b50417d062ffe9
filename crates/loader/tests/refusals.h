/* What the cases of refusals.txt stand below: a servlet and a module that are as they should be, but for what a case says. */
#include <servlet.h>

#define UNUSED __attribute__((unused))

static UNUSED sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)exchange;
    (void)task;
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
/* A module with a servlet whose create does this. */
#define CREATE(...)                                                                                                    \
    static sv_status create(sv_context *context, void *module, const sv_config *config, void **servlet, sv_str *error) { \
        (void)context;                                                                                                 \
        (void)module;                                                                                                  \
        (void)config;                                                                                                  \
        (void)servlet;                                                                                                 \
        (void)error;                                                                                                   \
        __VA_ARGS__                                                                                                    \
    }                                                                                                                  \
    SERVLET(.create = create)

