/* hello.c - three servlets in C: plain, greet, form. An example to copy.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Serval builds this file on start and whenever you save it. By hand, from the top of the repository:
 *   cc -std=c99 -O2 -Wall -Wextra -shared -fPIC -fvisibility=hidden -I crates/abi/include \
 *      -o hello-c.so webapps/hello-c/WEB-INF/src/hello.c
 *
 * A library exports one function, at the very end of this file. It returns constant data: which servlets there are,
 * and where. Read it from the bottom up to see how the server gets here.
 */
#include "servlet.h"

#include <stdlib.h>
#include <string.h>

/* All that a library may call is in this table. The server hands it over once, to init, before any servlet is called. */
static const sv_host *host;

/* ------------------------------------------------------------------------------------------------ /plain */
/* The cheapest answer there is: a whole response in one call. SV_BODY_STATIC promises that the bytes never change, so
 * the server sends them from where they are. */
static const char hello_world[] = "Hello, World!";
static const sv_pair plain_headers[] = {{SV_STR("content-type"), SV_STR("text/plain; charset=utf-8")}};
static const sv_response plain_answer = {
    .struct_size = sizeof(sv_response),
    .status = 200,
    .headers = plain_headers,
    .header_count = 1,
    .body = hello_world,
    .body_len = sizeof(hello_world) - 1,
    .body_kind = SV_BODY_STATIC,
};

/* The server calls service on many threads at once: what it shares with others has to be constant, or locked. */
static sv_status plain_service(void *servlet, sv_exchange *exchange, void **task)
{
    (void)servlet; /* what create made: plain has no create */
    (void)task;    /* only for servlets that answer later */
    return host->respond(exchange, &plain_answer);
}

/* ------------------------------------------------------------------------------------------------ helpers */
/* A page is written piece by piece. The first error sticks and the pieces after it do nothing, so there is one place
 * to look at: the end. The server collects small pieces in a buffer; writing them one by one is not slow. */
typedef struct page {
    sv_exchange *exchange;
    sv_status status;
} page;

static page page_begin(sv_exchange *exchange, const char *type, size_t type_len)
{
    page out = {exchange, SV_OK};
    out.status = host->set_content_type(exchange, type, type_len);
    return out;
}

static void put(page *out, const char *text, size_t len)
{
    if (out->status == SV_OK && len > 0)
        out->status = host->write(out->exchange, text, len, NULL);
}

/* Whatever came from a client is written into HTML through this function only. */
static void put_escaped(page *out, sv_str text)
{
    size_t from = 0;
    for (size_t at = 0; at < text.len; at++) {
        sv_str entity;
        switch (text.ptr[at]) {
        case '&': entity = (sv_str)SV_STR("&amp;"); break;
        case '<': entity = (sv_str)SV_STR("&lt;"); break;
        case '>': entity = (sv_str)SV_STR("&gt;"); break;
        case '"': entity = (sv_str)SV_STR("&quot;"); break;
        case '\'': entity = (sv_str)SV_STR("&#39;"); break;
        default: continue;
        }
        put(out, text.ptr + from, at - from);
        put(out, entity.ptr, entity.len);
        from = at + 1;
    }
    put(out, text.ptr + from, text.len - from);
}

/* ------------------------------------------------------------------------------------------------ /greet */
/* One servlet object per generation: made by create, given to each service, freed by destroy. */
typedef struct greet {
    sv_str greeting;
} greet;

static sv_status greet_create(sv_context *context, void *module, const sv_config *config, void **servlet, sv_str *error)
{
    (void)context;
    (void)module;
    greet *self = malloc(sizeof *self);
    if (self == NULL)
        return SV_E_NOMEM;
    self->greeting = (sv_str){NULL, 0};
    for (size_t i = 0; i < config->init_count; i++) {
        const sv_str name = config->init[i].name;
        if (name.len == 8 && memcmp(name.ptr, "greeting", 8) == 0)
            self->greeting = config->init[i].value; /* lives until destroy returns: no copy is needed */
    }
    if (self->greeting.len == 0) {
        /* An error in create refuses the new generation: the one that works serves on, and the log shows this text. */
        *error = (sv_str)SV_STR("the init parameter `greeting` is empty; give it a word in WEB-INF/web.toml");
        free(self);
        return SV_E_FAILED;
    }
    *servlet = self;
    return SV_OK;
}

static void greet_destroy(void *servlet)
{
    free(servlet);
}

/* /greet/Ada has the path info "/Ada"; /greet has none, which is ptr == NULL. It is decoded, and not to be trusted: as
 * this is plain text, nothing has to be escaped. */
static sv_status greet_service(void *servlet, sv_exchange *exchange, void **task)
{
    const greet *self = servlet;
    (void)task;
    const sv_request *request = host->request(exchange);
    if (request == NULL)
        return SV_E_INTERNAL;

    sv_str name = SV_STR("World");
    if (request->path_info.len > 1) {
        name.ptr = request->path_info.ptr + 1;
        name.len = request->path_info.len - 1;
    }
    page out = page_begin(exchange, SV_LIT("text/plain; charset=utf-8"));
    put(&out, self->greeting.ptr, self->greeting.len);
    put(&out, SV_LIT(", "));
    put(&out, name.ptr, name.len);
    put(&out, SV_LIT("!"));
    return out.status;
}

