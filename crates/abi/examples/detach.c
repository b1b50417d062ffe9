/* detach.c - an exchange that leaves service and is answered by a thread of the library.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -pthread -I<folder of servlet.h> -o detach.so detach.c
 *
 * For libraries that have threads of their own, such as a queue of jobs or a client of a database. Each function may
 * wait here. The rule of it: complete is owed, once, whatever happens.
 */
#include "servlet.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const sv_host *host;

/* ------------------------------------------------------------------------------------------------ a queue, a thread */
typedef struct job {
    struct job *next;
    sv_exchange *exchange;
    int is_over; /* under the lock */
} job;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static job *first;
static int ending;
static pthread_t worker;

/* It is over: the client has gone, the time is up, or the server has no more time for it. Called on any thread, so it
 * only leaves a note: it must not block, and calls no function for the exchange. It never comes after complete has
 * returned, so the job is still there. A job that takes long looks at the note from time to time; one that waits would
 * be woken here. */
static void told(void *argument, sv_status why)
{
    job *self = argument;
    /* A newer generation is no reason to stop: the client waits for this one's answer. */
    if (why == SV_OK) return;
    pthread_mutex_lock(&lock);
    self->is_over = 1;
    pthread_mutex_unlock(&lock);
}

static sv_status answer(job *self)
{
    pthread_mutex_lock(&lock);
    const int is_over = self->is_over;
    pthread_mutex_unlock(&lock);
    if (is_over) return SV_E_CANCELLED;
    const sv_request *request = host->request(self->exchange);
    if (request == NULL) return SV_E_FAILED;
    sv_status status = host->set_content_type(self->exchange, SV_LIT("text/plain"));
    if (status == SV_OK) status = host->write(self->exchange, SV_LIT("from another thread: "), NULL);
    if (status == SV_OK) status = host->write(self->exchange, request->request_uri.ptr, request->request_uri.len, NULL);
    return status;
}

static void *run(void *argument)
{
    (void)argument;
    pthread_mutex_lock(&lock);
    for (;;) {
        job *self = first;
        if (self == NULL) {
            if (ending) break;
            pthread_cond_wait(&changed, &lock);
            continue;
        }
        first = self->next;
        pthread_mutex_unlock(&lock);
        /* An error is answered as one of service. After complete the handle has ended, and all that it returned. */
        const sv_status status = answer(self);
        host->complete(self->exchange, status);
        free(self);
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------ GET /jobs/... */
static sv_status service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task; /* stays NULL: there is nothing to poll */
    job *self = calloc(1, sizeof *self);
    if (self == NULL) return SV_E_NOMEM;
    self->exchange = x;
    sv_status status = host->set_timeout(x, 10000);
    if (status == SV_OK) status = host->detach(x, told, self);
    if (status != SV_OK) {
        free(self);
        return status;
    }
    /* From here on the exchange belongs to no thread: whoever has the job goes on, even before we return. */
    pthread_mutex_lock(&lock);
    self->next = first;
    first = self;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    return SV_PENDING;
}

/* ------------------------------------------------------------------------------------------------ the module */
static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    host = table;
    if (pthread_create(&worker, NULL, run, NULL) != 0) {
        const sv_str text = SV_STR("the system has no thread for the queue");
        *error = text;
        return SV_E_FAILED;
    }
    return SV_OK;
}

/* Comes when each exchange of this generation is complete, so the queue is empty. */
static void destroy(void *module)
{
    (void)module;
    pthread_mutex_lock(&lock);
    ending = 1;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(worker, NULL);
}

static const sv_str patterns[] = {SV_STR("/jobs/*")};
static const sv_servlet servlet = {
    .struct_size = sizeof(sv_servlet),
    .flags = SV_NONBLOCKING,
    .methods = SV_GET,
    .name = SV_STR("jobs"),
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
    .name = SV_STR("detach"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .destroy = destroy,
    .servlets = servlets,
    .servlet_count = 1,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
