/* response.c - the ways to answer, each under a path of its own.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I<folder of servlet.h> -o response.so response.c
 */
#include "servlet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sv_host *host;

/* ------------------------------------------------------------------------------------------------ piece by piece */

/* /pieces: what is written is collected in a buffer; until the buffer is full, or flushed, all may still be changed. */
static sv_status pieces(sv_exchange *x)
{
    sv_status status = host->set_status(x, 201);
    if (status == SV_OK) status = host->set_content_type(x, SV_LIT("text/plain"));
    if (status == SV_OK) status = host->set_charset(x, SV_LIT("utf-8"));
    if (status == SV_OK) status = host->set_header(x, SV_HEADER_SET, SV_LIT("X-Colour"), SV_LIT("red"));
    if (status == SV_OK) status = host->set_header(x, SV_HEADER_ADD, SV_LIT("X-Colour"), SV_LIT("blue"));
    if (status == SV_OK) status = host->set_header(x, SV_HEADER_SET, SV_LIT("X-Draft"), SV_LIT("yes"));
    if (status == SV_OK) status = host->set_header(x, SV_HEADER_REMOVE, SV_LIT("X-Draft"), NULL, 0);
    if (status == SV_OK) status = host->write(x, SV_LIT("one "), NULL);
    if (status == SV_OK) status = host->write(x, SV_LIT("two"), NULL);
    return status;
}

/* /changed: what was set can be read back, and be taken back: reset_buffer forgets the body, reset all of it. */
static sv_status changed(sv_exchange *x)
{
    sv_status status = host->set_buffer_size(x, 16384); /* before any output */
    if (status == SV_OK) status = host->set_header(x, SV_HEADER_SET, SV_LIT("X-Lost"), SV_LIT("1"));
    if (status == SV_OK) status = host->write(x, SV_LIT("never seen"), NULL);
    if (status == SV_OK) status = host->reset(x);
    if (status == SV_OK) status = host->set_status(x, 202);
    if (status == SV_OK) status = host->set_header(x, SV_HEADER_SET, SV_LIT("X-Kept"), SV_LIT("2"));
    if (status == SV_OK) status = host->write(x, SV_LIT("never seen either"), NULL);
    if (status == SV_OK) status = host->reset_buffer(x);

    uint32_t code;
    sv_str kept;
    char line[64];
    if (status == SV_OK) status = host->response_status(x, &code);
    if (status == SV_OK) status = host->response_header(x, SV_LIT("x-kept"), 0, &kept);
    if (status != SV_OK) return status;
    snprintf(line, sizeof line, "%u, x-kept %.*s, committed %d", (unsigned)code, (int)kept.len, kept.ptr,
             (int)host->committed(x));
    return host->write(x, line, strlen(line), NULL);
}

/* /stream: a known length, and a flush after the first half; from then on head and status are fixed. */
static sv_status stream(sv_exchange *x)
{
    sv_status status = host->set_content_length(x, 10);
    if (status == SV_OK) status = host->write(x, SV_LIT("first"), NULL);
    if (status == SV_OK) status = host->flush(x);
    if (status == SV_OK && host->set_status(x, 404) != SV_E_STATE) status = SV_E_FAILED;
    if (status == SV_OK) {
        /* What went wrong last on this handle, in words. It is no error of ours, so it is only logged. */
        sv_str why;
        if (host->error_text(x, &why) == SV_OK)
            host->log_message(host->context(x), x, SV_LOG_DEBUG, why.ptr, why.len);
        status = host->write(x, SV_LIT("later"), NULL);
    }
    return status;
}

/* /trailers: fields after the body, for clients that say `TE: trailers`; they need a body in chunks, so no content
   length. */
static sv_status trailers(sv_exchange *x)
{
    sv_status status = host->set_trailer(x, SV_LIT("X-Count"), SV_LIT("3"));
    if (status == SV_OK) status = host->write(x, SV_LIT("abc"), NULL);
    if (status == SV_OK) status = host->flush(x);
    return status;
}

/* ------------------------------------------------------------------------------------------------ whole */

/* /static: the cheapest answer. The bytes never change and are sent from where they are. */
static sv_status constant(sv_exchange *x)
{
    static const sv_pair headers[] = {{SV_STR("content-type"), SV_STR("text/plain")}};
    static const sv_response answer = {
        .struct_size = sizeof(sv_response),
        .status = 200,
        .headers = headers,
        .header_count = 1,
        .body = "constant",
        .body_len = 8,
        .body_kind = SV_BODY_STATIC,
    };
    return host->respond(x, &answer);
}

/* /owned: the server takes the memory over and calls free when it has sent it. On an error it is still ours. */
static sv_status owned(sv_exchange *x)
{
    const size_t len = 100000;
    char *bytes = malloc(len);
    if (bytes == NULL) return SV_E_NOMEM;
    memset(bytes, 'o', len);
    const sv_response answer = {
        .struct_size = sizeof(sv_response),
        .status = 200,
        .body = bytes,
        .body_len = len,
        .body_kind = SV_BODY_OWNED,
        .release = free,
        .release_arg = bytes,
    };
    const sv_status status = host->respond(x, &answer);
    if (status != SV_OK) free(bytes);
    return status;
}

