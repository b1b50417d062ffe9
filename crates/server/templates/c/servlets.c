/* The servlets of @NAME@. Save this file, and Serval builds it; the new version takes over while requests flow.
 * servlet.h is the manual; it lies in @SDK@/abi/include. */
#include "servlet.h"

#include <string.h>

/* All that a library may call. The server hands it over once, before any servlet is called. */
static const sv_host *host;

/* ------------------------------------------------------------------------------------------------ a page */
/* Written piece by piece: the first error sticks, so that there is one place to look at, the end. */
typedef struct page {
    sv_exchange *exchange;
    sv_status status;
} page;

static void put(page *out, const char *text, size_t len)
{
    if (out->status == SV_OK && len > 0)
        out->status = host->write(out->exchange, text, len, NULL);
}

/* Whatever comes from a client goes into HTML through this function. */
static void put_escaped(page *out, sv_str text)
{
    for (size_t at = 0; at < text.len; at++) {
        switch (text.ptr[at]) {
        case '&': put(out, SV_LIT("&amp;")); break;
        case '<': put(out, SV_LIT("&lt;")); break;
        case '>': put(out, SV_LIT("&gt;")); break;
        case '"': put(out, SV_LIT("&quot;")); break;
        case '\'': put(out, SV_LIT("&#39;")); break;
        default: put(out, text.ptr + at, 1);
        }
    }
}

/* ------------------------------------------------------------------------------------------------ /greet */
/* The init parameter: WEB-INF/web.toml goes before the declaration below. It lives as long as the servlet. */
static sv_status greet_create(sv_context *context, void *module, const sv_config *config, void **servlet, sv_str *error)
{
    (void)context;
    (void)module;
    for (size_t i = 0; i < config->init_count; i++) {
        const sv_str name = config->init[i].name;
        if (name.len == 8 && memcmp(name.ptr, "greeting", 8) == 0) {
            *servlet = (void *)&config->init[i].value;
            return SV_OK;
        }
    }
    *error = (sv_str)SV_STR("there is no init parameter `greeting`");
    return SV_E_FAILED;
}

/* Answers greet?name=Ada, and the form of index.html, which sends the same as a body. Called on many threads at once. */
static sv_status greet_service(void *servlet, sv_exchange *exchange, void **task)
{
    const sv_str *greeting = servlet;
    (void)task; /* only for servlets that answer later */
    sv_str name;
    const sv_status found = host->parameter(exchange, SV_LIT("name"), 0, &name);
    if (found < 0)
        return found; /* returned as it is, the server answers 400, 408 or 413, as fits */
    if (found == SV_NONE || name.len == 0)
        name = (sv_str)SV_STR("World");

    page out = {exchange, host->set_content_type(exchange, SV_LIT("text/html; charset=utf-8"))};
    put(&out, SV_LIT("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width\">\n<title>@NAME@</title>\n"
                     "<link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"style.css\">\n<main>\n<h1>"));
    put_escaped(&out, *greeting);
    put(&out, SV_LIT(", "));
    put_escaped(&out, name);
    put(&out, SV_LIT("!</h1>\n<p><a href=\"./\">Back</a></p>\n</main>\n</html>\n"));
    return out.status;
}

/* ------------------------------------------------------------------------------------------------ what is in here */
/* Constant data. What is not named is 0. */
static const sv_str greet_patterns[] = {SV_STR("/greet")};
static const sv_pair greet_init[] = {{SV_STR("greeting"), SV_STR("Hello")}};
static const sv_servlet greet = {
    .struct_size = sizeof(sv_servlet),
    .methods = SV_GET | SV_POST, /* the server answers HEAD, OPTIONS, and 405 to all others */
    .name = SV_STR("greet"),
    .patterns = greet_patterns,
    .pattern_count = 1,
    .init = greet_init,
    .init_count = 1,
    .create = greet_create,
    .service = greet_service,
};

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    (void)error;
    host = table;
    return SV_OK;
}

static const sv_servlet *const servlets[] = {&greet};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("@PACKAGE@"),
    .version = SV_STR("0.1.0"),
    .built_with = SV_STR("C99"),
    .init = init,
    .servlets = servlets,
    .servlet_count = sizeof(servlets) / sizeof(servlets[0]),
};

/* The one export. */
const sv_module *servlet_module_v1(void)
{
    return &module;
}
