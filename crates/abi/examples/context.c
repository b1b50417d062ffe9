/* context.c - what all servlets of a webapp share: parameters, folders, attributes, a pool of threads; and what a
 * library hands over to the next version of itself.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -pthread -I<folder of servlet.h> -o context.so context.c
 *
 * Functions of a context may be called on any thread, from the beginning of init to the return of destroy.
 */
#include "servlet.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sv_host *host;

/* ------------------------------------------------------------------------------------------------ the module's state
   */
/* Made by init, passed to each create, to save and restore, and to destroy. */
typedef struct state {
    pthread_mutex_t lock;
    unsigned visits; /* under the lock */
    sv_context *context;
} state;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)error;
    host = table;
    /* Functions of a later minor of the server are asked for, before they are used. So are extensions, by name. */
    if (!SV_HAS(host, sv_host, context_timer) || host->extension("example.nothing/1") != NULL) return SV_E_UNSUPPORTED;
    state *self = calloc(1, sizeof *self);
    if (self == NULL) return SV_E_NOMEM;
    pthread_mutex_init(&self->lock, NULL);
    self->context = context;
    *module = self;
    if (host->log_enabled(context, SV_LOG_DEBUG) == 1)
        host->log_message(context, NULL, SV_LOG_DEBUG, SV_LIT("the module has been made"));
    return SV_OK;
}

static void destroy(void *module)
{
    state *self = module;
    pthread_mutex_destroy(&self->lock);
    free(self);
}

/* The next generation begins where this one ends. The buffer may be too small (at first it is): *len is what it takes.
   */
static sv_status save(void *module, char *buffer, size_t capacity, size_t *len)
{
    state *self = module;
    char text[16];
    pthread_mutex_lock(&self->lock);
    *len = (size_t)snprintf(text, sizeof text, "%u", self->visits);
    pthread_mutex_unlock(&self->lock);
    if (*len <= capacity) memcpy(buffer, text, *len);
    return SV_OK;
}

/* The bytes may be of an older version of this library: what they are is checked, as anything from outside. */
static sv_status restore(void *module, const char *bytes, size_t len)
{
    state *self = module;
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] < '0' || bytes[i] > '9') return SV_E_ARG; /* refuses this generation; the old one serves on */
        self->visits = self->visits * 10 + (unsigned)(bytes[i] - '0');
    }
    return SV_OK;
}

/* ------------------------------------------------------------------------------------------------ GET /about */
static sv_status create(sv_context *context, void *module, const sv_config *config, void **servlet, sv_str *error)
{
    (void)context;
    (void)config;
    (void)error;
    *servlet = module; /* the servlet is the module's state */
    return SV_OK;
}

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

static sv_status about(void *servlet, sv_exchange *x, void **task)
{
    (void)task;
    state *self = servlet;
    sv_context *context = host->context(x); /* the same as self->context */
    sv_str value;

    sv_status status = host->context_path(context, &value);
    if (status == SV_OK) status = put(x, "path", value);
    if (status == SV_OK) status = host->context_parameter(context, SV_LIT("currency"), &value); /* of web.toml */
    if (status == SV_OK || status == SV_NONE) status = put(x, "currency", value);
    if (status == SV_OK) status = host->context_mime_type(context, SV_LIT("cat.jpg"), &value);
    if (status == SV_OK || status == SV_NONE) status = put(x, "cat.jpg", value);
    if (status == SV_OK) status = host->context_resource(context, SV_LIT("database"), &value); /* of [env] */
    if (status == SV_OK || status == SV_NONE) status = put(x, "database", value);

    const sv_pair *all;
    size_t count;
    if (status == SV_OK) status = host->context_parameters(context, &all, &count);
    for (size_t i = 0; i < count && status == SV_OK; i++) {
        status = host->write(x, SV_LIT("parameter "), NULL);
        if (status == SV_OK) status = host->write(x, all[i].name.ptr, all[i].name.len, NULL);
        if (status == SV_OK) status = put(x, "", all[i].value);
    }
    if (status != SV_OK) return status;

    pthread_mutex_lock(&self->lock);
    const unsigned visits = ++self->visits;
    pthread_mutex_unlock(&self->lock);
    char line[64];
    snprintf(line, sizeof line, "visits: %u\ngeneration: %lu\n", visits,
             (unsigned long)host->context_generation(context));
    return host->write(x, line, strlen(line), NULL);
}

