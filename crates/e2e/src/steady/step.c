/* A servlet that answers its version, which is in the file as `version 0000` and may be changed there. At each step of its life it waits
 * for as long as there is a file `hold-STEP` in its work folder, and says so by a file `at-STEP`. Queries ask for what else a test needs. */
#define _GNU_SOURCE
#include <servlet.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const sv_host *host;
static char work[4000];
static const char version[] = "version 0000";

static void reach(const char *step) {
    char path[4100];
    snprintf(path, sizeof path, "%s/hold-%s", work, step);
    if (work[0] == 0 || access(path, F_OK) != 0) {
        return;
    }
    snprintf(path, sizeof path, "%s/at-%s", work, step);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    snprintf(path, sizeof path, "%s/hold-%s", work, step);
    while (access(path, F_OK) == 0) {
        usleep(5000);
    }
}

/* Nothing is known yet but where it lies: in run/generations/HOST/CONTEXT/NUMBER/, and its work folder is work/HOST/CONTEXT. */
__attribute__((constructor)) static void load(void) {
    static const char copies[] = "/run/generations/";
    Dl_info info;
    char *at = dladdr(version, &info) != 0 ? strstr(info.dli_fname, copies) : NULL;
    if (at == NULL) {
        return;
    }
    snprintf(work, sizeof work, "%.*s/work/%s", (int)(at - info.dli_fname), info.dli_fname, at + sizeof copies - 1);
    *strrchr(work, '/') = 0;
    *strrchr(work, '/') = 0;
    reach("load");
}

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    sv_str folder;
    (void)error;
    *module = NULL;
    host = table;
    if (host->context_folder(context, SV_PATH_WORK, &folder) != SV_OK) {
        return SV_E_FAILED;
    }
    snprintf(work, sizeof work, "%.*s", (int)folder.len, folder.ptr);
    reach("init");
    return SV_OK;
}

static void destroy(void *module) {
    (void)module;
    reach("destroy");
}

__attribute__((destructor)) static void unload(void) {
    reach("unload");
}

static int is(sv_exchange *exchange, const char *what) {
    sv_str query = host->request(exchange)->query;
    return query.ptr != NULL && query.len == strlen(what) && memcmp(query.ptr, what, query.len) == 0;
}

/* The visits of a session; `short`: one that ends after a second. */
static sv_status visit(sv_exchange *exchange) {
    char line[64];
    sv_session *session;
    sv_str value;
    int visits = 0;
    sv_status status = host->session(exchange, 1, &session);
    if (status != SV_OK) {
        return status;
    }
    if (is(exchange, "short")) {
        host->session_set_max_inactive(session, 1);
    }
    if (host->session_attribute(session, SV_LIT("visits"), &value) == SV_OK) {
        memcpy(&visits, value.ptr, sizeof visits);
    }
    visits++;
    host->session_set_attribute(session, SV_LIT("visits"), (const char *)&visits, sizeof visits);
    snprintf(line, sizeof line, "%d", visits);
    return host->write(exchange, line, strlen(line), NULL);
}

static sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    if (is(exchange, "visit") || is(exchange, "short")) {
        return visit(exchange);
    }
    if (is(exchange, "never")) {
        *task = (void *)version;
        return SV_PENDING;
    }
    if (is(exchange, "parts")) {
        size_t count;
        sv_status status = host->part_count(exchange, &count);
        return status != SV_OK ? status : host->write(exchange, SV_LIT("parts"), NULL);
    }
    if (is(exchange, "clock")) {
        char line[64];
        snprintf(line, sizeof line, "%lld", (long long)time(NULL));
        return host->write(exchange, line, strlen(line), NULL);
    }
    if (is(exchange, "drain")) {
        reach("drain");
    }
    return host->write(exchange, version, sizeof version - 1, NULL);
}

/* It waits for what never comes. */
static sv_status wait_on(void *task, sv_exchange *exchange) {
    (void)task;
    (void)exchange;
    return SV_PENDING;
}

static sv_status check(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    reach("check");
    return host->write(exchange, SV_LIT("well"), NULL);
}

static const sv_str step_patterns[] = {SV_STR("/step")};
static const sv_str check_patterns[] = {SV_STR("/check")};
static const sv_servlet step = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING | SV_MULTIPART, .name = SV_STR("step"),
    .patterns = step_patterns, .pattern_count = 1, .service = service, .poll = wait_on};
static const sv_servlet checked = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING, .name = SV_STR("checked"),
    .patterns = check_patterns, .pattern_count = 1, .service = check};
static const sv_servlet *const servlets[] = {&step, &checked};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("step"), .init = init, .destroy = destroy, .servlets = servlets,
    .servlet_count = 2};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
