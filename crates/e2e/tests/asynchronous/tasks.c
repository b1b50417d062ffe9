/* Servlets that go on after service has returned: tasks that are polled, and detached exchanges that threads complete. */
#include <servlet.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const sv_host *host;
static int begun;     /* tasks that were made */
static int dropped;   /* tasks that were dropped */
static int polls;     /* of `restless` */
static int told;      /* detached exchanges that were told */
static int threads;   /* of ours that run */
static int step;      /* what `step` has said last */
static int held;      /* workers that `hold` keeps */
static int kept;      /* tasks of `keeps` that came to their end */
static int completed; /* detached exchanges that a thread has completed */

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static void destroy(void *module) {
    (void)module;
    while (__atomic_load_n(&threads, __ATOMIC_SEQ_CST) > 0) {
        usleep(1000);
    }
}

static long number(sv_exchange *exchange, const char *name, long otherwise) {
    char digits[32];
    sv_str value;
    if (host->parameter(exchange, name, strlen(name), 0, &value) != SV_OK || value.len >= sizeof digits) {
        return otherwise;
    }
    memcpy(digits, value.ptr, value.len);
    digits[value.len] = 0;
    return atol(digits);
}

struct task {
    long count, milliseconds, done;
    unsigned long length;
    char line[64];
    size_t line_len, line_sent;
    int waits;
};

static sv_status begin(sv_exchange *exchange, void **out) {
    struct task *task = calloc(1, sizeof *task);
    if (task == NULL) {
        return SV_E_NOMEM;
    }
    task->count = number(exchange, "n", 1);
    task->milliseconds = number(exchange, "ms", 0);
    *out = task;
    __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
    return SV_PENDING;
}

static sv_status make(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    return begin(exchange, task);
}

/* Looks at nothing: a parameter of a form would be waited for here. */
static sv_status make_blind(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)exchange;
    *task = calloc(1, sizeof(struct task));
    __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
    return *task == NULL ? SV_E_NOMEM : SV_PENDING;
}

static void drop(void *task) {
    free(task);
    __atomic_add_fetch(&dropped, 1, __ATOMIC_SEQ_CST);
}

static sv_status sleep_for(sv_exchange *exchange, long milliseconds) {
    return host->context_timer(host->context(exchange), (uint64_t)milliseconds, host->waker(exchange));
}

/* Writes `n` lines, `ms` apart, each one flushed. */
static sv_status tick(void *task, sv_exchange *exchange) {
    struct task *this = task;
    for (;;) {
        sv_status status;
        if (this->line_sent < this->line_len) {
            size_t taken;
            status = host->write(exchange, this->line + this->line_sent, this->line_len - this->line_sent, &taken);
            if (status == SV_WOULD_BLOCK) {
                return SV_PENDING;
            }
            if (status != SV_OK) {
                return status;
            }
            this->line_sent += taken;
            continue;
        }
        if (this->line_len != 0) {
            status = host->flush(exchange);
            if (status == SV_WOULD_BLOCK) {
                return SV_PENDING;
            }
            if (status != SV_OK) {
                return status;
            }
            this->line_len = 0;
            if (this->done == this->count) {
                return SV_OK;
            }
            this->waits = 1;
            return sleep_for(exchange, this->milliseconds) == SV_OK ? SV_PENDING : SV_E_FAILED;
        }
        this->done++;
        this->line_len = (size_t)sprintf(this->line, "tick %ld\n", this->done);
        this->line_sent = 0;
    }
}

/* Writes for ever, until the client has gone. */
static sv_status flood(void *task, sv_exchange *exchange) {
    static const char piece[16384];
    size_t taken;
    sv_status status;
    (void)task;
    do {
        status = host->write(exchange, piece, sizeof piece, &taken);
    } while (status == SV_OK);
    return status == SV_WOULD_BLOCK ? SV_PENDING : status;
}

/* Waits for nothing; sends its head when `n` is 2. */
static sv_status forever(void *task, sv_exchange *exchange) {
    struct task *this = task;
    if (this->count == 2 && !this->waits) {
        this->waits = 1;
        if (host->flush(exchange) < 0) {
            return SV_E_FAILED;
        }
    }
    return SV_PENDING;
}