/* ------------------------------------------------------------------------------------------------ GET /notes */
/* A file of the webapp's own: the work folder is kept over reloads and restarts; SV_PATH_TEMP is not, and SV_PATH_ROOT
   is for reading only. */
static sv_status notes(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_str folder;
    sv_status status = host->context_folder(host->context(x), SV_PATH_WORK, &folder);
    if (status != SV_OK) return status;
    char path[4096], bytes[64];
    const int path_len = snprintf(path, sizeof path, "%.*s/notes.txt", (int)folder.len, folder.ptr);
    if (path_len < 0 || path_len >= (int)sizeof path) return SV_E_LIMIT;
    FILE *file = fopen(path, "w+");
    if (file == NULL) {
        host->fail(x, SV_LIT("io/notes"), SV_LIT("notes.txt cannot be written"));
        return SV_E_IO;
    }
    fputs("kept", file);
    rewind(file);
    const size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    return host->write(x, bytes, len, NULL);
}

/* ------------------------------------------------------------------------------------------------ POST /jobs */
/* Runs on a thread of the context's pool, after the answer or before. Attributes of the context are how it tells what
   it did: bytes under a name, shared by all libraries of the webapp. */
static void job(void *argument)
{
    sv_context *context = argument;
    host->context_set_attribute(context, SV_LIT("job"), SV_LIT("done"));
}

static sv_status jobs(void *servlet, sv_exchange *x, void **task)
{
    (void)task;
    state *self = servlet;
    sv_status status = host->context_set_attribute(self->context, SV_LIT("job"), NULL, 0);
    if (status == SV_OK) status = host->context_post(self->context, job, self->context);
    if (status == SV_E_LIMIT) return host->send_error(x, 503, SV_LIT("too many jobs wait")); /* the queue is full */
    return status == SV_OK ? host->set_status(x, 202) : status;
}

/* GET /job: attributes are copied, because other threads may change them. *len is the whole length, also of what did
   not fit. */
static sv_status job_state(void *servlet, sv_exchange *x, void **task)
{
    (void)task;
    state *self = servlet;
    char value[16];
    size_t len;
    const sv_status status = host->context_attribute(self->context, SV_LIT("job"), value, sizeof value, &len);
    if (status == SV_NONE) return host->write(x, SV_LIT("waiting"), NULL);
    if (status != SV_OK || len > sizeof value) return SV_E_FAILED;
    return host->write(x, value, len, NULL);
}

/* ------------------------------------------------------------------------------------------------ GET /fault */
/* A fault of the library that it has caught itself: the log shows where it was, with a backtrace; the client gets 500.
   */
static sv_status fault(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    host->report_panic(host->context(x), SV_LIT("the impossible has happened"), SV_LIT(__FILE__), __LINE__);
    return SV_E_PANIC;
}

/* ------------------------------------------------------------------------------------------------ the module */
#define SERVLET(function, path, method) \
    static const sv_str function##_patterns[] = {SV_STR(path)}; \
    static const sv_servlet function##_servlet = { \
        .struct_size = sizeof(sv_servlet), \
        .methods = method, \
        .name = SV_STR(#function), \
        .patterns = function##_patterns, \
        .pattern_count = 1, \
        .load_order = -1, \
        .create = create, \
        .service = function, \
    }
SERVLET(about, "/about", SV_GET);
SERVLET(notes, "/notes", SV_GET);
SERVLET(jobs, "/jobs", SV_POST);
SERVLET(job_state, "/job", SV_GET);
SERVLET(fault, "/fault", SV_GET);

static const sv_servlet *const servlets[] = {&about_servlet, &notes_servlet, &jobs_servlet, &job_state_servlet,
                                             &fault_servlet};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("context"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .destroy = destroy,
    .save = save,
    .restore = restore,
    .servlets = servlets,
    .servlet_count = sizeof servlets / sizeof servlets[0],
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
