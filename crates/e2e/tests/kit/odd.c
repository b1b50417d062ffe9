/* The edges of the table: what wrong use and rare events answer, as servlet.h says. Each servlet tells what it got. */
#include <servlet.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static const sv_host *host;

/* Text of one answer, put together from the names of statuses. */
typedef struct told_text {
    char text[2048];
    size_t len;
} told_text;

static const char *name_of(sv_status status)
{
    switch (status) {
    case SV_OK: return "OK";
    case SV_PENDING: return "PENDING";
    case SV_WOULD_BLOCK: return "WOULD_BLOCK";
    case SV_END: return "END";
    case SV_NONE: return "NONE";
    case SV_E_ARG: return "ARG";
    case SV_E_STATE: return "STATE";
    case SV_E_THREAD: return "THREAD";
    case SV_E_STALE: return "STALE";
    case SV_E_LIMIT: return "LIMIT";
    case SV_E_CLOSED: return "CLOSED";
    case SV_E_TIMEOUT: return "TIMEOUT";
    case SV_E_CANCELLED: return "CANCELLED";
    case SV_E_UNSUPPORTED: return "UNSUPPORTED";
    default: return "another";
    }
}

static void tell(told_text *told, const char *what, sv_status status)
{
    const int len = snprintf(told->text + told->len, sizeof told->text - told->len, "%s: %s\n", what, name_of(status));
    if (len > 0) told->len += (size_t)len;
}

static sv_status answer(sv_exchange *x, const told_text *told)
{
    const sv_response response = {.struct_size = sizeof response, .status = 200, .body = told->text, .body_len = told->len};
    return host->respond(x, &response);
}

/* ------------------------------------------------------------------------------------------------ arguments and states */
static sv_status states(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    told_text told = {.len = 0};
    sv_str value;
    size_t count;
    sv_session *session;
    tell(&told, "attribute of the server", host->set_attribute(x, SV_LIT("servlet.mine"), SV_LIT("1")));
    tell(&told, "attribute over 1 MiB", host->set_attribute(x, SV_LIT("large"), told.text, (size_t)2 << 20));
    tell(&told, "attribute without a name", host->set_attribute(x, NULL, 3, SV_LIT("1")));
    tell(&told, "attribute to nowhere", host->attribute(x, SV_LIT("a"), NULL));
    tell(&told, "parts", host->part_count(x, &count));
    tell(&told, "complete", host->complete(x, SV_OK));
    tell(&told, "async_dispatch", host->async_dispatch(x, NULL, 0));
    tell(&told, "waker", host->waker(x) == NULL ? SV_NONE : SV_OK);
    tell(&told, "timer without a waker", host->context_timer(host->context(x), 1, NULL));
    tell(&told, "status 99", host->set_status(x, 99));
    tell(&told, "status 600", host->set_status(x, 600));
    tell(&told, "header of the server", host->set_header(x, SV_HEADER_SET, SV_LIT("Connection"), SV_LIT("close")));
    tell(&told, "header with a line", host->set_header(x, SV_HEADER_SET, SV_LIT("x"), SV_LIT("a\r\nb: c")));
    tell(&told, "send_error 200", host->send_error(x, 200, SV_LIT("")));
    tell(&told, "unknown dispatch", host->dispatch(x, 7, SV_LIT("/states")));
    tell(&told, "outside", host->dispatch(x, SV_FORWARD, SV_LIT("/../other")));
    tell(&told, "session", host->session(x, 0, &session));
    tell(&told, "parameter", host->parameter(x, SV_LIT("none"), 0, &value));
    tell(&told, "principal", host->principal(x, &value, &value));
    tell(&told, "role", host->in_role(x, SV_LIT("admin")));
    tell(&told, "logout", host->logout(x) == SV_OK ? SV_OK : SV_OK); /* with and without a realm */
    tell(&told, "respond", answer(x, &told));
    tell(&told, "status after it", host->set_status(x, 201));
    tell(&told, "write after it", host->write(x, SV_LIT("more"), NULL));
    tell(&told, "respond after it", answer(x, &told));
    host->log_message(host->context(x), x, SV_LOG_INFO, told.text, told.len);
    return SV_OK;
}

