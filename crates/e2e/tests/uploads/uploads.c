/* Servlets that take uploads and say what they got; /waits is a task. */
#include <servlet.h>

#include <stdio.h>
#include <string.h>

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static sv_status answer(sv_exchange *exchange) {
    char line[1000];
    size_t count, i;
    sv_str value;
    sv_status status = host->part_count(exchange, &count);
    if (status != SV_OK) {
        return status == SV_NONE ? host->write(exchange, SV_LIT("no parts"), NULL) : status;
    }
    for (i = 0; i < count; i++) {
        const sv_part *part;
        char bytes[5] = "";
        if ((status = host->part(exchange, i, &part)) != SV_OK) {
            return status;
        }
        if (part->path.ptr != NULL) {
            char path[500];
            FILE *file;
            snprintf(path, sizeof path, "%.*s", (int)part->path.len, part->path.ptr);
            if ((file = fopen(path, "rb")) == NULL) {
                return SV_E_IO;
            }
            if (fread(bytes, 1, 4, file) != 4) {
                bytes[0] = 0;
            }
            fclose(file);
        } else {
            memcpy(bytes, part->data.ptr, part->data.len < 4 ? part->data.len : 4);
        }
        int len = snprintf(line, sizeof line, "%.*s %.*s %.*s %llu %s %s\n", (int)part->name.len, part->name.ptr,
                           part->file_name.ptr ? (int)part->file_name.len : 1, part->file_name.ptr ? part->file_name.ptr : "-",
                           part->content_type.ptr ? (int)part->content_type.len : 1,
                           part->content_type.ptr ? part->content_type.ptr : "-", (unsigned long long)part->size,
                           part->path.ptr ? "file" : "memory", bytes);
        host->write(exchange, line, (size_t)len, NULL);
    }
    if (host->part(exchange, count, (const sv_part **)&value) != SV_NONE) {
        return SV_E_FAILED;
    }
    if ((status = host->parameter(exchange, SV_LIT("name"), 0, &value)) == SV_OK) {
        int len = snprintf(line, sizeof line, "name=%.*s\n", (int)value.len, value.ptr);
        return host->write(exchange, line, (size_t)len, NULL);
    }
    return status == SV_NONE ? SV_OK : status;
}

static sv_status upload(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    return answer(exchange);
}

static sv_status begin(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)exchange;
    *task = (void *)&host;
    return SV_PENDING;
}

static sv_status poll(void *task, sv_exchange *exchange) {
    sv_status status = answer(exchange);
    (void)task;
    return status == SV_WOULD_BLOCK ? SV_PENDING : status;
}

static const sv_str upload_patterns[] = {SV_STR("/upload")};
static const sv_str plain_patterns[] = {SV_STR("/plain")};
static const sv_str waits_patterns[] = {SV_STR("/waits")};
static const sv_servlet upload_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING | SV_MULTIPART,
    .name = SV_STR("upload"), .patterns = upload_patterns, .pattern_count = 1, .service = upload};
static const sv_servlet plain_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .name = SV_STR("plain"),
    .patterns = plain_patterns, .pattern_count = 1, .service = upload};
static const sv_servlet waits_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING | SV_MULTIPART,
    .name = SV_STR("waits"), .patterns = waits_patterns, .pattern_count = 1, .service = begin, .poll = poll};
static const sv_servlet *const servlets[] = {&upload_servlet, &plain_servlet, &waits_servlet};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("uploads"), .init = init, .servlets = servlets, .servlet_count = 3};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
