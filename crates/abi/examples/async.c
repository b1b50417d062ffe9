/* async.c - answers that take time and no thread: tasks, wakers and timers.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -pthread -I<folder of servlet.h> -o async.so async.c
 *
 * service returns SV_PENDING and leaves a task. The server polls it, on any of its threads, whenever a waker of the
 * exchange was fired, until it returns something else; then, or when the client has gone, it drops it.
 */
#include "servlet.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sv_host *host;

/* ------------------------------------------------------------------------------------------------ GET /ticks */
/* Three lines, one each 20 ms. The task has a waker of its own; each timer consumes a clone of it. */
typedef struct ticks {
    sv_waker *waker;
    char line[16];
    size_t len, written; /* of line */
    unsigned count;
} ticks;

static void ticks_drop(void *task)
{
    ticks *self = task;
    host->waker_drop(self->waker); /* each waker is given back once: to wake, a timer, or here */
    free(self);
}

static sv_status ticks_service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    sv_status status = host->set_content_type(x, SV_LIT("text/plain"));
    if (status == SV_OK) status = host->set_timeout(x, 5000); /* of all that comes after service; then the answer is cut
    */
    if (status != SV_OK) return status;
    ticks *self = calloc(1, sizeof *self);
    if (self == NULL) return SV_E_NOMEM;
    self->waker = host->waker(x);
    *task = self;
    /* A wake before service has returned is not lost: the first poll comes at once. */
    host->waker_wake(self->waker, 0);
    return SV_PENDING;
}

/* Never blocks. What would have to wait answers SV_WOULD_BLOCK; we return SV_PENDING and are polled when it is worth
   trying, so all that we know has to be in the task. */
static sv_status ticks_poll(void *task, sv_exchange *x)
{
    ticks *self = task;
    while (self->written < self->len) { /* the rest of a line; of a slow client's buffer there may be room for a part */
        size_t taken;
        const sv_status status = host->write(x, self->line + self->written, self->len - self->written, &taken);
        if (status == SV_WOULD_BLOCK) return SV_PENDING;
        if (status != SV_OK) return status;
        self->written += taken;
    }
    if (self->len > 0) {
        const sv_status status = host->flush(x);
        if (status == SV_WOULD_BLOCK) return SV_PENDING;
        if (status != SV_OK) return status;
        self->len = self->written = 0;
        if (self->count == 3) return SV_OK;
        return host->context_timer(host->context(x), 20, host->waker_clone(self->waker)) == SV_OK ? SV_PENDING
                                                                                               : SV_E_FAILED;
    }
    /* An endless stream ends when nobody listens, or when a newer version of this library has taken over. */
    if (host->cancelled(x) == 1 || host->retiring(x) == 1) return SV_OK;
    self->count++;
    self->len = (size_t)snprintf(self->line, sizeof self->line, "tick %u\n", self->count);
    host->waker_wake(self->waker, 0); /* polls us again, without a loop that keeps the thread */
    return SV_PENDING;
}

/* ------------------------------------------------------------------------------------------------ GET /answer */
/* The answer is computed on a thread of our own, one after the other. The client may go away meanwhile, so the thread
   and the task share the work, and the last of the two frees it. */
typedef struct work {
    struct work *next;
    int owners, done, answer; /* under the lock */
    sv_waker *waker;
} work;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static work *first;
static int ending;
static pthread_t worker;

static void work_release(work *self)
{
    pthread_mutex_lock(&lock);
    const int left = --self->owners;
    pthread_mutex_unlock(&lock);
    if (left == 0) free(self);
}

static void *run(void *argument)
{
    (void)argument;
    pthread_mutex_lock(&lock);
    while (!ending) {
        work *self = first;
        if (self == NULL) {
            pthread_cond_wait(&changed, &lock);
            continue;
        }
        first = self->next;
        pthread_mutex_unlock(&lock);
        const int answer = 6 * 7;
        pthread_mutex_lock(&lock);
        self->answer = answer;
        self->done = 1;
        pthread_mutex_unlock(&lock);
        host->waker_wake(self->waker, 1); /* 1: gives it back as well. Nothing happens if the exchange has ended */
        work_release(self);
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static sv_status answer_service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    work *self = calloc(1, sizeof *self);
    if (self == NULL) return SV_E_NOMEM;
    self->owners = 2;
    self->waker = host->waker(x);
    pthread_mutex_lock(&lock);
    self->next = first;
    first = self;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    *task = self;
    return SV_PENDING;
}

static sv_status answer_poll(void *task, sv_exchange *x)
{
    work *self = task;
    pthread_mutex_lock(&lock);
    const int done = self->done, answer = self->answer;
    pthread_mutex_unlock(&lock);
    if (!done) return SV_PENDING; /* polls for nothing are allowed */
    char text[16];
    const int len = snprintf(text, sizeof text, "%d", answer);
    const sv_status status = host->write(x, text, (size_t)len, NULL);
    return status == SV_WOULD_BLOCK ? SV_PENDING : status;
}

static void answer_drop(void *task)
{
    work_release(task);
}

/* ------------------------------------------------------------------------------------------------ the module */

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    host = table;
    if (pthread_create(&worker, NULL, run, NULL) != 0) {
        const sv_str text = SV_STR("the system has no thread for the answers");
        *error = text;
        return SV_E_FAILED;
    }
    return SV_OK;
}

/* After it this library is unloaded: a thread has to have ended, not only to be about to end. */
static void destroy(void *module)
{
    (void)module;
    pthread_mutex_lock(&lock);
    ending = 1;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(worker, NULL);
    while (first != NULL) { /* work whose client has gone before it was begun */
        work *self = first;
        first = self->next;
        host->waker_drop(self->waker);
        free(self);
    }
}

#define SERVLET(name_, path) \
    static const sv_str name_##_patterns[] = {SV_STR(path)}; \
    static const sv_servlet name_##_servlet = { \
        .struct_size = sizeof(sv_servlet), \
        .flags = SV_NONBLOCKING, \
        .methods = SV_GET, \
        .name = SV_STR(#name_), \
        .patterns = name_##_patterns, \
        .pattern_count = 1, \
        .load_order = -1, \
        .service = name_##_service, \
        .poll = name_##_poll, \
        .drop = name_##_drop, \
    }
SERVLET(ticks, "/ticks");
SERVLET(answer, "/answer");

static const sv_servlet *const servlets[] = {&ticks_servlet, &answer_servlet};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("async"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .destroy = destroy,
    .servlets = servlets,
    .servlet_count = 2,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