/* Ends when its generation retires. */
static sv_status until_retired(void *task, sv_exchange *exchange) {
    struct task *this = task;
    if (!this->waits) {
        this->waits = 1;
        host->set_timeout(exchange, 0);
        host->write(exchange, SV_LIT("open\n"), NULL);
        host->flush(exchange);
    }
    if (host->retiring(exchange) != 1) {
        return SV_PENDING;
    }
    return host->write(exchange, SV_LIT("closed\n"), NULL);
}

/* Answers the length of the request's body. */
static sv_status length(void *task, sv_exchange *exchange) {
    struct task *this = task;
    char line[32];
    sv_str chunk;
    sv_status status;
    while ((status = host->read_chunk(exchange, &chunk)) == SV_OK) {
        this->length += chunk.len;
    }
    if (status == SV_WOULD_BLOCK) {
        return SV_PENDING;
    }
    if (status != SV_END) {
        return status;
    }
    sprintf(line, "%lu", this->length);
    return host->write(exchange, line, strlen(line), NULL);
}

/* Answers the parameter `name`, of a form that may come late. */
static sv_status form(void *task, sv_exchange *exchange) {
    sv_str value;
    sv_status status = host->parameter(exchange, SV_LIT("name"), 0, &value);
    (void)task;
    if (status == SV_WOULD_BLOCK) {
        return SV_PENDING;
    }
    return status == SV_OK ? host->write(exchange, value.ptr, value.len, NULL) : status;
}

/* Wakes itself `n` times before it answers. */
static sv_status spin(void *task, sv_exchange *exchange) {
    struct task *this = task;
    if (this->done++ < this->count) {
        host->waker_wake(host->waker(exchange), 1);
        return SV_PENDING;
    }
    return host->write(exchange, SV_LIT("spun"), NULL);
}

/* Gives itself more time whenever it is polled. */
static sv_status restless(void *task, sv_exchange *exchange) {
    (void)task;
    __atomic_add_fetch(&polls, 1, __ATOMIC_SEQ_CST);
    return host->set_timeout(exchange, 300) == SV_OK ? SV_PENDING : SV_E_FAILED;
}

/* A task of another servlet, inside of this one. */
static sv_status nested(void *servlet, sv_exchange *exchange, void **task) {
    sv_str target;
    (void)servlet;
    (void)task;
    if (host->parameter(exchange, SV_LIT("to"), 0, &target) != SV_OK) {
        return SV_E_ARG;
    }
    return host->dispatch(exchange, SV_INCLUDE, target.ptr, target.len);
}

/* Lets another servlet go on. */
static sv_status again(void *task, sv_exchange *exchange) {
    sv_str target;
    sv_status status = host->parameter(exchange, SV_LIT("to"), 0, &target);
    (void)task;
    if (status == SV_OK) {
        status = host->async_dispatch(exchange, target.ptr, target.len);
    }
    return status == SV_OK ? SV_PENDING : status;
}

/* Goes on with itself, `n` times, and answers how many parameters of this name there are then. */
static sv_status round_trip(void *task, sv_exchange *exchange) {
    char text[32];
    sv_str value;
    size_t count = 0;
    long left = number(exchange, "n", 0);
    (void)task;
    if (left > 0) {
        sprintf(text, "/round_trip?n=%ld", left - 1);
        return host->async_dispatch(exchange, text, strlen(text)) == SV_OK ? SV_PENDING : SV_E_FAILED;
    }
    while (host->parameter(exchange, SV_LIT("n"), count, &value) == SV_OK) {
        count++;
    }
    sprintf(text, "%d", (int)count);
    return host->write(exchange, text, strlen(text), NULL);
}