/* ------------------------------------------------------------------------------------------------ /form */
static const char form_head[] =
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n<title>hello-c: form</title>\n"
    "<link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"hello.css\">\n<main>\n";
static const char form_ask[] =
    "<form method=\"post\" action=\"form\">\n"
    "<label>Name <input name=\"name\" required></label>\n"
    "<label>Message <textarea name=\"message\" rows=\"3\" required></textarea></label>\n"
    "<button>Send</button>\n</form>\n";

/* Reads one parameter, of the query or of a form in the body. If the client's form is at fault this answers the
 * client: after that *answered is 1, and what it returns is for service to return. */
static sv_status form_field(sv_exchange *exchange, const char *name, size_t len, sv_str *value, int *answered)
{
    const sv_status status = host->parameter(exchange, name, len, 0, value);
    *answered = 1;
    switch (status) {
    case SV_OK: *answered = 0; return SV_OK;
    case SV_NONE: return host->send_error(exchange, 400, SV_LIT("the form needs a name and a message"));
    default: return status; /* returned as it is, the server answers 400, 408 or 413, as fits */
    }
}

static sv_status form_service(void *servlet, sv_exchange *exchange, void **task)
{
    (void)servlet;
    (void)task;
    const sv_request *request = host->request(exchange);
    if (request == NULL)
        return SV_E_INTERNAL;

    if (request->method != SV_POST) { /* GET, or HEAD, for which the server leaves the body out */
        page out = page_begin(exchange, SV_LIT("text/html; charset=utf-8"));
        put(&out, SV_LIT(form_head));
        put(&out, SV_LIT(form_ask));
        put(&out, SV_LIT("</main>\n</html>\n"));
        return out.status;
    }

    /* Everything that can go wrong comes before the first byte of the answer. The values live until service returns. */
    sv_str name, message;
    int answered;
    sv_status status = form_field(exchange, SV_LIT("name"), &name, &answered);
    if (answered)
        return status;
    status = form_field(exchange, SV_LIT("message"), &message, &answered);
    if (answered)
        return status;

    page out = page_begin(exchange, SV_LIT("text/html; charset=utf-8"));
    put(&out, SV_LIT(form_head));
    put(&out, SV_LIT("<h1>Thank you, "));
    put_escaped(&out, name);
    put(&out, SV_LIT("!</h1>\n<p>You wrote:</p>\n<blockquote>"));
    put_escaped(&out, message);
    put(&out, SV_LIT("</blockquote>\n<p><a href=\"./\">Back</a></p>\n</main>\n</html>\n"));
    return out.status;
}

/* ------------------------------------------------------------------------------------------------ what is in here */
/* Constant data, and the whole of the declaration: hello-c needs no descriptor to work. What is not named is 0. */
static const sv_str plain_patterns[] = {SV_STR("/plain")};
static const sv_servlet plain_servlet = {
    .struct_size = sizeof(sv_servlet),
    .flags = SV_NONBLOCKING, /* returns at once and never waits: the server may run it on its I/O threads */
    .methods = SV_GET,       /* the server answers HEAD, OPTIONS, and 405 to all others */
    .name = SV_STR("plain"),
    .patterns = plain_patterns,
    .pattern_count = 1,
    .service = plain_service,
};

static const sv_str greet_patterns[] = {SV_STR("/greet/*")}; /* /greet as well, and all that is below it */
static const sv_pair greet_init[] = {{SV_STR("greeting"), SV_STR("Hello")}}; /* WEB-INF/web.toml goes before this */
static const sv_servlet greet_servlet = {
    .struct_size = sizeof(sv_servlet),
    .flags = SV_NONBLOCKING,
    .methods = SV_GET,
    .name = SV_STR("greet"),
    .patterns = greet_patterns,
    .pattern_count = 1,
    .init = greet_init,
    .init_count = 1,
    .create = greet_create,
    .destroy = greet_destroy,
    .service = greet_service,
};

static const sv_str form_patterns[] = {SV_STR("/form")};
static const sv_servlet form_servlet = {
    .struct_size = sizeof(sv_servlet),
    .methods = SV_GET | SV_POST, /* no promise in flags: the server decides where to run it */
    .name = SV_STR("form"),
    .patterns = form_patterns,
    .pattern_count = 1,
    .service = form_service,
};

static sv_status hello_init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module; /* for a library with state of its own: *module goes to each create and, at last, to destroy */
    (void)error;
    host = table;
    return SV_OK;
}

static const sv_servlet *const hello_servlets[] = {&plain_servlet, &greet_servlet, &form_servlet};
static const sv_module hello_module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("hello-c"),
    .version = SV_STR("1.0.0"),
    .built_with = SV_STR("C99"),
    .init = hello_init,
    .servlets = hello_servlets,
    .servlet_count = sizeof(hello_servlets) / sizeof(hello_servlets[0]),
};

const sv_module *servlet_module_v1(void)
{
    return &hello_module;
}
