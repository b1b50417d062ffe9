/* upload.c - a form with files: multipart/form-data (Servlet 3.2).
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I<folder of servlet.h> -o upload.so upload.c
 *
 *   curl -F note=hello -F picture=@cat.jpg http://localhost:8080/upload/
 */
#include "servlet.h"

#include <stdio.h>
#include <string.h>

static const sv_host *host;

static sv_status put(sv_exchange *x, const char *label, sv_str value)
{
    sv_status status = host->write(x, label, strlen(label), NULL);
    if (status == SV_OK) status = host->write(x, value.ptr, value.len, NULL);
    return status;
}

/* A small part is in memory, in data; a large one was spilled to the file at path, which is removed when the exchange
   ends: move it (rename) to keep it. The client's file name is a name to show, and never a path to use. */
static sv_status describe(sv_exchange *x, const sv_part *part)
{
    char size[64];
    sv_status status = put(x, "", part->name);
    if (part->file_name.ptr != NULL && status == SV_OK) status = put(x, " is the file ", part->file_name);
    if (part->content_type.ptr != NULL && status == SV_OK) status = put(x, " of type ", part->content_type);
    snprintf(size, sizeof size, ", %lu bytes %s\n", (unsigned long)part->size,
             part->path.ptr != NULL ? "on disk" : "in memory");
    return status == SV_OK ? host->write(x, size, strlen(size), NULL) : status;
}

static sv_status service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    size_t count;
    sv_status status = host->part_count(x, &count); /* reads the whole body */
    if (status == SV_NONE) return host->send_error(x, 415, SV_LIT("send a form of the type multipart/form-data"));
    if (status != SV_OK) return status; /* 400 for a broken form, 413 for one that is too large */

    /* Fields of the form that are no files are parameters as well. */
    sv_str note;
    status = host->parameter(x, SV_LIT("note"), 0, &note);
    if (status == SV_OK) {
        status = put(x, "the note says ", note);
        if (status == SV_OK) status = host->write(x, SV_LIT("\n"), NULL);
    } else if (status == SV_NONE) {
        status = SV_OK;
    }

    for (size_t i = 0; i < count && status == SV_OK; i++) {
        const sv_part *part;
        status = host->part(x, i, &part);
        if (status == SV_OK) status = describe(x, part);
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

static const sv_str patterns[] = {SV_STR("/*")};
static const sv_servlet servlet = {
    .struct_size = sizeof(sv_servlet),
    .flags = SV_MULTIPART, /* without it part_count is SV_E_STATE */
    .methods = SV_POST,
    .name = SV_STR("upload"),
    .patterns = patterns,
    .pattern_count = 1,
    .load_order = -1,
    .service = service,
};
static const sv_servlet *const servlets[] = {&servlet};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("upload"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .servlets = servlets,
    .servlet_count = 1,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
