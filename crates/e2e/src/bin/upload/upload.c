/* Two ways to take an upload, which answer how many bytes came, and a sum over them in their order. */
#include <servlet.h>

#include <stdint.h>
#include <stdio.h>

static const sv_host *host;

struct seen {
    uint64_t bytes, sum;
};

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static void look(struct seen *seen, const char *bytes, size_t len) {
    uint64_t sum = seen->sum;
    size_t i;
    for (i = 0; i < len; i++) {
        sum = (sum ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    }
    seen->sum = sum;
    seen->bytes += len;
}

static sv_status say(sv_exchange *exchange, const struct seen *seen) {
    char text[80];
    int len = snprintf(text, sizeof text, "%llu %016llx", (unsigned long long)seen->bytes, (unsigned long long)seen->sum);
    return host->write(exchange, text, (size_t)len, NULL);
}

static sv_status raw(void *servlet, sv_exchange *exchange, void **task) {
    struct seen seen = {0, 0xcbf29ce484222325u};
    sv_str chunk;
    sv_status status;
    (void)servlet;
    (void)task;
    while ((status = host->read_chunk(exchange, &chunk)) == SV_OK) {
        look(&seen, chunk.ptr, chunk.len);
    }
    return status == SV_END ? say(exchange, &seen) : status;
}

static sv_status parts(void *servlet, sv_exchange *exchange, void **task) {
    static char bytes[65536];
    struct seen seen = {0, 0xcbf29ce484222325u};
    char path[1000];
    const sv_part *part;
    FILE *file;
    size_t count, len;
    sv_status status = host->part_count(exchange, &count);
    (void)servlet;
    (void)task;
    if (status != SV_OK || (status = host->part(exchange, 0, &part)) != SV_OK) {
        return status;
    }
    if (part->path.ptr == NULL) {
        look(&seen, part->data.ptr, part->data.len);
        return say(exchange, &seen);
    }
    snprintf(path, sizeof path, "%.*s", (int)part->path.len, part->path.ptr);
    if ((file = fopen(path, "rb")) == NULL) {
        return SV_E_IO;
    }
    while ((len = fread(bytes, 1, sizeof bytes, file)) > 0) {
        look(&seen, bytes, len);
    }
    fclose(file);
    return say(exchange, &seen);
}

static const sv_str raw_patterns[] = {SV_STR("/raw")};
static const sv_str parts_patterns[] = {SV_STR("/parts")};
static const sv_servlet raw_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING, .name = SV_STR("raw"),
    .patterns = raw_patterns, .pattern_count = 1, .service = raw};
static const sv_servlet parts_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING | SV_MULTIPART,
    .name = SV_STR("parts"), .patterns = parts_patterns, .pattern_count = 1, .service = parts};
static const sv_servlet *const servlets[] = {&raw_servlet, &parts_servlet};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("upload"), .init = init, .servlets = servlets, .servlet_count = 2};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