static void *wake_late(void *waker) {
    int i;
    for (i = 0; i < 10000; i++) {
        host->waker_wake(waker, 0);
    }
    host->waker_drop(waker);
    __atomic_sub_fetch(&threads, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static int in_thread(void *(*run)(void *), void *arg) {
    pthread_t thread;
    __atomic_add_fetch(&threads, 1, __ATOMIC_SEQ_CST);
    if (pthread_create(&thread, NULL, run, arg) != 0) {
        __atomic_sub_fetch(&threads, 1, __ATOMIC_SEQ_CST);
        return 0;
    }
    pthread_detach(thread);
    return 1;
}

/* Answers at once, and is woken 10,000 times by a thread, most of them after its end. */
static sv_status wakes(void *task, sv_exchange *exchange) {
    (void)task;
    return in_thread(wake_late, host->waker(exchange)) ? host->write(exchange, SV_LIT("woken"), NULL) : SV_E_FAILED;
}

struct detached {
    sv_exchange *exchange;
    long milliseconds;
    int told, includes, goes_on;
};

static void tell(void *arg, sv_status why) {
    struct detached *this = arg;
    (void)why;
    /* Counted first: then its thread completes it. */
    __atomic_add_fetch(&told, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&this->told, 1, __ATOMIC_SEQ_CST);
}

static void wait_for_step(int number) {
    while (__atomic_load_n(&step, __ATOMIC_SEQ_CST) < number) {
        usleep(1000);
    }
}

static sv_status next_step(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    __atomic_store_n(&step, (int)number(exchange, "n", 1), __ATOMIC_SEQ_CST);
    return SV_OK;
}

/* Keeps its thread until the second step. */
static sv_status hold(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)exchange;
    (void)task;
    __atomic_add_fetch(&held, 1, __ATOMIC_SEQ_CST);
    wait_for_step(2);
    return SV_OK;
}

/* Ends at the first step, whether its client is there or not. */
static sv_status keeps(void *task, sv_exchange *exchange) {
    (void)task;
    if (__atomic_load_n(&step, __ATOMIC_SEQ_CST) < 1) {
        return sleep_for(exchange, 10) == SV_OK ? SV_PENDING : SV_E_FAILED;
    }
    __atomic_add_fetch(&kept, 1, __ATOMIC_SEQ_CST);
    return SV_OK;
}

static void *complete_later(void *arg) {
    struct detached *this = arg;
    sv_status status;
    if (this->milliseconds >= 0) {
        usleep((useconds_t)this->milliseconds * 1000);
    } else if (this->milliseconds == -2) {
        wait_for_step(1);
    } else {
        while (!__atomic_load_n(&this->told, __ATOMIC_SEQ_CST)) {
            usleep(1000);
        }
    }
    if (this->goes_on && (status = host->async_dispatch(this->exchange, SV_LIT("/tick?n=1"))) == SV_OK) {
        free(this);
        __atomic_sub_fetch(&threads, 1, __ATOMIC_SEQ_CST);
        return NULL;
    }
    status = this->goes_on    ? status
             : this->includes ? host->dispatch(this->exchange, SV_INCLUDE, SV_LIT("/tick?n=2&ms=10"))
                            : host->write(this->exchange, SV_LIT("from a thread"), NULL);
    if (host->complete(this->exchange, status) == SV_OK) {
        __atomic_add_fetch(&completed, 1, __ATOMIC_SEQ_CST);
    }
    free(this);
    __atomic_sub_fetch(&threads, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Writes more than anybody keeps for a client, before its service has returned. */
static void *write_early(void *arg) {
    static const char bytes[1 << 20];
    struct detached *this = arg;
    sv_status status;
    status = host->write(this->exchange, bytes, sizeof bytes, NULL);
    host->complete(this->exchange, status);
    free(this);
    __atomic_sub_fetch(&threads, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static sv_status early(void *servlet, sv_exchange *exchange, void **task) {
    struct detached *this = calloc(1, sizeof *this);
    sv_status status;
    (void)servlet;
    (void)task;
    if (this == NULL) {
        return SV_E_NOMEM;
    }
    this->exchange = exchange;
    if ((status = host->detach(exchange, NULL, NULL)) != SV_OK || !in_thread(write_early, this)) {
        free(this);
        return SV_E_FAILED;
    }
    /* By then the thread is inside of write, or waits for this to return; both end well. */
    usleep(30000);
    return SV_PENDING;
}

/* A thread answers `ms` later; -1: when it is told; -2: at the first step. With `n` 0 service itself completes it. */
static sv_status detach(void *servlet, sv_exchange *exchange, void **task) {
    struct detached *this = calloc(1, sizeof *this);
    sv_status status;
    (void)servlet;
    (void)task;
    if (this == NULL) {
        return SV_E_NOMEM;
    }
    this->exchange = exchange;
    this->milliseconds = number(exchange, "ms", 0);
    this->includes = number(exchange, "n", 1) == 3;
    this->goes_on = number(exchange, "n", 1) == 4;
    if (number(exchange, "timeout", -1) >= 0) {
        host->set_timeout(exchange, (uint64_t)number(exchange, "timeout", 0));
    }
    if (number(exchange, "n", 1) == 0) {
        free(this);
        if ((status = host->detach(exchange, NULL, NULL)) != SV_OK) {
            return status;
        }
        host->write(exchange, SV_LIT("from service"), NULL);
        host->complete(exchange, SV_OK);
        return SV_PENDING;
    }
    if ((status = host->detach(exchange, tell, this)) != SV_OK) {
        return status;
    }
    return in_thread(complete_later, this) ? SV_PENDING : SV_E_FAILED;
}

static sv_status counts(void *servlet, sv_exchange *exchange, void **task) {
    char line[128];
    (void)servlet;
    (void)task;
    sprintf(line, "begun %d, dropped %d, kept %d, told %d, held %d, completed %d, polls %d",
            __atomic_load_n(&begun, __ATOMIC_SEQ_CST), __atomic_load_n(&dropped, __ATOMIC_SEQ_CST), __atomic_load_n(&kept, __ATOMIC_SEQ_CST),
            __atomic_load_n(&told, __ATOMIC_SEQ_CST), __atomic_load_n(&held, __ATOMIC_SEQ_CST),
            __atomic_load_n(&completed, __ATOMIC_SEQ_CST), __atomic_load_n(&polls, __ATOMIC_SEQ_CST));
    return host->write(exchange, line, strlen(line), NULL);
}

#define TASK(id, begins) KEPT_TASK(id, begins, 0)
#define KEPT_TASK(id, begins, keep)                                                                                    \
    static const sv_str id##_patterns[] = {SV_STR("/" #id)};                                                           \
    static const sv_servlet id##_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING | keep,         \
        .name = SV_STR(#id), .patterns = id##_patterns, .pattern_count = 1, .service = begins, .poll = id, .drop = drop};
#define PLAIN(id, promise)                                                                                             \
    static const sv_str id##_patterns[] = {SV_STR("/" #id)};                                                           \
    static const sv_servlet id##_servlet = {.struct_size = sizeof(sv_servlet), .flags = promise,                       \
        .name = SV_STR(#id), .patterns = id##_patterns, .pattern_count = 1, .service = id};

TASK(tick, make)
TASK(flood, make)
TASK(forever, make)
TASK(until_retired, make)
TASK(length, make_blind)
TASK(form, make_blind)
TASK(spin, make)
TASK(wakes, make)
TASK(restless, make)
TASK(again, make)
TASK(round_trip, make)
KEPT_TASK(keeps, make, SV_KEEP)
PLAIN(nested, SV_NONBLOCKING)
PLAIN(detach, SV_NONBLOCKING)
PLAIN(next_step, SV_NONBLOCKING)
PLAIN(hold, SV_BLOCKING)
PLAIN(early, SV_NONBLOCKING)
PLAIN(counts, SV_NONBLOCKING)

static const sv_servlet *const servlets[] = {&tick_servlet, &flood_servlet, &forever_servlet, &until_retired_servlet,
    &length_servlet, &form_servlet, &spin_servlet, &wakes_servlet, &restless_servlet, &again_servlet,
    &nested_servlet, &detach_servlet, &early_servlet, &counts_servlet,
    &next_step_servlet, &hold_servlet, &round_trip_servlet, &keeps_servlet};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("tasks"), .init = init, .destroy = destroy, .servlets = servlets,
    .servlet_count = sizeof servlets / sizeof servlets[0]};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