/* After the commit nothing of the head changes. */
static sv_status committed(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    told_text told = {.len = 0};
    sv_session *session;
    const sv_cookie cookie = {.struct_size = sizeof cookie, .name = SV_STR("a"), .value = SV_STR("b")};
    sv_status status = host->flush(x);
    if (status != SV_OK) return status;
    tell(&told, "set_status", host->set_status(x, 201));
    tell(&told, "set_header", host->set_header(x, SV_HEADER_SET, SV_LIT("a"), SV_LIT("b")));
    tell(&told, "set_cookie", host->set_cookie(x, &cookie));
    tell(&told, "new session", host->session(x, 1, &session));
    tell(&told, "reset", host->reset(x));
    tell(&told, "reset_buffer", host->reset_buffer(x));
    tell(&told, "send_error", host->send_error(x, 404, SV_LIT("")));
    tell(&told, "redirect", host->redirect(x, 0, SV_LIT("a")));
    tell(&told, "forward", host->dispatch(x, SV_FORWARD, SV_LIT("/states")));
    tell(&told, "set_buffer_size", host->set_buffer_size(x, 100));
    tell(&told, "committed", host->committed(x) == 1 ? SV_OK : SV_NONE);
    return host->write(x, told.text, told.len, NULL);
}

/* ------------------------------------------------------------------------------------------------ threads */
typedef struct visit {
    sv_exchange *x;
    sv_status status;
} visit;

static void *visitor(void *argument)
{
    visit *self = argument;
    self->status = host->set_status(self->x, 201);
    return NULL;
}

static sv_status other_thread(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    visit visit = {x, SV_OK};
    pthread_t thread;
    if (pthread_create(&thread, NULL, visitor, &visit) != 0) return SV_E_FAILED;
    pthread_join(thread, NULL);
    told_text told = {.len = 0};
    tell(&told, "another thread", visit.status);
    return answer(x, &told);
}

/* ------------------------------------------------------------------------------------------------ pending */
/* Neither a task nor detached. */
static sv_status nothing(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)x;
    (void)task;
    return SV_PENDING;
}

static sv_status detached_error(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    const sv_status status = host->detach(x, NULL, NULL);
    return status == SV_OK ? SV_E_FAILED : status; /* counts as complete */
}

static sv_status completed_early(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    told_text told = {.len = 0};
    sv_context *context = host->context(x);
    tell(&told, "detach", host->detach(x, NULL, NULL));
    tell(&told, "detach again", host->detach(x, NULL, NULL));
    const sv_status status = answer(x, &told);
    told.len = 0;
    tell(&told, "complete", host->complete(x, status));
    tell(&told, "complete again", host->complete(x, SV_OK));
    host->log_message(context, NULL, SV_LOG_INFO, told.text, told.len);
    return SV_PENDING;
}

/* Nobody completes it in time. What its functions answer then is told in an attribute of the context. */
static void note(void *argument, sv_status why)
{
    sv_context *context = argument;
    if (why == SV_OK) return; /* it only retires */
    host->context_set_attribute(context, SV_LIT("told"), SV_LIT("yes"));
}

static sv_exchange *late;
static sv_context *late_context;

static void complete_late(void *argument)
{
    (void)argument;
    char value[8];
    size_t len;
    /* For as long as nobody is told; the test has a deadline. */
    while (host->context_attribute(late_context, SV_LIT("told"), value, sizeof value, &len) != SV_OK) sched_yield();
    told_text told = {.len = 0};
    sv_str found;
    tell(&told, "parameter", host->parameter(late, SV_LIT("x"), 0, &found));
    tell(&told, "respond", answer(late, &told));
    tell(&told, "flush", host->flush(late));
    tell(&told, "write", host->write(late, SV_LIT("x"), NULL));
    tell(&told, "cancelled", host->cancelled(late) == 1 ? SV_OK : SV_NONE);
    tell(&told, "complete", host->complete(late, SV_OK));
    tell(&told, "complete again", host->complete(late, SV_OK));
    host->context_set_attribute(late_context, SV_LIT("late"), told.text, told.len);
}

static sv_status timed_out(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    late_context = host->context(x);
    late = x;
    const sv_request *request = host->request(x);
    const int short_time = request != NULL && request->query.ptr == NULL;
    sv_status status = host->context_set_attribute(late_context, SV_LIT("told"), NULL, 0);
    if (status == SV_OK) status = host->context_set_attribute(late_context, SV_LIT("late"), NULL, 0);
    if (status == SV_OK) status = host->detach(x, note, late_context);
    if (status == SV_OK) status = host->set_timeout(x, short_time ? 50 : 0);
    if (status == SV_OK) status = host->context_post(late_context, complete_late, NULL);
    return status == SV_OK ? SV_PENDING : status;
}

