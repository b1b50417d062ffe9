/* Answers what its webapp is given: parameters, named values, and its init parameter `key`. */
#include <servlet.h>

#include <string.h>

static const sv_host *host;
static sv_str key;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static sv_status create(sv_context *context, void *module, const sv_config *config, void **servlet, sv_str *error) {
    (void)context;
    (void)module;
    (void)error;
    *servlet = NULL;
    for (size_t i = 0; i < config->init_count; i++) {
        if (config->init[i].name.len == 3 && memcmp(config->init[i].name.ptr, "key", 3) == 0) {
            key = config->init[i].value;
        }
    }
    return SV_OK;
}

static void put(sv_exchange *x, sv_str name, const char *between, sv_str value) {
    host->write(x, name.ptr, name.len, NULL);
    host->write(x, between, strlen(between), NULL);
    host->write(x, value.ptr, value.len, NULL);
    host->write(x, SV_LIT("\n"), NULL);
}

static sv_status service(void *servlet, sv_exchange *x, void **task) {
    static const sv_str names[] = {SV_STR("db"), SV_STR("mail"), SV_STR("database"), SV_STR("unused")};
    sv_context *context = host->context(x);
    const sv_pair *all;
    size_t count;
    (void)servlet;
    (void)task;
    sv_status status = host->context_parameters(context, &all, &count);
    for (size_t i = 0; i < count && status == SV_OK; i++) {
        put(x, all[i].name, "=", all[i].value);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names && status >= SV_OK; i++) {
        sv_str value = {0};
        status = host->context_resource(context, names[i].ptr, names[i].len, &value);
        if (status == SV_OK) put(x, names[i], ": ", value);
    }
    if (key.ptr != NULL) put(x, (sv_str)SV_STR("key"), " ", key);
    return status < SV_OK ? status : SV_OK;
}

static const sv_str patterns[] = {SV_STR("/values")};
static const sv_servlet servlet = {.struct_size = sizeof(sv_servlet), .name = SV_STR("values"), .patterns = patterns,
    .pattern_count = 1, .create = create, .service = service};
static const sv_servlet *const servlets[] = {&servlet};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("values"), .init = init, .servlets = servlets, .servlet_count = 1};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