/* /owned-pieces: the same for one piece of a body. */
static sv_status owned_pieces(sv_exchange *x)
{
    sv_status status = SV_OK;
    for (int i = 0; i < 3 && status == SV_OK; i++) {
        char *bytes = malloc(1000);
        if (bytes == NULL) return SV_E_NOMEM;
        memset(bytes, '0' + i, 1000);
        status = host->write_owned(x, bytes, 1000, free, bytes);
        if (status != SV_OK) free(bytes);
    }
    return status;
}

/* ------------------------------------------------------------------------------------------------ the rest */

/* /early: 103 tells a browser what to fetch, before the answer is there. It is only a hint: where the server or the
   connection cannot send it (SV_E_UNSUPPORTED), the answer is sent all the same. */
static sv_status early(sv_exchange *x)
{
    static const sv_pair hints[] = {{SV_STR("link"), SV_STR("</style.css>; rel=preload")}};
    const sv_status status = host->informational(x, 103, hints, 1);
    return status == SV_OK || status == SV_E_UNSUPPORTED ? host->write(x, SV_LIT("the answer"), NULL) : status;
}

static sv_status cookie(sv_exchange *x)
{
    static const sv_pair attributes[] = {{SV_STR("SameSite"), SV_STR("Lax")}};
    const sv_cookie taste = {
        .struct_size = sizeof(sv_cookie),
        .flags = SV_COOKIE_HTTP_ONLY | SV_COOKIE_MAX_AGE,
        .name = SV_STR("taste"),
        .value = SV_STR("sweet"),
        .path = SV_STR("/"),
        .max_age = 3600,
        .attributes = attributes,
        .attribute_count = 1,
    };
    return host->set_cookie(x, &taste);
}

/* /redirect: encode_url puts the session's id into a link, where the client has no cookies; most often it changes
   nothing. */
static sv_status redirect(sv_exchange *x)
{
    sv_str url;
    const sv_status status = host->encode_url(x, SV_LIT("static?from=here"), &url);
    return status == SV_OK ? host->redirect(x, 0, url.ptr, url.len) : status;
}

/* /teapot: the error page for a status. The text is for the log; clients see it only in development. */
static sv_status teapot(sv_exchange *x)
{
    return host->send_error(x, 418, SV_LIT("tea is all there is"));
}

/* /failure: an error of the servlet is 500. fail says why: the kind is for error pages by kind in web.toml. */
static sv_status failure(sv_exchange *x)
{
    host->fail(x, SV_LIT("kitchen/empty"), SV_LIT("there is no more tea"));
    return SV_E_FAILED;
}

/* /closed: 503 with Retry-After, and the servlet is not called before that. */
static sv_status closed(sv_exchange *x)
{
    host->unavailable(x, 2, SV_LIT("the kitchen is being cleaned"));
    return SV_E_FAILED;
}

/* ------------------------------------------------------------------------------------------------ the module */

static const struct way {
    sv_str path;
    sv_status (*answer)(sv_exchange *);
} ways[] = {
    {SV_STR("/pieces"), pieces},     {SV_STR("/changed"), changed}, {SV_STR("/stream"), stream},
    {SV_STR("/trailers"), trailers}, {SV_STR("/static"), constant}, {SV_STR("/owned"), owned},
    {SV_STR("/owned-pieces"), owned_pieces}, {SV_STR("/early"), early}, {SV_STR("/cookie"), cookie},
    {SV_STR("/redirect"), redirect}, {SV_STR("/teapot"), teapot}, {SV_STR("/failure"), failure},
};

static sv_status service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    const sv_request *request = host->request(x);
    if (request == NULL) return SV_E_INTERNAL;
    const sv_str path = request->path_info;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (path.len == ways[i].path.len && memcmp(path.ptr, ways[i].path.ptr, path.len) == 0) return ways[i].answer(x);
    }
    return SV_NEXT; /* not mine: a file, or 404 */
}

static sv_status kitchen(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    return closed(x);
}

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    (void)error;
    host = table;
    return SV_OK;
}

static const sv_str patterns[] = {SV_STR("/*")};
static const sv_servlet servlet = {
    .struct_size = sizeof(sv_servlet),
    .methods = SV_GET,
    .name = SV_STR("response"),
    .patterns = patterns,
    .pattern_count = 1,
    .load_order = -1,
    .service = service,
};
static const sv_str kitchen_patterns[] = {SV_STR("/kitchen")};
static const sv_servlet kitchen_servlet = {
    .struct_size = sizeof(sv_servlet),
    .methods = SV_GET,
    .name = SV_STR("kitchen"),
    .patterns = kitchen_patterns,
    .pattern_count = 1,
    .load_order = -1,
    .service = kitchen,
};
static const sv_servlet *const servlets[] = {&servlet, &kitchen_servlet};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("response"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .servlets = servlets,
    .servlet_count = 2,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