static sv_status late_told(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    char value[512];
    size_t len;
    const sv_status status = host->context_attribute(host->context(x), SV_LIT("late"), value, sizeof value, &len);
    return status == SV_OK ? host->write(x, value, len, NULL) : host->write(x, SV_LIT("waiting"), NULL);
}

/* A task that nobody wakes, with a time. */
static sv_status forgotten(void *servlet, sv_exchange *x, void **task)
{
    static char something;
    (void)servlet;
    *task = &something;
    const sv_status status = host->set_timeout(x, 50);
    return status == SV_OK ? SV_PENDING : status;
}

static sv_status never(void *task, sv_exchange *x)
{
    (void)task;
    (void)x;
    return SV_PENDING;
}

static void drop(void *task)
{
    (void)task;
}

/* What a task may not do; and it goes to its own path, where the dispatch is another. */
static sv_status in_poll(void *servlet, sv_exchange *x, void **task)
{
    static char something;
    (void)servlet;
    const sv_request *request = host->request(x);
    if (request == NULL) return SV_E_INTERNAL;
    if (request->dispatch == SV_DISPATCH_ASYNC) return host->write(x, SV_LIT("again, by async"), NULL);
    host->waker_wake(host->waker(x), 1);
    *task = &something;
    return SV_PENDING;
}

static sv_status in_poll_poll(void *task, sv_exchange *x)
{
    (void)task;
    told_text told = {.len = 0};
    tell(&told, "detach", host->detach(x, NULL, NULL));
    tell(&told, "complete", host->complete(x, SV_OK));
    tell(&told, "async_dispatch", host->async_dispatch(x, NULL, 0));
    tell(&told, "async_dispatch again", host->async_dispatch(x, NULL, 0));
    host->log_message(host->context(x), x, SV_LOG_INFO, told.text, told.len);
    return SV_OK;
}

/* ------------------------------------------------------------------------------------------------ the filter */
static sv_status filter_request(void *filter, sv_exchange *x, void **state)
{
    (void)filter;
    (void)state;
    sv_str way;
    if (host->header(x, SV_LIT("x-way"), &way) != SV_OK) return SV_NEXT;
    told_text told = {.len = 0};
    tell(&told, "detach", host->detach(x, NULL, NULL));
    tell(&told, "waker", host->waker(x) == NULL ? SV_NONE : SV_OK);
    switch (way.len > 0 ? way.ptr[0] : ' ') {
    case 'o': return SV_OK;      /* answered, with nothing */
    case 'p': return SV_PENDING; /* not allowed */
    case 'e': return SV_E_FAILED;
    default: return answer(x, &told);
    }
}

static const sv_str filter_patterns[] = {SV_STR("/filtered")};
static const sv_filter filter = {.struct_size = sizeof(sv_filter), .name = SV_STR("odd"), .patterns = filter_patterns,
                                 .pattern_count = 1, .on_request = filter_request};

/* ------------------------------------------------------------------------------------------------ the module */
#define SERVLET(function, path, poll_, drop_) \
    static const sv_str function##_patterns[] = {SV_STR(path)}; \
    static const sv_servlet function##_servlet = {.struct_size = sizeof(sv_servlet), .name = SV_STR(#function), \
                                                  .patterns = function##_patterns, .pattern_count = 1, \
                                                  .load_order = -1, .service = function, .poll = poll_, .drop = drop_}
SERVLET(states, "/states", NULL, NULL);
SERVLET(committed, "/committed", NULL, NULL);
SERVLET(other_thread, "/other-thread", NULL, NULL);
SERVLET(nothing, "/nothing", NULL, NULL);
SERVLET(detached_error, "/detached-error", NULL, NULL);
SERVLET(completed_early, "/completed-early", NULL, NULL);
SERVLET(timed_out, "/timed-out", NULL, NULL);
SERVLET(late_told, "/late", NULL, NULL);
SERVLET(forgotten, "/forgotten", never, drop);
SERVLET(in_poll, "/in-poll", in_poll_poll, drop);

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    (void)error;
    host = table;
    return SV_OK;
}

static const sv_servlet *const servlets[] = {
    &states_servlet, &committed_servlet, &other_thread_servlet, &nothing_servlet, &detached_error_servlet,
    &completed_early_servlet, &timed_out_servlet, &late_told_servlet, &forgotten_servlet, &in_poll_servlet,
};
static const sv_filter *const filters[] = {&filter};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("odd"),
    .init = init,
    .servlets = servlets,
    .servlet_count = sizeof servlets / sizeof servlets[0],
    .filters = filters,
    .filter_count = 1,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
