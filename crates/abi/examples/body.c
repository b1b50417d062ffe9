/* body.c - the three ways to read a request's body, and what may follow it.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I<folder of servlet.h> -o body.so body.c
 *
 * Reading waits for the client. Its errors are returned as they are, so that the client gets what fits: 413 for a body
 * that is too long, 408 for one that does not come, 400 for a broken one.
 */
#include "servlet.h"

#include <stdio.h>
#include <string.h>

static const sv_host *host;

/* POST /count: into a buffer of ours. It is never larger than the buffer, however large the body is. */
static sv_status count(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    char buffer[4096], line[64];
    unsigned long bytes = 0, lines = 0;
    size_t len;
    sv_status status;
    while ((status = host->read(x, buffer, sizeof buffer, &len)) == SV_OK) {
        bytes += len;
        for (size_t i = 0; i < len; i++) lines += buffer[i] == '\n';
    }
    if (status != SV_END) return status;
    snprintf(line, sizeof line, "%lu bytes, %lu lines", bytes, lines);
    return host->write(x, line, strlen(line), NULL);
}

/* POST /echo: chunk by chunk, from where the server has it, without a copy. A chunk lives until the next read. */
static sv_status echo(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    const sv_request *request = host->request(x);
    if (request == NULL) return SV_E_INTERNAL;
    sv_status status = SV_OK;
    if (request->content_type.ptr != NULL)
        status = host->set_content_type(x, request->content_type.ptr, request->content_type.len);
    sv_str chunk;
    while (status == SV_OK && (status = host->read_chunk(x, &chunk)) == SV_OK)
        status = host->write(x, chunk.ptr, chunk.len, NULL);
    return status == SV_END ? SV_OK : status;
}

/* POST /reverse: as a whole, 1,000 bytes at most; a longer body is SV_E_LIMIT, and 413 for the client. */
static sv_status reverse(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    char reversed[1000];
    sv_str body;
    const sv_status status = host->read_all(x, sizeof reversed, &body);
    if (status != SV_OK) return status;
    for (size_t i = 0; i < body.len; i++) reversed[i] = body.ptr[body.len - 1 - i];
    return host->write(x, reversed, body.len, NULL);
}

/* POST /trailers: header fields after a chunked body. They are there when the body has been read to its end. */
static sv_status trailers(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_str body;
    sv_status status = host->read_all(x, 1000, &body);
    const sv_pair *fields;
    size_t field_count;
    if (status == SV_OK) status = host->request_trailers(x, &fields, &field_count);
    if (status != SV_OK) return status;
    for (size_t i = 0; i < field_count && status == SV_OK; i++) {
        status = host->write(x, fields[i].name.ptr, fields[i].name.len, NULL);
        if (status == SV_OK) status = host->write(x, SV_LIT("="), NULL);
        if (status == SV_OK) status = host->write(x, fields[i].value.ptr, fields[i].value.len, NULL);
        if (status == SV_OK) status = host->write(x, SV_LIT("\n"), NULL);
    }
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

/* The declaration of a servlet for POST, by name and path. */
#define SERVLET(function, path) \
    static const sv_str function##_patterns[] = {SV_STR(path)}; \
    static const sv_servlet function##_servlet = { \
        .struct_size = sizeof(sv_servlet), \
        .methods = SV_POST, \
        .name = SV_STR(#function), \
        .patterns = function##_patterns, \
        .pattern_count = 1, \
        .load_order = -1, \
        .service = function, \
    }
SERVLET(count, "/count");
SERVLET(echo, "/echo");
SERVLET(reverse, "/reverse");
SERVLET(trailers, "/trailers");

static const sv_servlet *const servlets[] = {&count_servlet, &echo_servlet, &reverse_servlet, &trailers_servlet};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("body"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .servlets = servlets,
    .servlet_count = 4,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
