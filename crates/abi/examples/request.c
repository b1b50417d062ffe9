/* request.c - what there is to know of a request: its head, parameters, path parameters, cookies, attributes, and TLS.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I<folder of servlet.h> -o request.so request.c
 *
 *   GET /items/7?colour=red&colour=blue
 */
#include "servlet.h"

#include <string.h>

static const sv_host *host;

/* Writes "label: value", or that there is none. An absent value has ptr NULL; an empty one has not. */
static sv_status put(sv_exchange *x, const char *label, sv_str value)
{
    const sv_str none = SV_STR("(none)");
    const sv_str shown = value.ptr != NULL ? value : none;
    sv_status status = host->write(x, label, strlen(label), NULL);
    if (status == SV_OK) status = host->write(x, SV_LIT(": "), NULL);
    if (status == SV_OK) status = host->write(x, shown.ptr, shown.len, NULL);
    if (status == SV_OK) status = host->write(x, SV_LIT("\n"), NULL);
    return status;
}

/* A list, as "label name: value" for each. */
static sv_status put_all(sv_exchange *x, const char *label, const sv_pair *pairs, size_t count)
{
    sv_status status = SV_OK;
    for (size_t i = 0; i < count && status == SV_OK; i++) {
        /* Memory that lives as long as the exchange handle, and is freed by nobody. */
        const size_t label_len = strlen(label), len = label_len + 1 + pairs[i].name.len;
        char *text = host->alloc(x, len + 1, 1);
        if (text == NULL) return SV_E_NOMEM;
        memcpy(text, label, label_len);
        text[label_len] = ' ';
        memcpy(text + label_len + 1, pairs[i].name.ptr, pairs[i].name.len);
        text[len] = 0;
        status = put(x, text, pairs[i].value);
    }
    return status;
}

/* The head is plain memory: looking at it costs nothing, and other threads may do so too. */
static sv_status head(sv_exchange *x)
{
    const sv_request *request = host->request(x);
    if (request == NULL) return SV_E_INTERNAL; /* only on wrong use, such as the wrong thread */
    sv_status status = put(x, "method", request->method_name);
    if (status == SV_OK) status = put(x, "uri", request->request_uri);
    if (status == SV_OK) status = put(x, "query", request->query);
    if (status == SV_OK) status = put(x, "context path", request->context_path);
    if (status == SV_OK) status = put(x, "servlet path", request->servlet_path); /* decoded */
    if (status == SV_OK) status = put(x, "path info", request->path_info);       /* decoded, or absent */
    if (status == SV_OK) status = put(x, "pattern", request->match_pattern);
    if (status == SV_OK) status = put(x, "content type", request->content_type);

    sv_str agent; /* any case; request->headers has all of them, with names in lower case */
    if (status == SV_OK) status = host->header(x, SV_LIT("User-Agent"), &agent);
    if (status == SV_OK || status == SV_NONE) status = put(x, "user agent", agent); /* with SV_NONE it is absent */
    return status;
}

static sv_status parameters(sv_exchange *x)
{
    /* Values that are not there are no errors: SV_NONE. */
    sv_str value;
    sv_status status = host->path_parameter(x, SV_LIT("id"), &value); /* {id} in the pattern */
    if (status == SV_OK || status == SV_NONE) status = put(x, "id", value);
    if (status != SV_OK) return status;

    /* The first "colour", and the next ones. A form's are found as well: the first call reads its body. */
    for (uint32_t nth = 0; (status = host->parameter(x, SV_LIT("colour"), nth, &value)) == SV_OK; nth++) {
        status = put(x, "colour", value);
        if (status != SV_OK) return status;
    }
    if (status != SV_NONE) return status; /* a broken form; returned as it is, the client gets 400 or 413 */

    const sv_pair *all;
    size_t count;
    status = host->parameters(x, &all, &count);
    return status == SV_OK ? put_all(x, "parameter", all, count) : status;
}

static sv_status cookies(sv_exchange *x)
{
    sv_str taste;
    sv_status status = host->cookie(x, SV_LIT("taste"), &taste);
    if (status == SV_OK || status == SV_NONE) status = put(x, "taste", taste);
    const sv_pair *all;
    size_t count;
    if (status == SV_OK) status = host->cookies(x, &all, &count);
    return status == SV_OK ? put_all(x, "cookie", all, count) : status;
}

/* Attributes are notes on an exchange, from one servlet or filter to the next: bytes under a name. */
static sv_status attributes(sv_exchange *x)
{
    sv_status status = host->set_attribute(x, SV_LIT("mood"), SV_LIT("good"));
    if (status == SV_OK) status = host->set_attribute(x, SV_LIT("weather"), SV_LIT("fine"));
    if (status == SV_OK) status = host->set_attribute(x, SV_LIT("mood"), NULL, 0); /* removes it */
    sv_str mood;
    if (status == SV_OK) status = host->attribute(x, SV_LIT("mood"), &mood);
    if (status == SV_OK || status == SV_NONE) status = put(x, "mood", mood);
    const sv_pair *all;
    size_t count;
    if (status == SV_OK) status = host->attributes(x, &all, &count);
    return status == SV_OK ? put_all(x, "attribute", all, count) : status;
}

static sv_status tls(sv_exchange *x)
{
    const sv_str plain = SV_STR("a plain connection");
    const sv_tls *facts = host->tls(x); /* NULL: not TLS */
    return put(x, "tls", facts != NULL ? facts->protocol : plain);
}

static sv_status service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_status status = host->set_content_type(x, SV_LIT("text/plain; charset=utf-8"));
    if (status == SV_OK) status = head(x);
    if (status == SV_OK) status = parameters(x);
    if (status == SV_OK) status = cookies(x);
    if (status == SV_OK) status = attributes(x);
    if (status == SV_OK) status = tls(x);
    return status;
}

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    (void)error;
    host = table;
    return SV_OK;
}

static const sv_str patterns[] = {SV_STR("/items/{id}"), SV_STR("/about")};
static const sv_servlet servlet = {
    .struct_size = sizeof(sv_servlet),
    .methods = SV_GET | SV_POST,
    .name = SV_STR("request"),
    .patterns = patterns,
    .pattern_count = 2,
    .load_order = -1,
    .service = service,
};
static const sv_servlet *const servlets[] = {&servlet};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("request"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .servlets = servlets,
    .servlet_count = 1,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
